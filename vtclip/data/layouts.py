"""Images, labels, class names and splits of a dataset, by its layout."""

import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.config.dataset import Fractions
from vtclip.data.folders import Row, list_images
from vtclip.data.label_table import read_table
from vtclip.data.walk import SPLITS, UNSPLIT, ManifestError, read_tree
from vtclip.parquet import read_metadata_key, read_parquet
from vtclip.wording import did_you_mean, quote, show_difference

IDENTITIES = b"identities"  # key of a manifest's metadata: what each class is, by label, as JSON
SCHEMA = pl.Schema(
    {"image": pl.String, "label": pl.Int32, "class_name": pl.String, "split": pl.String}
)


def read_coop_split(path: str | Path) -> pl.DataFrame:
    """Read a split file as CoOp publishes them: `{"train": [[image, label, class_name], ...]}`.

    Returns:
        image, label, class_name, split; in file order, train, then val, then test.

    Raises:
        ManifestError: the file is missing or is no such JSON, a label has two names, or an image
            is outside the dataset's folder.
    """
    path = Path(path)
    if not path.is_file():
        raise _missing(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ManifestError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(content, dict) or set(content) != set(SPLITS):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ManifestError(f"{path}: expected the keys {', '.join(SPLITS)}, found {found}.")
    for split in SPLITS:
        if not isinstance(content[split], list):
            raise ManifestError(f"{path}: {split}: expected a list, found {content[split]!r:.100}.")
    return _tabulate(
        (_read_row(row, split, path) for split in SPLITS for row in content[split]), path
    )


def read_layout(dataset: Mapping[str, Any], root: str | Path) -> pl.DataFrame:
    """Make the manifest of a dataset, given as plain values, from its files.

    Returns image (relative to `root`), label, class_name, split.
    """
    root = Path(root)
    return _tabulate(LAYOUTS[dataset["layout"]](dataset, root), root)


def read_wanted(dataset: Mapping[str, Any], archives: str | Path) -> set[str] | None:
    """List the files to unpack: those of the split file in `archives`; None for all files."""
    if dataset["layout"] != "coop":
        return None
    return {image for image, *_ in _read_coop(dataset, Path(archives))}


def list_synsets() -> list[str]:
    """List ImageNet's 1,000 synsets by label."""
    from timm.data import ImageNetInfo

    return list(ImageNetInfo("imagenet-1k").label_names())


def list_identities(
    dataset: Mapping[str, Any], root: Path, manifest: pl.DataFrame
) -> list[str] | None:
    """List what the classes of a dataset are, by label; None if they have labels alone."""
    match dataset["layout"]:
        case "imagenet":
            train = manifest.filter(split="train").unique("label").sort("label")
            return train["image"].str.split("/").list.get(1).to_list()
        case "imagenet_test":
            return [synset for synset, _ in list_class_folders(root / dataset["images"])]
        case "folders":
            return list(read_tree(root, **_how_to_read(dataset)).classes)
        case "table":
            return read_table(dataset, root).labels
    return None


def list_class_folders(root: Path) -> list[tuple[str, str]]:
    """List (synset, folder) of the class folders of a test set of ImageNet's classes, by label.

    A folder's name is the synset, or ImageNet's label in decimal digits, as in ImageNetV2; sorted
    by name, "10" would come before "2".
    """
    synsets = list_synsets()
    by_name = {name: wnid for n, wnid in enumerate(synsets) for name in (wnid, str(n))}
    folders = [path.name for path in root.glob("*/")]
    unknown = sorted(name for name in folders if name not in by_name)
    if unknown or not folders:
        raise ManifestError(
            f"{root}: expected folders named by ImageNet's synsets (n01440764) or labels (0 "
            f"to 999), found {unknown[0] if unknown else 'none'}."
        )
    found = sorted((by_name[name], name) for name in folders)
    for (synset, name), (again, other) in pairwise(found):
        if synset == again:
            raise ManifestError(f"{root}: two folders of one class, {synset}: {name} and {other}.")
    return found


def match_classes(tested: str | Path, known: str | Path) -> list[int]:
    """Find the labels that the classes of one manifest, `tested`, have in another, `known`."""
    wanted, there = read_identities(tested), read_identities(known)
    if wanted is None and there is None:
        found, expected = (read_parquet(p, "label")["label"].n_unique() for p in (tested, known))
        if found != expected:
            raise ManifestError(
                f"{tested}: expected the {expected} classes of {known}, found {found}."
            )
        return list(range(expected))
    labels = {identity: label for label, identity in enumerate(there or ())}
    for identity in wanted or ("a label alone",):
        if identity not in labels:
            hint = did_you_mean(identity, labels)
            raise ManifestError(f"{tested}: {known} has no class '{identity}'.{hint}")
    return [labels[identity] for identity in wanted or ()]


def read_identities(manifest: str | Path) -> list[str] | None:
    """Read what the classes of a manifest are, by label; None if they have labels alone."""
    found = read_metadata_key(manifest, IDENTITIES)
    return None if found is None else json.loads(found)


def _read_coop(dataset: Mapping[str, Any], root: Path) -> Iterator[Row]:
    for image, *place in read_coop_split(root / dataset["split"]).iter_rows():
        yield (_below(dataset, image), *place)


def _read_fgvc(dataset: Mapping[str, Any], root: Path) -> Iterator[Row]:
    """Read FGVC Aircraft's lists: `variants.txt`, and a line `<image> <variant>` per image."""
    variants = _read_lines(root / dataset["images"] / "variants.txt")
    labels = {variant: label for label, variant in enumerate(variants)}
    for split in SPLITS:
        for line in _read_lines(root / dataset["images"] / f"images_variant_{split}.txt"):
            image, _, variant = line.partition(" ")
            if variant not in labels:
                raise ManifestError(f"{root}: '{line}': variants.txt has no such variant.")
            yield _below(dataset, f"images/{image}.jpg"), labels[variant], variant, split


def _read_imagenet(dataset: Mapping[str, Any], root: Path) -> Iterator[Row]:
    """Read ImageNet: labels are sorted synsets, test images are the official validation images."""
    # The devkit lists the synset of each validation image. Class names go by label, as two pairs of
    # classes share a name. CoOp's training images are in the order of an unsorted listing; here
    # they are sorted.
    from open_clip import IMAGENET_CLASSNAMES
    from scipy.io import loadmat

    data = next(iter(root.glob("**/ILSVRC2012_validation_ground_truth.txt")), root).parent
    synsets = loadmat(str(data / "meta.mat"), squeeze_me=True)["synsets"]
    by_number = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets}
    leaves = sorted(by_number[number] for number in range(1, len(IMAGENET_CLASSNAMES) + 1))
    places = {wnid: (label, IMAGENET_CLASSNAMES[label]) for label, wnid in enumerate(leaves)}
    for wnid in leaves:
        for path in sorted((root / "train" / wnid).glob("*.JPEG")):
            yield path.relative_to(root).as_posix(), *places[wnid], "train"
    truth = _read_lines(data / "ILSVRC2012_validation_ground_truth.txt")
    for number, line in enumerate(truth, start=1):
        yield f"val/ILSVRC2012_val_{number:08d}.JPEG", *places[by_number[int(line)]], "test"


def _read_imagenet_test(dataset: Mapping[str, Any], root: Path) -> Iterator[Row]:
    """Read a test set of ImageNet's classes, or of some of them: a folder per class."""
    from open_clip import IMAGENET_CLASSNAMES

    from vtclip.data.images import is_picture

    names = dict(zip(list_synsets(), IMAGENET_CLASSNAMES, strict=True))
    folder = root / dataset["images"]
    for label, (synset, name) in enumerate(list_class_folders(folder)):
        for path in sorted((folder / name).iterdir()):
            if is_picture(path):
                yield _below(dataset, f"{name}/{path.name}"), label, names[synset], "test"


def _read_folders(dataset: Mapping[str, Any], root: Path) -> list[Row]:
    return _split(list_images(root, dataset["class_names"], **_how_to_read(dataset)), dataset)


def _read_table(dataset: Mapping[str, Any], root: Path) -> list[Row]:
    table = read_table(dataset, root)
    numbers = {label: number for number, label in enumerate(table.labels)}
    names = dataset["class_names"]
    rows = [(image, numbers[n], names.get(n, n), split) for image, n, split in table.rows]
    rows.sort(key=lambda row: ((*SPLITS, UNSPLIT).index(row[3]), row[1], row[0].split("/")))
    return _split(rows, dataset)


def _how_to_read(dataset: Mapping[str, Any]) -> dict[str, Any]:
    return {key: dataset[key] for key in ("levels", "split_folders") if key in dataset}


def _split(rows: list[Row], dataset: Mapping[str, Any]) -> list[Row]:
    """Split images without a split, unless folds divide them: each class shuffled and cut."""
    if rows[0][3] != UNSPLIT or dataset.get("folds"):
        return rows
    shares = Fractions.model_validate(dataset["fractions"])
    done: list[Row] = []
    for (label, name), group in groupby(rows, key=lambda row: row[1:3]):
        images = [image for image, *_ in group]
        size = len(images)
        if size < 3:
            raise ManifestError(
                f"{dataset.get('table') or dataset.get('folder')}: class {quote(name)}: expected 3 "
                f"images or more, found {size}.\n  Add images of it, or take the class out."
            )
        sizes = zip(SPLITS, shares.divide(size), strict=True)
        splits = [split for split, number in sizes for _ in range(number)]
        random.Random(shares.seed).shuffle(splits)
        done += [(image, label, name, split) for image, split in zip(images, splits, strict=True)]
    return sorted(done, key=lambda row: (SPLITS.index(row[3]), row[1], row[0]))


def _below(dataset: Mapping[str, Any], image: str) -> str:
    return f"{dataset['images']}/{image}" if dataset["images"] else image


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise _missing(path)
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def _missing(path: Path) -> ManifestError:
    return ManifestError(f"{path}: the file is missing. A split is never invented: put it there.")


def _read_row(row: Any, split: str, path: Path) -> Row:
    match row:
        case [str() as image, int() as label, str() as class_name]:
            # JSON has halves of letters and numbers of any size, which a table cannot store.
            halves = re.search(r"[\ud800-\udfff]", image + class_name)
            if not halves and type(label) is int and 0 <= label < 2**31:
                return image, label, class_name, split
    raise ManifestError(
        f"{path}: {split}: expected [image, label, class name], found {row!r:.200}."
    )


def _tabulate(rows: Iterable[Row], path: Path) -> pl.DataFrame:
    """Refuse labels that are no classes, and images outside the dataset's folder."""
    manifest = pl.DataFrame(rows, SCHEMA, orient="row")
    _check_labels(manifest, path)
    outside = manifest.filter(pl.col("image").str.contains(r"^/|(^|/)\.\.(/|$)"))
    if not outside.is_empty():
        raise ManifestError(
            f"{path}: the image '{outside['image'][0]}' would be read outside the dataset's folder."
            "\n  expected: a path below it, without '..'"
        )
    return manifest


def _check_labels(manifest: pl.DataFrame, path: Path) -> None:
    """Refuse a label with two names, and numbers that no image has."""
    named: dict[int, tuple[str, str]] = {}  # label -> class name and the first image with it
    rows = manifest.unique(["label", "class_name"], keep="first", maintain_order=True)
    for image, label, class_name, _ in rows.iter_rows():
        name, first = named.setdefault(label, (class_name, image))
        if name != class_name:
            raise ManifestError(
                f"{path}: label {label} has two class names.\n"
                f"  found:    {quote(name)} of {first}, and {quote(class_name)} of {image}"
                f"{show_difference(name, class_name)}\n"
                "  expected: one name for each label, in one spelling"
            )
    lost = next(label for label in range(len(named) + 1) if label not in named)
    if lost < len(named):
        raise ManifestError(
            f"{path}: no image has the label {lost}.\n"
            f"  found:    {len(named)} labels, up to {max(named)}\n"
            "  expected: labels 0, 1, 2, ... without a gap"
        )


LAYOUTS: dict[str, Callable[[Mapping[str, Any], Path], Iterable[Row]]] = {
    "coop": _read_coop,
    "fgvc": _read_fgvc,
    "imagenet": _read_imagenet,
    "imagenet_test": _read_imagenet_test,
    "folders": _read_folders,
    "table": _read_table,
}

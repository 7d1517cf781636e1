"""A dataset's files on disk: paths, what is missing, and what they contain before any job."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtclip.config.dataset import (
    OWN_LAYOUTS,
    ArchiveFile,
    ClassSplit,
    Dataset,
    dataset_name,
    read_dataset,
)
from vtclip.data.descriptions import find_archive, list_sets
from vtclip.data.fetch import Expected, is_unavailable, marker_of
from vtclip.data.pick_lists import count_validation
from vtclip.data.walk import SPLITS, UNSPLIT, Tree, read_tree, walk
from vtclip.files import sha256_of
from vtclip.paths import ARCHIVE, ARCHIVE_RECEIPT, IMAGES, IMAGES_RECEIPT
from vtclip.runtime.job import progress

if TYPE_CHECKING:
    import polars as pl

DECODERS = 4  # threads
Numbers = Mapping[str, Sequence[float]]  # split -> images of each class


def archive_path(name: str, file: str) -> Path:
    """Path of an archive of the dataset `name`."""
    return Path(ARCHIVE.format(dataset=name, file=file))


def archive_receipt(name: str, file: str) -> Path:
    """Path of the receipt of an archive."""
    return Path(ARCHIVE_RECEIPT.format(dataset=name, file=file))


def images_folder(name: str, dataset: Dataset) -> Path:
    """Path of the folder that the manifest's image paths start from."""
    return Path(IMAGES.format(dataset=name) if dataset.folder is None else dataset.folder)


def images_receipt(name: str, dataset: Dataset) -> Path | None:
    """Path of the receipt of the unpacked images; None for a user's image folder."""
    return Path(IMAGES_RECEIPT.format(dataset=name)) if dataset.folder is None else None


def find_tree(dataset: Dataset) -> Tree | None:
    """Find the classes of a user's image folder, and their places; None for other layouts.

    Of a table, the places are the images themselves.
    """
    if dataset.folder is None or dataset.layout not in OWN_LAYOUTS:
        return None
    if dataset.layout == "folders":
        return read_tree(dataset.folder, levels=dataset.levels, split_folders=dataset.split_folders)
    from vtclip.data.label_table import read_table  # imports Polars, which most plans do without

    table = read_table(dataset.model_dump(mode="json"), dataset.folder)
    labels = {label: number for number, label in enumerate(table.labels)}
    places = {image: (labels[label], split) for image, label, split in table.rows}
    return Tree(table.labels, {split for *_, split in table.rows if split}, places)


def list_addresses(name: str, file: str, *, mirror: str | None) -> list[str]:
    """List the addresses of an archive, best first, as the dataset's file gives them now."""
    dataset = read_dataset(name)
    found = (find_archive(each, name, dataset.classes_of) for each in list_sets())
    archives = [*dataset.archives, *filter(None, found)]
    urls = next(archive.urls for archive in archives if archive.file == file)
    return mirror_addresses(mirror, name, file, urls)


def mirror_addresses(mirror: str | None, dataset: str, file: str, urls: Sequence[str]) -> list[str]:
    """List the addresses to try: the mirror's `<mirror>/<dataset>/<file>`, else `urls`."""
    return list(urls) if mirror is None else [f"{mirror.rstrip('/')}/{dataset}/{file}"]


def list_contents(dataset: Dataset) -> str | None:
    """Hash a user's table, and names, sizes and times in the image folder; None for other layouts.

    The word before the hash lets a dry run say that images have changed.
    """
    if dataset.folder is None:
        return None
    digest = hashlib.sha256(b"" if dataset.table is None else Path(dataset.table).read_bytes())
    for entry in walk(dataset.folder):
        if entry.kind != "hidden":
            digest.update("\0".join(entry).encode() + b"\n")
    return f"images {digest.hexdigest()[:16]}"


def list_missing(name: str, dataset: Dataset) -> list[ArchiveFile]:
    """List the archives that are still to be fetched; none of a dataset that is unpacked."""
    receipt = images_receipt(name, dataset)
    if receipt is None or receipt.is_file():
        return []
    return [
        archive
        for archive in dataset.archives
        if not any(p(name, archive.file).is_file() for p in (archive_path, archive_receipt))
    ]


def explain_missing(
    name: str,
    dataset: Dataset,
    mirror: str | None,  # the experiment's
    config: str,  # the configuration's name, for the message
    key: str = "datasets",  # the configuration's key that names the dataset
) -> str | None:
    """Explain why a dataset must be left out, and what to do; None if it can be fetched."""
    missing = list_missing(name, dataset)
    folder = archive_path(name, "").as_posix()
    closed = [archive.file for archive in missing if not archive.urls and mirror is None]
    if failed := [archive.file for archive in missing if _is_unavailable(name, archive, mirror)]:
        what = f"{' and '.join(failed)} could not be downloaded on an earlier run"
        marker = marker_of(archive_path(name, failed[0]))
        where = f"put it into {folder}/ by hand, or delete {marker} to try again"
    elif closed:
        what = f"{' and '.join(closed)} require{'s' if len(closed) == 1 else ''} an account"
        where = f"get it from {dataset.source} and put it into {folder}/"
    else:
        return None
    return (
        f"{name} is left out: {what}.\n  To have it: {where}.\n"
        f"  To leave it out for good: take '{name}' from `{key}:` in {config}."
    )


def _is_unavailable(name: str, archive: ArchiveFile, mirror: str | None) -> bool:
    """Check for the marker of an earlier search for an archive, as the configuration has it now."""
    addresses = mirror_addresses(mirror, name, archive.file, archive.urls)
    expected = Expected(**archive.expected)
    return is_unavailable(archive_path(name, archive.file), addresses, expected)


def count_by_class(name: str, dataset: Dataset, tree: Tree | None) -> Numbers | None:
    """Count the images of a dataset, or of a half of it, as far as that needs no job.

    `tree` is that of `find_tree`. Where only totals are known, each class counts as the mean. None
    where nothing is known.
    """
    found = _count_rows(name, dataset) if tree is None else _count_files(dataset, tree)
    if not found and dataset.counts is not None:
        totals = dataset.counts.model_dump()
        classes = totals["classes"]
        found = {split: [totals[split] / classes] * classes for split in SPLITS}
    if not found:
        return None
    if dataset.folds:
        found = _count_in_folds(found, dataset.folds)
    labels = ClassSplit.parse(name).labels(len(found["train"]))
    return {split: numbers[labels.start : labels.stop] for split, numbers in found.items()}


def _count_in_folds(found: Numbers, folds: int) -> Numbers:
    """Images of each class that a fold's heads learn from, the fewest; and all to predict."""
    whole = [sum(numbers) for numbers in zip(*found.values(), strict=True)]
    rest = [number - -(-number // folds) for number in whole]
    val = [count_validation(number) for number in rest]
    train = [number - kept for number, kept in zip(rest, val, strict=True)]
    return {"train": train, "val": val, "test": whole}


def _count_files(dataset: Dataset, tree: Tree) -> Numbers:
    """Count the files in class folders, or a table's; none is opened, some may be no images."""
    assert dataset.folder is not None
    left_out, depth = set(dataset.leave_out), next(iter(tree.places)).count("/") + 1
    if dataset.layout == "table":
        files = Counter(tree.places.keys() - left_out)
    else:
        files = Counter(
            "/".join(entry.path.split("/")[:depth])
            for entry in walk(dataset.folder)
            if entry.kind == "file" and entry.path not in left_out
        )
    found = {split: [0] * len(tree.classes) for split in (*SPLITS, UNSPLIT)}
    for folder, (label, split) in tree.places.items():
        found[split][label] += files[folder]
    whole = found.pop(UNSPLIT)
    if not tree.splits:
        divided = [dataset.fractions.divide(max(3, number)) for number in whole]
        found = {split: [sizes[n] for sizes in divided] for n, split in enumerate(SPLITS)}
    return found


def _read_rows(name: str, dataset: Dataset) -> dict[str, list[tuple[str, int, str]]]:
    """Read a split file in CoOp's form; nothing while there is none."""
    if dataset.split is None:
        return {}
    split_file = images_folder(dataset_name(name), dataset) / dataset.split
    try:
        content = json.loads(split_file.read_text(encoding="utf-8"))
        return {
            split: [(i, int(n), str(name)) for i, n, name in content[split]] for split in SPLITS
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}  # the job that makes the manifest says what is wrong


def _count_rows(name: str, dataset: Dataset) -> Numbers:
    """Count the rows of a split file."""
    found = _read_rows(name, dataset)
    counts = {split: Counter(label for _, label, _ in rows) for split, rows in found.items()}
    return {split: [n[label] for label in sorted(counts["train"])] for split, n in counts.items()}


def list_rows(name: str, dataset: Dataset) -> Iterator[dict[str, Any]]:
    """List image, label, class_name and split of a split file's images, while it is there."""
    for split, rows in _read_rows(name, dataset).items():
        for image, label, class_name in rows:
            place = {"image": posixpath.join(dataset.images, image), "split": split}
            yield place | {"label": label, "class_name": class_name}


def read_class_names(name: str, dataset: Dataset, tree: Tree | None) -> list[str]:
    """Read the class names, by label, as far as that needs no job; `tree` is `find_tree`'s."""
    if tree is not None:
        return [dataset.class_names.get(folder, folder) for folder in tree.classes]
    splits = _read_rows(name, dataset).values()
    return [*{label: text for rows in splits for _, label, text in rows}.values()]


@dataclass(frozen=True)
class Survey:
    """The images in a user's folder."""

    manifest: pl.DataFrame  # image, label, class_name, split; all images
    damaged: Mapping[str, str]  # image -> why it cannot be read
    equal: list[list[str]]  # groups of images with the same content

    def count(self) -> pl.DataFrame:
        """Count the readable images: label, class_name, train, val, test; by label.

        Of images without a split, which are divided into folds: label, class_name, images.
        """
        import polars as pl  # which the plan does without

        from vtclip.data.manifest import count_images

        is_readable = ~pl.col("image").is_in(list(self.damaged))
        if (self.manifest["split"] == UNSPLIT).any():
            readable = self.manifest.filter(is_readable)
            return readable.group_by("label", "class_name").len("images").sort("label")
        return count_images(self.manifest, is_readable)

    def mixed(self) -> list[list[str]]:
        """List the groups of equal images in several splits or classes."""
        places = {image: (label, split) for image, label, _, split in self.manifest.iter_rows()}
        return [group for group in self.equal if len({places[image] for image in group}) > 1]


def survey_folder(dataset: Mapping[str, Any], folder: str | Path) -> Survey:
    """Decode each image of a user's folder once, as the dataset's file (plain values) reads it."""
    from vtclip.data.layouts import read_layout  # imports Polars

    manifest = read_layout(dataset, folder)
    images = manifest["image"].to_list()
    with ThreadPoolExecutor(DECODERS) as decoders:
        found = decoders.map(_find_damage, (Path(folder, image) for image in images))
        reasons = list(progress(found, what="images read", total=len(images)))
    damaged = {image: why for image, why in zip(images, reasons, strict=True) if why}
    return Survey(manifest, damaged, _find_equal(Path(folder), images))


def _find_damage(path: Path) -> str:
    """Explain why an image cannot be read; "" for one that can."""
    from vtclip.data.images import PictureError, open_picture  # imports Pillow

    try:
        open_picture(path)
    except PictureError as error:
        return str(error)
    return ""


def _find_equal(folder: Path, images: list[str]) -> list[list[str]]:
    """Group images with the same content; only those of equal size are read."""
    sizes = {image: (folder / image).stat().st_size for image in images}
    numbers = Counter(sizes.values())
    groups = defaultdict(list)
    for image, size in sizes.items():
        if numbers[size] > 1:
            groups[sha256_of(folder / image)].append(image)
    return [group for group in groups.values() if len(group) > 1]

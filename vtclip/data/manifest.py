"""The manifest: every image of a dataset with its label, class name and split."""

import json
import logging
import posixpath
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.model_selection import StratifiedGroupKFold

from vtclip.data.duplicates import find_near_duplicates, group_near_duplicates, hash_images
from vtclip.data.layouts import IDENTITIES, SPLITS, ManifestError, list_identities, read_layout
from vtclip.data.layouts import read_coop_split as read_coop_split  # a public name of this module
from vtclip.data.walk import UNSPLIT, walk
from vtclip.files import check_folder, sha256_of, sha256_of_all, write_receipt
from vtclip.parquet import write_parquet
from vtclip.runtime.job import progress, warn_on_terminal
from vtclip.wording import did_you_mean, is_blank, list_some, plain, show_difference

logger = logging.getLogger(__name__)

SHOWN = 3  # groups of equal images in a warning


def prepare_manifest(
    dataset: Mapping[str, Any],
    images: str | Path,
    destination: str | Path,
    *,
    receipt: str | Path | None = None,
) -> pl.DataFrame:
    """Write the manifest of a dataset, after a check against the dataset's file.

    The file's metadata contain `left_out` (JSON): images that the dataset's file leaves out;
    `images_sha256`: a checksum of all the images, so that the manifest changes when they do;
    `identities` (JSON), unless classes have labels alone: what each class is; and, for images
    without a receipt, which are all read, `repeated`: how many contents are in several splits or
    classes.
    """
    images_sha256 = None if receipt is None else check_folder(images, receipt)
    manifest = read_layout(dataset, images)
    if dataset["counts"] is not None:  # of the splits that folds take together
        found = {split: manifest.filter(split=split).height for split in SPLITS}
        found["classes"] = manifest["label"].n_unique()
        if found != dict(dataset["counts"]):
            raise ManifestError(f"{images}: expected {dict(dataset['counts'])}, found {found}.")
    left_out = list(dataset.get("leave_out", []))
    manifest = leave_out(manifest, left_out, images)
    _check_repeats(manifest, images)
    _check_files(manifest, images)
    if folds := dataset.get("folds"):
        hashes = hash_images(manifest["image"].to_list(), images, exif=dataset["exif"])
        pairs = find_near_duplicates(manifest, hashes=hashes)
        groups = group_near_duplicates(pairs, manifest.height)
        manifest = deal_folds(manifest, folds, groups, source=images)
    metadata = {"left_out": json.dumps(left_out)}
    if (identities := list_identities(dataset, Path(images), manifest)) is not None:
        metadata[IDENTITIES.decode()] = json.dumps(identities)
    if images_sha256 is None:
        metadata |= _read_images(manifest, Path(images))
    else:
        metadata["images_sha256"] = images_sha256
    write_parquet(destination, manifest, {k.encode(): v.encode() for k, v in metadata.items()})
    write_receipt(destination)
    return manifest


def leave_out(manifest: pl.DataFrame, names: Sequence[str], images: str | Path) -> pl.DataFrame:
    """Remove the named images from a manifest, and check the classes of what remains."""
    unknown = sorted(set(names) - set(manifest["image"]))
    if unknown:
        hint = did_you_mean(unknown[0], manifest["image"])
        raise ManifestError(f"{images}: leave_out: the split has no '{unknown[0]}'.{hint}")
    is_left = pl.col("image").is_in(list(names))
    _check_classes(manifest, is_left, images)
    return manifest.filter(~is_left)


def _check_classes(manifest: pl.DataFrame, is_left: pl.Expr, images: str | Path) -> None:
    """Refuse blank names, and classes without an image of a split that the dataset has."""
    counts = count_images(manifest, ~is_left)
    is_whole = (manifest["split"] == UNSPLIT).any()
    for name in counts["class_name"]:
        if is_blank(name):
            raise ManifestError(f"{images}: a class has the name {name!a}, blank in a prompt.")
    uses = () if is_whole else (("train", "training"), ("test", "test"), ("val", "validation"))
    for split, used in uses:
        lost = counts.filter(pl.col(split) == 0)
        if lost.is_empty() or (split != "test" and manifest.filter(split=split).is_empty()):
            continue  # a dataset may only test, or have no validation images
        names = list_some(lost["class_name"].to_list())
        problem = f"{images}: classes without a {used} image: {names}."
        if split == "val":
            warn_on_terminal(problem)
            continue
        taken = manifest.filter(is_left, pl.col("label").is_in(lost["label"].implode())).height
        mend = "Put images there"
        if taken:
            mend = f"leave_out names {taken} images of these classes: repair one"
        raise ManifestError(
            f"{problem}\n  expected: images of each class to train and to test with\n"
            f"  {mend}, or remove the whole class from the dataset."
        )


def deal_folds(
    manifest: pl.DataFrame, folds: int, groups: np.ndarray, *, source: str | Path
) -> pl.DataFrame:
    """Divide the images into folds: each class evenly, and each group (M,) as a whole into one.

    Returns the same images by fold; `split` is `fold1`, `fold2`, ... Refuses a class of which fewer
    than two images are left without one of the folds: one to train on and one to validate on.
    """
    labels = manifest["label"].to_numpy()
    sizes = np.bincount(labels)
    if folds > max(sizes):
        raise ManifestError(
            f"{source}: folds: expected at most {max(sizes)}, the images of the largest class, "
            f"found {folds}."
        )
    fold = np.zeros(len(labels), int)
    with warnings.catch_warnings(action="ignore"):  # a class may have fewer images than folds
        dealt = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
        for number, (_, rows) in enumerate(dealt.split(labels, labels, groups), start=1):
            fold[rows] = number
    largest = np.max([np.bincount(labels[fold == n], minlength=len(sizes)) for n in set(fold)], 0)
    label = int((sizes - largest).argmin())
    if sizes[label] - largest[label] < 2:
        name = manifest.filter(label=label)["class_name"][0]
        raise ManifestError(
            f"{source}: class '{name}' has too few images for folds: {sizes[label]}, of which "
            f"{largest[label]} are in one fold, where near-duplicates stay together.\n"
            "  expected: three different images of each class. Put more there, or remove the class."
        )
    divided = manifest.with_columns(split=pl.format("fold{}", pl.Series(fold)))
    return divided[np.argsort(fold, kind="stable")]


def count_images(manifest: pl.DataFrame, counted: pl.Expr | bool = True) -> pl.DataFrame:
    """Count the images of each class: label, class_name, train, val, test; by label."""
    numbers = [((pl.col("split") == split) & counted).sum().alias(split) for split in SPLITS]
    return manifest.group_by("label", "class_name").agg(*numbers).sort("label")


def _check_files(manifest: pl.DataFrame, images: str | Path) -> None:
    """Refuse images that are not there; name a file that may be the first, in another place."""
    missing = [image for image in manifest["image"] if not Path(images, image).is_file()]
    if not missing:
        return
    files = (entry.path for entry in walk(images) if entry.kind == "file")
    ending = f"/{plain(missing[0])}"
    alike = next((path for path in files if f"/{plain(path)}".endswith(ending)), None)
    hint = f"\n  There is '{alike}'{show_difference(missing[0], alike)}." if alike else ""
    raise ManifestError(
        f"{images}: {len(missing)} of {manifest.height} images of the split are missing:"
        + "".join(f"\n  {image}" for image in missing[:10])
        + hint
    )


def _check_repeats(manifest: pl.DataFrame, images: str | Path) -> None:
    """Refuse an image in two rows: of two splits, of one, or with two labels."""
    seen: dict[str, int] = {}
    for row, image in enumerate(manifest["image"]):
        first = seen.setdefault(posixpath.normpath(image), row)
        if first != row:
            one, other = (
                f"{split} as '{class_name}' ({label})"
                for _, label, class_name, split in (manifest.row(first), manifest.row(row))
            )
            raise ManifestError(
                f"{images}: the image '{image}' is listed twice.\n"
                f"  found:    in {one}, and in {other}\n"
                "  expected: each image once; take it out of the split in one place"
            )


def _read_images(manifest: pl.DataFrame, images: Path) -> dict[str, str]:
    """Read all images for the metadata; warn of equal ones in several splits or classes."""
    names = progress(manifest["image"], what="images read", total=manifest.height)
    read = manifest.with_columns(sha256=pl.Series([sha256_of(images / name) for name in names]))
    place = pl.format("{} ({}, {})", "image", "split", "class_name")
    repeated = (
        read.filter(pl.struct("split", "label").n_unique().over("sha256") > 1)
        .group_by("sha256", maintain_order=True)
        .agg(place)["image"]
        .list.join(" = ")
        .to_list()
    )
    if repeated:
        warn_on_terminal(
            f"{images}: {len(repeated)} images are in several splits or classes under several "
            "names, with the same content:" + "".join(f"\n  {found}" for found in repeated[:SHOWN])
        )
        logger.info("All of them:\n  %s", "\n  ".join(repeated))
    checksums = dict(read.select("image", "sha256").iter_rows())
    return {"images_sha256": sha256_of_all(checksums), "repeated": str(len(repeated))}

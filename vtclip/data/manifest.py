"""The manifest: every image of a dataset with its label, class name and split."""

import json
import logging
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.data.layouts import IDENTITIES, SPLITS, ManifestError, list_identities, read_layout
from vtclip.data.layouts import read_coop_split as read_coop_split  # a public name of this module
from vtclip.files import name_file_in_errors, read_record, sha256_of, sha256_of_all, write_receipt
from vtclip.parquet import write_parquet
from vtclip.runtime.job import progress, warn_on_terminal

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
    without a receipt, `repeated`: how many contents are in several splits or classes.

    Args:
        dataset: the dataset's file, as plain values.
        images: the folder that the image paths start from.
        destination: the Parquet file to write.
        receipt: the receipt of the images' folder; without it all images are read.

    Raises:
        ManifestError: a split file that is missing or of another form, other counts, an image that
            is listed twice, missing images, or a class all of whose images are left out.
    """
    manifest = read_layout(dataset, images)
    if dataset["counts"] is not None:
        found = {split: manifest.filter(split=split).height for split in SPLITS}
        found["classes"] = manifest["label"].n_unique()
        if found != dict(dataset["counts"]):
            raise ManifestError(f"{images}: expected {dict(dataset['counts'])}, found {found}.")
    left_out = list(dataset.get("leave_out", []))
    manifest = _leave_out(manifest, left_out, Path(images))
    _check_repeats(manifest, Path(images))
    missing = [image for image in manifest["image"] if not Path(images, image).is_file()]
    if missing:
        shown = "".join(f"\n  {image}" for image in missing[:10])
        raise ManifestError(
            f"{images}: {len(missing)} of {manifest.height} images of the split are missing:{shown}"
        )
    metadata = {"left_out": json.dumps(left_out)}
    if (identities := list_identities(dataset, Path(images), manifest)) is not None:
        metadata[IDENTITIES.decode()] = json.dumps(identities)
    if receipt is None:
        metadata |= _read_images(manifest, Path(images))
    else:
        metadata["images_sha256"] = _read_checksum(Path(receipt))
    write_parquet(destination, manifest, {k.encode(): v.encode() for k, v in metadata.items()})
    write_receipt(destination)
    return manifest


def _leave_out(manifest: pl.DataFrame, names: Sequence[str], images: Path) -> pl.DataFrame:
    """Remove the named images from the manifest."""
    unknown = sorted(set(names) - set(manifest["image"]))
    if unknown:
        raise ManifestError(f"{images}: leave_out: the split has no '{unknown[0]}'.")
    kept = manifest.filter(~pl.col("image").is_in(list(names)))
    lost = manifest.filter(~pl.col("label").is_in(kept["label"].unique().implode()))
    if not lost.is_empty():
        # There is one text per label: without this class the later texts would move down.
        name, count = lost["class_name"][0], lost.filter(label=lost["label"][0]).height
        raise ManifestError(
            f"{images}: leave_out names all {count} images of class '{name}', and its label would "
            "be missing. Repair one of them and take it from leave_out, or remove the whole class "
            "from the split, so that the later ones get new labels."
        )
    return kept


def _check_repeats(manifest: pl.DataFrame, images: Path) -> None:
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


def _read_checksum(receipt: Path) -> str:
    """Read the checksum of all images from their receipt."""
    with name_file_in_errors(receipt):
        content = read_record(receipt)
        if "sha256" not in content:
            raise ValueError("it has no sha256 of the images")
        return content["sha256"]

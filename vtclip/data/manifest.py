"""The manifest: every image of a dataset with its label, class name and split."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.data.layouts import SPLITS, ManifestError, read_layout
from vtclip.data.layouts import read_coop_split as read_coop_split  # others call it from here
from vtclip.files import write_receipt
from vtclip.parquet import write_parquet


def prepare_manifest(
    dataset: Mapping[str, Any], images: str | Path, destination: str | Path
) -> pl.DataFrame:
    """Write the manifest of a dataset, once it is seen to be what the dataset's file promises.

    The images that the dataset's file leaves out are named in the file's metadata, as JSON under
    `left_out`.

    Args:
        dataset: the dataset's file, as plain values.
        images: the folder that the image paths start from.
        destination: the Parquet file to write.

    Raises:
        ManifestError: a split file that is missing or of another form, other counts, images that
            are not there, or a class with none that is not left out.
    """
    manifest = read_layout(dataset, images)
    if dataset["counts"] is not None:
        _check_counts(manifest, dataset["counts"], Path(images))
    left_out = list(dataset.get("leave_out", []))
    manifest = _leave_out(manifest, left_out, Path(images))
    _check_images(manifest, Path(images))
    write_parquet(destination, manifest, {b"left_out": json.dumps(left_out).encode()})
    write_receipt(destination)
    return manifest


def _check_counts(manifest: pl.DataFrame, counts: Mapping[str, int], path: Path) -> None:
    found = {split: manifest.filter(split=split).height for split in SPLITS}
    found["classes"] = manifest["label"].n_unique()
    if found != dict(counts):
        raise ManifestError(f"{path}: expected {dict(counts)}, found {found}.")


def _leave_out(manifest: pl.DataFrame, names: Sequence[str], images: Path) -> pl.DataFrame:
    """The manifest without the named images."""
    unknown = sorted(set(names) - set(manifest["image"]))
    if unknown:
        raise ManifestError(f"{images}: leave_out: the split has no '{unknown[0]}'.")
    kept = manifest.filter(~pl.col("image").is_in(list(names)))
    lost = manifest.filter(~pl.col("label").is_in(kept["label"].unique().implode()))
    if not lost.is_empty():
        # Texts are one a label: without this class those of the later ones would move down.
        name, count = lost["class_name"][0], lost.filter(label=lost["label"][0]).height
        raise ManifestError(
            f"{images}: leave_out names all {count} images of class '{name}', and its label would "
            "be missing. Mend one of them and take it from leave_out, or take the whole class away "
            "from the split, so that the later ones are numbered anew."
        )
    return kept


def _check_images(manifest: pl.DataFrame, images: Path) -> None:
    missing = [image for image in manifest["image"] if not (images / image).is_file()]
    if missing:
        shown = "".join(f"\n  {image}" for image in missing[:10])
        raise ManifestError(
            f"{images}: {len(missing)} of {manifest.height} images of the split are missing:{shown}"
        )

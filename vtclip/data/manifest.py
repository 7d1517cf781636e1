"""The manifest: every image of a dataset with its label, class name and split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.data.layouts import SPLITS, ManifestError, read_coop_split, read_layout
from vtclip.files import writing


def prepare_manifest(
    dataset: Mapping[str, Any], images: str | Path, destination: str | Path
) -> pl.DataFrame:
    """Write the manifest of a dataset, once it is seen to be what the dataset's file promises.

    Args:
        dataset: the dataset's file, as plain values.
        images: the folder that the image paths start from.
        destination: the Parquet file to write.

    Raises:
        ManifestError: a split file that is missing or of another form, other counts, or images
            that are not there.
    """
    manifest = read_layout(dataset, images)
    if dataset["counts"] is not None:
        _check_counts(manifest, dataset["counts"], Path(images))
    manifest = _leave_out(manifest, dataset.get("leave_out", []), Path(images))
    _check_images(manifest, Path(images))
    with writing(destination) as temporary:
        manifest.write_parquet(temporary)
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
    return manifest.filter(~pl.col("image").is_in(list(names)))


def _check_images(manifest: pl.DataFrame, images: Path) -> None:
    missing = [image for image in manifest["image"] if not (images / image).is_file()]
    if missing:
        shown = "".join(f"\n  {image}" for image in missing[:10])
        raise ManifestError(
            f"{images}: {len(missing)} of {manifest.height} images of the split are missing:{shown}"
        )


__all__ = ["ManifestError", "prepare_manifest", "read_coop_split"]

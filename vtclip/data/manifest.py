"""The manifest: every image of a dataset with its label, class name and split."""

import json
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.files import writing

SCHEMA = pl.Schema(
    {"image": pl.String, "label": pl.Int32, "class_name": pl.String, "split": pl.String}
)
SPLITS = ("train", "val", "test")


class ManifestError(ValueError):
    """A split file or a folder of images that is not what the dataset's file promises."""


def read_coop_split(path: str | Path) -> pl.DataFrame:
    """Read a split file as CoOp publishes them: `{"train": [[image, label, class_name], ...]}`.

    Returns:
        image, label, class_name, split; in file order, train, then val, then test.

    Raises:
        ManifestError: the file is missing, is no such JSON, or gives one label two names.
    """
    path = Path(path)
    if not path.is_file():
        raise ManifestError(
            f"{path}: the split file is missing. A split is never invented: put the file there."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ManifestError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(content, dict) or set(content) != set(SPLITS):
        found = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise ManifestError(f"{path}: expected the keys {', '.join(SPLITS)}, found {found}.")
    rows = [_read_row(row, split, path) for split in SPLITS for row in content[split]]
    manifest = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    _check_labels(manifest, path)
    return manifest


def prepare_manifest(
    split: str | Path, images: str | Path, counts: dict[str, int], destination: str | Path
) -> pl.DataFrame:
    """Write the manifest of a dataset, once it is seen to be what the dataset's file promises.

    Args:
        split: the split file, in CoOp's form.
        images: the folder that the split's image paths start from.
        counts: expected number of train, val and test images and of classes.
        destination: the Parquet file to write.

    Raises:
        ManifestError: other counts, or images that are not there.
    """
    manifest = read_coop_split(split)
    _check_counts(manifest, counts, Path(split))
    _check_images(manifest, Path(images))
    with writing(destination) as temporary:
        manifest.write_parquet(temporary)
    return manifest


def _read_row(row: Any, split: str, path: Path) -> tuple[str, int, str, str]:
    match row:
        case [str() as image, int() as label, str() as class_name]:
            return image, label, class_name, split
    raise ManifestError(f"{path}: {split}: expected [image, label, class name], found {row!r}.")


def _check_labels(manifest: pl.DataFrame, path: Path) -> None:
    names = manifest.select("label", "class_name").unique().sort("label")
    labels = names["label"].to_list()
    if labels != list(range(len(labels))):
        raise ManifestError(
            f"{path}: expected labels 0, 1, 2, ... with one class name each, found {labels[:20]}."
        )


def _check_counts(manifest: pl.DataFrame, counts: dict[str, int], path: Path) -> None:
    found = {split: manifest.filter(split=split).height for split in SPLITS}
    found["classes"] = manifest["label"].n_unique()
    if found != counts:
        raise ManifestError(f"{path}: expected {counts}, found {found}.")


def _check_images(manifest: pl.DataFrame, images: Path) -> None:
    missing = [image for image in manifest["image"] if not (images / image).is_file()]
    if missing:
        shown = "".join(f"\n  {image}" for image in missing[:10])
        raise ManifestError(
            f"{images}: {len(missing)} of {manifest.height} images of the split are missing:{shown}"
        )

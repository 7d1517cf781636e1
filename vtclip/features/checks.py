"""Whether features and texts are those of the dataset: its rows, classes and labels."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from vtclip.features.store import FeatureError
from vtclip.parquet import read_parquet

CURE = "Delete it and run again."


def check_texts(path: str | Path, class_names: Sequence[str], manifest: str | Path) -> None:
    """Refuse texts of other classes, or in another order.

    Args:
        path: the file of texts.
        class_names: what it holds, by label.
        manifest: the dataset's manifest.

    Raises:
        FeatureError: with the first class that differs.
    """
    expected = read_parquet(manifest, "label", "class_name").unique().sort("label")["class_name"]
    if len(class_names) != len(expected):
        raise FeatureError(
            f"{path}: expected {len(expected)} classes, as in {manifest}, found "
            f"{len(class_names)}. {CURE}"
        )
    for label, (name, found) in enumerate(zip(expected, class_names, strict=True)):
        if name != found:
            raise FeatureError(
                f"{path}: class {label}: expected '{name}', as in {manifest}, found '{found}'. "
                f"{CURE}"
            )


def check_test_images(
    paths: Sequence[str | Path], rows: pl.DataFrame, manifest: str | Path
) -> None:
    """Refuse test features of other images, of more or fewer, or with other labels.

    Args:
        paths: the files of features, in order.
        rows: image and label of all of them.
        manifest: the dataset's manifest.

    Raises:
        FeatureError: with the first image that differs.
    """
    wanted = ["image", "label"]
    expected = read_parquet(manifest, *wanted, "split").filter(split="test").select(wanted)
    file = ", ".join(str(path) for path in paths)
    if rows.height != expected.height:
        raise FeatureError(
            f"{file}: expected the {expected.height} test images of {manifest}, found "
            f"{rows.height}. {CURE}"
        )
    pairs = zip(expected.iter_rows(), rows.select(wanted).iter_rows(), strict=True)
    for (image, label), (found, found_label) in pairs:
        if (image, label) != (found, found_label):
            raise FeatureError(
                f"{file}: expected {image} with label {label}, as in {manifest}, found {found} "
                f"with label {found_label}. {CURE}"
            )


def check_labels(path: str | Path, rows: pl.DataFrame, texts: str | Path, classes: int) -> None:
    """Refuse labels that no text stands for.

    Args:
        path: the file of features.
        rows: image and label of each view.
        texts: the file of texts.
        classes: K, the number of texts.

    Raises:
        FeatureError: with the first image of a label outside 0 .. K - 1.
    """
    outside = rows.filter(~pl.col("label").is_between(0, classes - 1))
    if not outside.is_empty():
        raise FeatureError(
            f"{path}: {outside['image'][0]}: label {outside['label'][0]}: {texts} has classes "
            f"0 to {classes - 1}. {CURE}"
        )

"""Text features in Parquet: one row per class; the file's metadata say what made them."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import torch

from vtclip.config.dataset import Exif
from vtclip.features.store import (
    METADATA_KEY,
    FeatureError,
    find_non_finite,
    read_metadata,
    to_lists,
    to_tensor,
)
from vtclip.files import AGAIN
from vtclip.parquet import read_parquet, read_table, write_parquet
from vtclip.task import Texts
from vtclip.wording import show_difference


def write_texts(
    path: str | Path,
    class_names: Sequence[str],  # K names, by label
    texts: torch.Tensor,  # (K, D) float32 of unit length
    metadata: Mapping[str, Any],  # what made them, with the backbone's `logit_scale`
    *,
    means: torch.Tensor | None = None,  # (K, D) of raw texts, to train from; by default `texts`
    # (K, P, D), the first P of each class, as many as the class with the fewest has; by default
    # `texts`
    prompts: torch.Tensor | None = None,
) -> None:
    """Write one text feature per class."""
    means = texts if means is None else means
    prompts = texts[:, None] if prompts is None else prompts
    place = find_non_finite(texts)
    if place is not None:
        name, value = class_names[place[0]], texts[place].item()
        raise FeatureError(f"{path}: the text of class '{name}': {value} is no finite number.")
    for name, norm in zip(class_names, means.norm(dim=1).tolist(), strict=True):
        if not 0 < norm < math.inf:
            raise FeatureError(
                f"{path}: the text of class '{name}': expected a length above 0, found {norm}."
            )
    table = pa.table(
        {
            "label": pa.array(range(len(class_names)), pa.int32()),
            "class_name": pa.array(class_names, pa.string()),
            "text": to_lists(texts.float().cpu()),
            "mean": to_lists(means.float().cpu()),
            "prompts": to_lists(prompts.flatten(1).float().cpu()),
        }
    )
    write_parquet(path, table, {METADATA_KEY: json.dumps(dict(metadata)).encode()})


def read_texts(path: str | Path) -> tuple[torch.Tensor, dict[str, Any]]:
    """Read the text features (K, D) float32 by label, and what made them."""
    metadata = read_metadata(path)
    table = read_table(path, "label", "text")
    labels = table["label"].to_pylist()
    if labels != list(range(len(labels))):
        raise FeatureError(
            f"{path}: expected the labels 0, 1, 2, ... in order, found {labels[:10]}. {AGAIN}"
        )
    return to_tensor(table["text"]), metadata


def read_classes(
    path: str | Path, device: torch.device | str = "cpu"
) -> tuple[Texts, dict[str, Any]]:
    """Read the classes as methods expect them, and what made them; errors as of `read_texts`."""
    features, metadata = read_texts(path)
    table = read_table(path, "mean", "prompts")
    prompts = to_tensor(table["prompts"]).unflatten(1, (-1, features.shape[1]))
    texts = Texts(
        features.to(device),
        metadata["logit_scale"],
        means=to_tensor(table["mean"]).to(device),
        prompts=prompts.to(device),
        has_pooled_token=metadata.get("has_pooled_token", True),
    )
    return texts, metadata


def read_class_names(path: str | Path) -> list[str]:
    """Read the class names of a file of text features, by label."""
    return read_table(path, "class_name")["class_name"].to_pylist()


def check_texts(path: str | Path, class_names: Sequence[str], manifest: str | Path) -> None:
    """Refuse a file of texts whose classes, by label, are not the manifest's."""
    expected = read_parquet(manifest, "label", "class_name").unique().sort("label")["class_name"]
    if len(class_names) != len(expected):
        raise FeatureError(
            f"{path}: expected {len(expected)} classes, as in {manifest}, found "
            f"{len(class_names)}. {AGAIN}"
        )
    for label, (name, found) in enumerate(zip(expected, class_names, strict=True)):
        if name != found:
            raise FeatureError(
                f"{path}: class {label}: expected '{name}', as in {manifest}, found '{found}'"
                f"{show_difference(name, found)}. {AGAIN}"
            )


def read_exif(path: str | Path) -> Exif:
    """Read from the record in a dataset's texts if its images are turned upright."""
    return read_metadata(path).get("exif", "ignore")


def is_tested() -> pl.Expr:
    """Rows of a manifest that are predicted: of a dataset in folds all of them."""
    return pl.col("split").str.contains("^(test|fold)")


def check_test_images(
    paths: Sequence[str | Path], rows: pl.DataFrame, manifest: str | Path
) -> None:
    """Refuse test features whose rows (image, label) are not the manifest's `is_tested` rows."""
    wanted = ["image", "label"]
    expected = read_parquet(manifest, *wanted, "split").filter(is_tested()).select(wanted)
    file = ", ".join(str(path) for path in paths)
    if rows.height != expected.height:
        raise FeatureError(
            f"{file}: expected the {expected.height} test images of {manifest}, found "
            f"{rows.height}. {AGAIN}"
        )
    pairs = zip(expected.iter_rows(), rows.select(wanted).iter_rows(), strict=True)
    for (image, label), (found, found_label) in pairs:
        if (image, label) != (found, found_label):
            raise FeatureError(
                f"{file}: expected {image} with label {label}, as in {manifest}, found {found} "
                f"with label {found_label}. {AGAIN}"
            )


def check_labels(path: str | Path, rows: pl.DataFrame, texts: str | Path, classes: int) -> None:
    """Refuse a file of features with labels beyond the number of classes of its texts."""
    outside = rows.filter(~pl.col("label").is_between(0, classes - 1))
    if not outside.is_empty():
        raise FeatureError(
            f"{path}: {outside['image'][0]}: label {outside['label'][0]}: {texts} has classes "
            f"0 to {classes - 1}. {AGAIN}"
        )

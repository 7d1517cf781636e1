"""Text features in Parquet: one row a class, with what made them in the file's metadata."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from vtclip.features.columns import find_non_finite, to_tensor
from vtclip.features.store import METADATA_KEY, FeatureError, read_metadata
from vtclip.parquet import read_table, write_parquet


def write_texts(
    path: str | Path, class_names: Sequence[str], texts: torch.Tensor, metadata: Mapping[str, Any]
) -> None:
    """Write one text feature a class.

    Args:
        path: the Parquet file.
        class_names: K names, by label.
        texts: (K, D) float32 of unit length.
        metadata: what made them, with the backbone's `logit_scale`.

    Raises:
        FeatureError: a number that is infinite or none at all; with its class.
    """
    place = find_non_finite(texts)
    if place is not None:
        raise FeatureError(
            f"{path}: the text of class '{class_names[place[0]]}': {texts[place].item()} is no "
            "finite number."
        )
    table = pa.table(
        {
            "label": pa.array(range(len(class_names)), pa.int32()),
            "class_name": pa.array(class_names, pa.string()),
            "text": pa.FixedSizeListArray.from_arrays(
                pa.array(texts.float().flatten().cpu().numpy()), texts.shape[1]
            ),
        }
    )
    write_parquet(path, table, {METADATA_KEY: json.dumps(dict(metadata)).encode()})


def read_texts(path: str | Path) -> tuple[torch.Tensor, dict[str, Any]]:
    """The text features (K, D) float32 by label, and what made them.

    Raises:
        FeatureError: the file is no file of text features, or its rows are not in order.
    """
    metadata = read_metadata(path)
    table = read_table(path, "label", "text")
    labels = table["label"].to_pylist()
    if labels != list(range(len(labels))):
        raise FeatureError(
            f"{path}: expected the labels 0, 1, 2, ... in order, found {labels[:10]}. "
            "Delete it and run again."
        )
    return to_tensor(table["text"]), metadata


def read_class_names(path: str | Path) -> list[str]:
    """The class names of a file of text features, by label."""
    return read_table(path, "class_name")["class_name"].to_pylist()

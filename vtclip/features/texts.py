"""Text features in Parquet: one row a class, with what made them in the file's metadata."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vtclip.features.columns import find_non_finite, read_columns, to_tensor
from vtclip.features.store import METADATA_KEY, FeatureError, read_metadata
from vtclip.files import writing


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
    with writing(path) as temporary:
        encoded = json.dumps(dict(metadata)).encode()
        pq.write_table(table.replace_schema_metadata({METADATA_KEY: encoded}), temporary)


def read_texts(path: str | Path) -> tuple[torch.Tensor, dict[str, Any]]:
    """The text features (K, D) float32, and what made them."""
    metadata = read_metadata(path)
    return to_tensor(read_columns(path, "text")["text"]), metadata


def read_class_names(path: str | Path) -> list[str]:
    """The class names of a file of text features, by label."""
    return read_columns(path, "class_name")["class_name"].to_pylist()

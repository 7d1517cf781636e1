"""Text features in Parquet: one row a class, with what made them in the file's metadata."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from vtclip.features.columns import find_non_finite, to_tensor
from vtclip.features.store import METADATA_KEY, FeatureError, read_metadata
from vtclip.parquet import read_parquet, read_table, write_parquet
from vtclip.task import Texts


def write_texts(
    path: str | Path,
    class_names: Sequence[str],
    texts: torch.Tensor,
    metadata: Mapping[str, Any],
    *,
    norms: torch.Tensor | None = None,
) -> None:
    """Write one text feature a class.

    Args:
        path: the Parquet file.
        class_names: K names, by label.
        texts: (K, D) float32 of unit length.
        metadata: what made them, with the backbone's `logit_scale`.
        norms: (K,) float32, how long the text means were before they were scaled; left out, 1.

    Raises:
        FeatureError: a number that is infinite or none at all, or a length that is not above 0;
            with its class.
    """
    norms = torch.ones(len(texts)) if norms is None else norms.float().cpu()
    _check_norms(path, class_names, norms)
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
            "norm": pa.array(norms.numpy()),
        }
    )
    write_parquet(path, table, {METADATA_KEY: json.dumps(dict(metadata)).encode()})


def _check_norms(path: str | Path, class_names: Sequence[str], norms: torch.Tensor) -> None:
    for name, norm in zip(class_names, norms.tolist(), strict=True):
        if not 0 < norm < math.inf:
            raise FeatureError(
                f"{path}: the text of class '{name}': expected a length above 0, found {norm}."
            )


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


def read_classes(
    path: str | Path, device: torch.device | str = "cpu"
) -> tuple[Texts, dict[str, Any]]:
    """The classes as methods are given them, and what made them.

    Raises:
        FeatureError: as for `read_texts`.
        DamagedError: a file without lengths, of a version that did not keep them.
    """
    features, metadata = read_texts(path)
    norms = torch.from_numpy(read_parquet(path, "norm")["norm"].to_numpy(writable=True))
    return Texts(features.to(device), metadata["logit_scale"], norms.to(device)), metadata


def read_class_names(path: str | Path) -> list[str]:
    """The class names of a file of text features, by label."""
    return read_table(path, "class_name")["class_name"].to_pylist()

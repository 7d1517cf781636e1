"""Features in Parquet: one row a view, fp16, with what made them in the file's metadata."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vtclip.files import writing

METADATA_KEY = b"vtclip"
ROW_COLUMNS = ("image", "label", "split", "view")


class FeatureError(ValueError):
    """A feature file that is not what its reader needs."""


@dataclass(frozen=True)
class FeatureSet:
    """Features of some views of some images.

    Attributes:
        rows: image, label, split, view; M rows.
        pooled: (M, D) float16.
        spatial: (M, N, D) float16, or None where it was not read.
        metadata: what made them.
    """

    rows: pl.DataFrame
    pooled: torch.Tensor
    spatial: torch.Tensor | None
    metadata: Mapping[str, Any]

    def __len__(self) -> int:
        return self.rows.height

    @property
    def labels(self) -> torch.Tensor:
        """(M,) int64."""
        return torch.from_numpy(self.rows["label"].cast(pl.Int64).to_numpy(writable=True))

    def take(self, rows: Sequence[int]) -> "FeatureSet":
        """The rows with these numbers, in this order."""
        number = torch.as_tensor(rows, dtype=torch.int64)
        spatial = None if self.spatial is None else self.spatial[number]
        return FeatureSet(self.rows[list(rows)], self.pooled[number], spatial, self.metadata)


class FeatureWriter:
    """Writes row groups as they come; use `writing_features` to open one."""

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        self.metadata = dict(metadata)
        self.path = path
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: pl.DataFrame, pooled: torch.Tensor, spatial: torch.Tensor) -> None:
        """Write one row group.

        Args:
            rows: image, label, split, view; B rows.
            pooled: (B, D).
            spatial: (B, N, D).
        """
        columns: dict[str, Any] = {
            "image": rows["image"].to_arrow().cast(pa.string()),
            "label": rows["label"].cast(pl.Int32).to_arrow(),
            "split": rows["split"].to_arrow().cast(pa.string()),
            "view": rows["view"].cast(pl.Int16).to_arrow(),
            "pooled": _to_column(pooled),
            "spatial": _to_column(spatial.flatten(1)),
        }
        table = pa.table(columns)
        if self._writer is None:
            shape = {"tokens": spatial.shape[1], "dim": pooled.shape[1], "width": spatial.shape[2]}
            metadata = json.dumps(self.metadata | shape).encode()
            schema = table.schema.with_metadata({METADATA_KEY: metadata})
            # Half-precision features are noise to a codec: compressing them only costs time.
            self._writer = pq.ParquetWriter(
                self.path, schema, compression="none", use_dictionary=["image", "split"]
            )
        self._writer.write_table(table)

    def close(self) -> None:
        """Write the footer.

        Raises:
            FeatureError: nothing was written.
        """
        if self._writer is None:
            raise FeatureError(f"{self.path}: there are no images to write features of.")
        self._writer.close()


@contextmanager
def writing_features(path: str | Path, metadata: Mapping[str, Any]) -> Iterator[FeatureWriter]:
    """Open a feature file for writing; it gets its name when the block has ended well.

    Args:
        path: the Parquet file.
        metadata: what makes the features (backbone, pretrained, weights_sha256, spatial,
            image_size, ...); the shapes are added.
    """
    with writing(path) as temporary:
        writer = FeatureWriter(temporary, metadata)
        yield writer
        writer.close()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What made a feature file, and its shapes (tokens N, dim D, width of a spatial token).

    Raises:
        FeatureError: the file is no feature file.
    """
    found = (pq.read_schema(path).metadata or {}).get(METADATA_KEY)
    if found is None:
        raise FeatureError(
            f"{path}: not a feature file: its metadata has no '{METADATA_KEY.decode()}'."
        )
    return json.loads(found)


def read_features(path: str | Path, *, spatial: bool = True) -> FeatureSet:
    """Read a whole feature file.

    Args:
        path: the Parquet file.
        spatial: whether to read the spatial features too; they are most of the file.
    """
    batches = list(stream_features(path, spatial=spatial))
    return FeatureSet(
        pl.concat([batch.rows for batch in batches]),
        torch.cat([batch.pooled for batch in batches]),
        torch.cat([batch.spatial for batch in batches if batch.spatial is not None])
        if spatial
        else None,
        batches[0].metadata,
    )


def stream_features(path: str | Path, *, spatial: bool = True) -> Iterator[FeatureSet]:
    """Read a feature file one row group at a time.

    Raises:
        FeatureError: the file is no feature file.
    """
    metadata = read_metadata(path)
    columns = [*ROW_COLUMNS, "pooled", *(["spatial"] if spatial else [])]
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=columns)
            tokens = None
            if spatial:
                tokens = _to_tensor(table["spatial"]).unflatten(
                    1, (metadata["tokens"], metadata["width"])
                )
            rows = pl.from_arrow(table.select(list(ROW_COLUMNS)))
            assert isinstance(rows, pl.DataFrame)
            yield FeatureSet(rows, _to_tensor(table["pooled"]), tokens, metadata)


def write_texts(
    path: str | Path, class_names: Sequence[str], texts: torch.Tensor, metadata: Mapping[str, Any]
) -> None:
    """Write one text feature a class.

    Args:
        path: the Parquet file.
        class_names: K names, by label.
        texts: (K, D) float32 of unit length.
        metadata: what made them, with the backbone's `logit_scale`.
    """
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
    return _to_tensor(pq.read_table(path, columns=["text"])["text"]), metadata


def _to_column(features: torch.Tensor) -> pa.FixedSizeListArray:
    flat = features.to("cpu", torch.float16).contiguous().numpy().reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), features.shape[1])


def _to_tensor(column: pa.ChunkedArray) -> torch.Tensor:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0)
    values = array.flatten().to_numpy(zero_copy_only=True)
    matrix: np.ndarray = values.reshape(len(array), array.type.list_size)
    return torch.from_numpy(matrix if matrix.flags.writeable else matrix.copy())

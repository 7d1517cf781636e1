"""Features in Parquet: one row a view, fp16, with what made them in the file's metadata.

Spatial features are most of a file. They are stored as fixed-size binary, the bytes of (N, width)
little-endian fp16 in row order: as a list Parquet would keep two levels and an entry for every
single number, and read ten times slower (`benchmarks/store.py`).
"""

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vtclip.files import atomic_write, name_file_in_errors
from vtclip.parquet import SealedWriter, open_verified, read_parquet


def find_non_finite(features: torch.Tensor) -> tuple[int, ...] | None:
    """The place of the first number that is infinite or none at all; None where there is none."""
    if features.dtype == torch.float16 and _all_finite(features):
        return None
    places = torch.nonzero(~torch.isfinite(features))
    return tuple(places[0].tolist()) if len(places) else None


def _all_finite(half: torch.Tensor) -> bool:
    """Whether float16 numbers in main memory are all finite, told from their bits.

    Of the bits of finite numbers those of infinity are the next higher, and NaN's are higher still.
    For 64 images of RN50 this takes 0.3 ms, and `isfinite` 9 to 40 ms: longer than writing them.
    """
    bits = half.contiguous().numpy()
    return bool(bits.view(np.int16).max() < 0x7C00 and bits.view(np.uint16).max() < 0xFC00)


def to_column(features: torch.Tensor) -> pa.FixedSizeListArray:
    """(M, D) as a column of M lists of D float16."""
    flat = features.to("cpu", torch.float16).contiguous().numpy().reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), features.shape[1])


def to_tensor(column: pa.ChunkedArray) -> torch.Tensor:
    """A column of lists of D numbers as (M, D); the memory stays Arrow's."""
    array = _one_chunk(column)
    values = torch.from_dlpack(array.flatten())  # `to_numpy` imports pandas as well
    return values.reshape(len(array), array.type.list_size)


def to_binary(spatial: torch.Tensor) -> pa.FixedSizeBinaryArray:
    """(M, N, width) as a column of M fixed-size binaries of float16."""
    content = spatial.to("cpu", torch.float16).contiguous().numpy()
    kind = pa.binary(content.nbytes // len(content))
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(content), [None, pa.py_buffer(content)])


def from_binary(column: pa.ChunkedArray, shape: tuple[int, int]) -> torch.Tensor:
    """A column of binaries as (M, *shape) float16; the memory stays Arrow's."""
    array = _one_chunk(column)
    size = array.type.byte_width
    content = array.buffers()[1].slice(array.offset * size, len(array) * size)
    numbers = np.frombuffer(content, np.float16).reshape(len(array), *shape)
    with warnings.catch_warnings():  # it belongs to Arrow, and nobody here writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(numbers)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


METADATA_KEY = b"vtclip"
ROW_COLUMNS = ("image", "label", "split", "view")
# What must be the same in files that are used together.
ORIGIN = (
    "backbone", "pretrained", "weights_sha256", "precision", "spatial", "image_size", "tokens",
    "dim", "width",
)  # fmt: skip


class FeatureError(ValueError):
    """A feature file that is not what its reader needs."""


@dataclass(frozen=True)
class FeatureBatch:
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


class FeatureWriter:
    """Writes row groups as they come; use `open_features_writer` to open one."""

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        self.metadata = dict(metadata)
        self.path = path
        self._writer: SealedWriter | None = None

    def write(self, rows: pl.DataFrame, pooled: torch.Tensor, spatial: torch.Tensor) -> None:
        """Write one row group.

        Args:
            rows: image, label, split, view; B rows.
            pooled: (B, D).
            spatial: (B, N, D).

        Raises:
            FeatureError: a number that is none, or that half precision cannot hold; with its image.
        """
        pooled = _to_half(pooled, "pooled", rows)
        spatial = _to_half(spatial, "spatial", rows)
        columns: dict[str, Any] = {
            "image": rows["image"].to_arrow().cast(pa.string()),
            "label": rows["label"].cast(pl.Int32).to_arrow(),
            "split": rows["split"].to_arrow().cast(pa.string()),
            "view": rows["view"].cast(pl.Int16).to_arrow(),
            "pooled": to_column(pooled),
            "spatial": to_binary(spatial),
        }
        table = pa.table(columns)
        if self._writer is None:
            shape = {"tokens": spatial.shape[1], "dim": pooled.shape[1], "width": spatial.shape[2]}
            metadata = json.dumps(self.metadata | shape).encode()
            schema = table.schema.with_metadata({METADATA_KEY: metadata})
            # Half-precision features are noise to a codec: compressing them costs more time than
            # the tenth of the size that it saves is worth.
            self._writer = SealedWriter(
                self.path, schema, compression="none", use_dictionary=["image", "split"]
            )
        self._writer.write(table)

    def close(self) -> None:
        """Write the footer.

        Raises:
            FeatureError: nothing was written.
        """
        if self._writer is None:
            raise FeatureError(f"{self.path}: there are no images to write features of.")
        self._writer.close()


@contextmanager
def open_features_writer(path: str | Path, metadata: Mapping[str, Any]) -> Iterator[FeatureWriter]:
    """Open a feature file for writing; it gets its name when the block has ended well.

    Args:
        path: the Parquet file.
        metadata: what makes the features (backbone, pretrained, weights_sha256, spatial,
            image_size, ...); the shapes are added.
    """
    with atomic_write(path) as temporary:
        writer = FeatureWriter(temporary, metadata)
        yield writer
        writer.close()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What made a feature file, and its shapes (tokens N, dim D, width of a spatial token).

    Raises:
        FeatureError: the file is no feature file.
    """
    with open_verified(path) as file:
        found = (file.schema_arrow.metadata or {}).get(METADATA_KEY)
    if found is None:
        raise FeatureError(
            f"{path}: not a feature file: its metadata has no '{METADATA_KEY.decode()}'."
        )
    return json.loads(found)


class FeatureSet:
    """The features of one or more files, in bounded memory.

    Going through it gives a batch for each row group of the files, read anew each time: one row
    group is in memory.

    Args:
        paths: feature files with the same origin, such as the shards of a test set.
        spatial: whether to read the spatial features too; they are most of a file.

    Raises:
        FeatureError: a file that is no feature file, or one of another origin.
    """

    def __init__(self, paths: Sequence[str | Path], *, spatial: bool = True) -> None:
        self.paths = [Path(path) for path in paths]
        self.spatial = spatial
        self.metadata = read_metadata(self.paths[0])
        for path in self.paths[1:]:
            check_origin(path, read_metadata(path), self.paths[0], self.metadata)
        self.rows = pl.concat([read_parquet(path, *ROW_COLUMNS) for path in self.paths])

    def __len__(self) -> int:
        return self.rows.height

    def __iter__(self) -> Iterator[FeatureBatch]:
        for path in self.paths:
            for _, read in _row_groups(path, self.metadata, self.spatial):
                yield read()

    def take(self, rows: Sequence[int]) -> FeatureBatch:
        """The rows with these numbers, in this order; row groups without any are not read."""
        shape = (len(rows), self.metadata["tokens"], self.metadata["width"])
        pooled = torch.empty(len(rows), self.metadata["dim"], dtype=torch.float16)
        spatial = torch.empty(shape, dtype=torch.float16) if self.spatial else None
        wanted, start = torch.as_tensor(rows, dtype=torch.int64), 0
        for path in self.paths:
            for number, read in _row_groups(path, self.metadata, self.spatial):
                places = torch.nonzero((wanted >= start) & (wanted < start + number))[:, 0]
                if len(places):
                    group = read()
                    # Row by row: an index would first copy them to somewhere else.
                    for place, row in zip(places.tolist(), wanted[places] - start, strict=True):
                        pooled[place] = group.pooled[row]
                        if spatial is not None and group.spatial is not None:
                            spatial[place] = group.spatial[row]
                start += number
        return FeatureBatch(self.rows[list(rows)], pooled, spatial, self.metadata)


def read_features(path: str | Path, *, spatial: bool = True) -> FeatureBatch:
    """Read a whole feature file into memory.

    Args:
        path: the Parquet file.
        spatial: whether to read the spatial features too; they are most of the file.
    """
    return _join(list(FeatureSet([path], spatial=spatial)))


def check_origin(
    path: str | Path, found: Mapping[str, Any], other: str | Path, expected: Mapping[str, Any]
) -> None:
    """Refuse features of another backbone, other weights, another transform or other shapes.

    Args:
        path: the file that is checked.
        found: its metadata.
        other: the file that it must go with.
        expected: that one's metadata.

    Raises:
        FeatureError: with both values of the first key that differs.
    """
    for key in ORIGIN:
        if key in found and key in expected and found[key] != expected[key]:
            raise FeatureError(
                f"{path}: {key}: expected {expected[key]!r}, as in {other}, found {found[key]!r}. "
                "Delete the older of the two and run again."
            )


def _to_half(features: torch.Tensor, column: str, rows: pl.DataFrame) -> torch.Tensor:
    """The features of these rows in main memory and half precision, once they are seen to fit."""
    half = features.to("cpu", torch.float16)
    place = find_non_finite(half)
    if place is None:
        return half
    image, view, value = rows["image"][place[0]], rows["view"][place[0]], features[place].item()
    reason = (
        "is not a number"
        if math.isnan(value)
        else f"does not fit half precision (largest: {torch.finfo(torch.float16).max:.0f})"
    )
    raise FeatureError(f"{image}, view {view}: {column}: {value} {reason}.")


def _row_groups(
    path: Path, metadata: Mapping[str, Any], spatial: bool
) -> Iterator[tuple[int, Callable[[], FeatureBatch]]]:
    """The number of rows of each row group, and what reads it."""
    with open_verified(path) as file:
        for group in range(file.num_row_groups):
            read = partial(_read_group, path, file, group, metadata, spatial)
            yield file.metadata.row_group(group).num_rows, read


def _read_group(
    path: Path, file: pq.ParquetFile, group: int, metadata: Mapping[str, Any], spatial: bool
) -> FeatureBatch:
    columns = [*ROW_COLUMNS, "pooled", *(["spatial"] if spatial else [])]
    with name_file_in_errors(path):
        table = file.read_row_group(group, columns=columns)
    rows = pl.from_arrow(table.select(list(ROW_COLUMNS)).replace_schema_metadata(None))
    assert isinstance(rows, pl.DataFrame)
    shape = (metadata["tokens"], metadata["width"])
    tokens = from_binary(table["spatial"], shape) if spatial else None
    return FeatureBatch(rows, to_tensor(table["pooled"]), tokens, metadata)


def _join(batches: Sequence[FeatureBatch]) -> FeatureBatch:
    spatial = [batch.spatial for batch in batches if batch.spatial is not None]
    return FeatureBatch(
        pl.concat([batch.rows for batch in batches]),
        torch.cat([batch.pooled for batch in batches]),
        torch.cat(spatial) if spatial else None,
        batches[0].metadata,
    )

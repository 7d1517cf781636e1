"""Features in Parquet: one row per view, fp16; the file's metadata say what made them.

Spatial features are most of a file. They are stored as fixed-size binary, the bytes of (N, width)
little-endian fp16 in row order: a list, with two levels and an entry per number, reads ten times
slower (`benchmarks/store.py`).
"""

import json
import math
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

from vtclip.files import atomic_write, name_file_in_errors
from vtclip.parquet import SealedWriter, open_verified, read_metadata_key, read_parquet, to_frame

METADATA_KEY = b"vtclip"
ROW_COLUMNS = ("image", "label", "split", "view")
# Keys of the metadata that must be equal in files that are used together.
ORIGIN = (
    "backbone", "pretrained", "weights_sha256", "precision", "spatial", "image_size", "exif",
    "tokens", "dim", "width",
)  # fmt: skip


class FeatureError(ValueError):
    """A feature file that is not what its reader needs."""


@dataclass(frozen=True)
class FeatureBatch:
    """Features of some views of some images."""

    rows: pl.DataFrame  # image, label, split, view; M rows
    pooled: torch.Tensor  # (M, D) float16
    spatial: torch.Tensor | None  # (M, N, width) float16, or None if not read
    metadata: Mapping[str, Any]  # what made them

    def __len__(self) -> int:
        return self.rows.height

    @property
    def labels(self) -> torch.Tensor:
        """(M,) int64."""
        return torch.from_numpy(self.rows["label"].cast(pl.Int64).to_numpy(writable=True))


class FeatureWriter:
    """Write row groups one by one; `open_features_writer` opens one."""

    def __init__(self, path: Path, metadata: Mapping[str, Any]) -> None:
        self.path, self.metadata = path, dict(metadata)
        self.file: SealedWriter | None = None

    def write(
        self,
        rows: pl.DataFrame,  # image, label, split, view; B rows
        pooled: torch.Tensor,  # (B, D)
        spatial: torch.Tensor,  # (B, N, width)
    ) -> None:
        """Write one row group."""
        columns = {
            "image": rows["image"].to_arrow().cast(pa.string()),
            "label": rows["label"].cast(pl.Int32).to_arrow(),
            "split": rows["split"].to_arrow().cast(pa.string()),
            "view": rows["view"].cast(pl.Int16).to_arrow(),
            "pooled": to_lists(_to_half(pooled, "pooled", rows)),
            "spatial": _to_binary(_to_half(spatial, "spatial", rows)),
        }
        table = pa.table(columns)
        if self.file is None:
            shape = {"tokens": spatial.shape[1], "dim": pooled.shape[1], "width": spatial.shape[2]}
            metadata = json.dumps(self.metadata | shape).encode()
            schema = table.schema.with_metadata({METADATA_KEY: metadata})
            # Compression would save a tenth of the size of half-precision features, and takes
            # more time than that is worth.
            self.file = SealedWriter(
                self.path, schema, compression="none", use_dictionary=["image", "split"]
            )
        self.file.write(table)


@contextmanager
def open_features_writer(path: str | Path, metadata: Mapping[str, Any]) -> Iterator[FeatureWriter]:
    """Open a feature file for writing; it appears when the block has succeeded.

    The metadata are what makes the features (see ORIGIN); the shapes are added.
    """
    with atomic_write(path) as temporary:
        writer = FeatureWriter(temporary, metadata)
        yield writer
        if writer.file is None:
            raise FeatureError(f"{path}: there are no images to write features of.")
        writer.file.close()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Read what made a feature file, and its shapes (tokens N, dim D, width of a spatial token)."""
    found = read_metadata_key(path, METADATA_KEY)
    if found is None:
        raise FeatureError(
            f"{path}: not a feature file: its metadata has no '{METADATA_KEY.decode()}'."
        )
    return json.loads(found)


class FeatureSet:
    """The features of one or more files, of which one row group at a time is in memory.

    Iteration gives a batch for each row group, read again each time.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],  # of the same origin, such as the shards of a test set
        *,
        spatial: bool = True,  # read the spatial features too; they are most of a file
    ) -> None:
        self.paths = [Path(path) for path in paths]
        self.spatial = spatial
        self.metadata = read_metadata(self.paths[0])
        for path in self.paths[1:]:
            check_origin(path, read_metadata(path), self.paths[0], self.metadata)
        self.rows = pl.concat([read_parquet(path, *ROW_COLUMNS) for path in self.paths])

    def __len__(self) -> int:
        return self.rows.height

    def __iter__(self) -> Iterator[FeatureBatch]:
        for path, file, group in self._row_groups():
            yield self._read_group(path, file, group)

    def take(self, rows: Sequence[int]) -> FeatureBatch:
        """Read the rows with these numbers, in this order; row groups without any are skipped."""
        shape = (len(rows), self.metadata["tokens"], self.metadata["width"])
        pooled = torch.empty(len(rows), self.metadata["dim"], dtype=torch.float16)
        spatial = torch.empty(shape, dtype=torch.float16) if self.spatial else None
        wanted, start = torch.as_tensor(rows, dtype=torch.int64), 0
        for path, file, group in self._row_groups():
            size = file.metadata.row_group(group).num_rows
            places = torch.nonzero((wanted >= start) & (wanted < start + size))[:, 0]
            if len(places):
                batch = self._read_group(path, file, group)
                # Row by row: indexing with a tensor would make one more copy first.
                for place, row in zip(places.tolist(), wanted[places] - start, strict=True):
                    pooled[place] = batch.pooled[row]
                    if spatial is not None and batch.spatial is not None:
                        spatial[place] = batch.spatial[row]
            start += size
        return FeatureBatch(self.rows[list(rows)], pooled, spatial, self.metadata)

    def _row_groups(self) -> Iterator[tuple[Path, pq.ParquetFile, int]]:
        """Each file, open, with the number of each of its row groups."""
        for path in self.paths:
            with open_verified(path) as file:
                for group in range(file.num_row_groups):
                    yield path, file, group

    def _read_group(self, path: Path, file: pq.ParquetFile, group: int) -> FeatureBatch:
        columns = [*ROW_COLUMNS, "pooled", *(["spatial"] if self.spatial else [])]
        with name_file_in_errors(path):  # pages have checksums
            table = file.read_row_group(group, columns=columns)
        shape = (self.metadata["tokens"], self.metadata["width"])
        spatial = _from_binary(table["spatial"], shape) if self.spatial else None
        rows = to_frame(table.select(list(ROW_COLUMNS)))
        return FeatureBatch(rows, to_tensor(table["pooled"]), spatial, self.metadata)


def check_origin(
    path: str | Path, found: Mapping[str, Any], other: str | Path, expected: Mapping[str, Any]
) -> None:
    """Refuse the file at `path`, with the metadata `found`, if `other` was made otherwise.

    That is by another backbone, other weights, another transform, or with other shapes.
    """
    for key in ORIGIN:
        if key in found and key in expected and found[key] != expected[key]:
            raise FeatureError(
                f"{path}: {key}: expected {expected[key]!r}, as in {other}, found {found[key]!r}. "
                "Delete the older of the two and run again."
            )


def find_non_finite(features: torch.Tensor) -> tuple[int, ...] | None:
    """Place of the first number that is infinite or NaN; None if all are finite."""
    if features.dtype == torch.float16:
        # Infinity's bits are the next after those of the largest number, and NaN's are higher
        # still. For 64 images of RN50: 0.3 ms; `isfinite` takes 9 to 40 ms, longer than writing.
        bits = features.contiguous().numpy()
        if bits.view(np.int16).max() < 0x7C00 and bits.view(np.uint16).max() < 0xFC00:
            return None
    places = torch.nonzero(~torch.isfinite(features))
    return tuple(places[0].tolist()) if len(places) else None


def _to_half(features: torch.Tensor, column: str, rows: pl.DataFrame) -> torch.Tensor:
    """Convert features to half precision in main memory; refuse numbers that do not fit."""
    half = features.half().cpu()  # `to("cpu", torch.float16)` would copy first: more bytes
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


def to_lists(numbers: torch.Tensor) -> pa.FixedSizeListArray:
    """Convert (M, D) to a column of M lists of D."""
    flat = pa.array(numbers.contiguous().numpy().reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, numbers.shape[1])


def to_tensor(column: pa.ChunkedArray) -> torch.Tensor:
    """Convert a column of lists of D numbers to (M, D), in Arrow's memory."""
    array = _one_chunk(column)
    values = torch.from_dlpack(array.flatten())  # `to_numpy` imports pandas as well
    return values.reshape(len(array), array.type.list_size)


def _to_binary(half: torch.Tensor) -> pa.FixedSizeBinaryArray:
    """Convert (M, N, width) float16 to a column of M fixed-size binaries."""
    content = half.contiguous().numpy()
    kind = pa.binary(content.nbytes // len(content))
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(content), [None, pa.py_buffer(content)])


def _from_binary(column: pa.ChunkedArray, shape: tuple[int, int]) -> torch.Tensor:
    """Convert a column of binaries to (M, *shape) float16, in Arrow's memory."""
    array = _one_chunk(column)
    size = array.type.byte_width
    content = array.buffers()[1].slice(array.offset * size, len(array) * size)
    numbers = pa.Array.from_buffers(pa.float16(), content.size // 2, [None, content])
    return torch.from_dlpack(numbers).reshape(len(array), *shape)


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

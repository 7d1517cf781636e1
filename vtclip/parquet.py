"""Parquet files that are verified when they are read.

Parquet's own checksums protect the pages of data. The footer (names, types, places of pages,
metadata) has none, so it contains a seal: its SHA-256, computed with zeros in the seal's place.
Files without a seal, of other programs, are read as they are.
"""

# Two other ways were tried. A SHA-256 in the receipt would need a receipt for each file of shots,
# history and tables, and a pass over gigabytes of features to open them. A checksum of what pyarrow
# reads from the footer (schema, metadata, number of rows) lets 3 of 17,760 flipped bits of a small
# footer give another table.

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from vtclip.files import BLANK, MARK, atomic_write, digest_around, name_file_in_errors, seal
from vtclip.wording import count


class SealedWriter:
    """Write a table by row groups, and seal its footer."""

    def __init__(self, path: Path, schema: pa.Schema, **options: Any) -> None:
        self._path = path
        self._writer = pq.ParquetWriter(path, schema, write_page_checksum=True, **options)

    def write(self, table: pa.Table) -> None:
        """Write one row group."""
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def close(self) -> None:
        """Write the footer, and seal it."""
        self._writer.add_key_value_metadata({"seal": MARK + BLANK})
        self._writer.close()
        seal(self._path, start=self._path.stat().st_size - len(_read_footer(self._path)))


def write_parquet(
    path: str | Path, table: pl.DataFrame | pa.Table, metadata: Mapping[bytes, bytes] | None = None
) -> None:
    """Write a table with the file's metadata, atomically."""
    if isinstance(table, pl.DataFrame):
        table = table.to_arrow(compat_level=pl.CompatLevel.oldest())
    table = table.replace_schema_metadata(dict(metadata or {}))
    with atomic_write(path) as temporary:
        writer = SealedWriter(temporary, table.schema, compression="zstd")
        writer.write(table)
        writer.close()


@contextmanager
def open_verified(path: str | Path) -> Iterator[pq.ParquetFile]:
    """Open a file to read from, after a check of its seal."""
    with name_file_in_errors(path):
        footer = _read_footer(Path(path))
        before, found, rest = footer.partition(MARK.encode())
        digits = digest_around(footer, len(before + found))
        if found and rest[: len(BLANK)] != digits.encode():
            raise ValueError("its footer is not the one that was written")
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file


def read_metadata_key(path: str | Path, key: bytes) -> bytes | None:
    """Read one value of a file's metadata; None if it has no such key."""
    with open_verified(path) as file:
        return (file.schema_arrow.metadata or {}).get(key)


def read_table(path: str | Path, *columns: str) -> pa.Table:
    """Read some columns of a file, or all of them."""
    # `pq.read_table` imports pandas if it is installed: a third of a second in each job.
    with open_verified(path) as file:
        names = file.schema_arrow.names
        missing = [name for name in columns if name not in names]
        marked = bool(missing) and "watermark" in names
        if missing and not marked:
            raise ValueError(f"it has no column '{missing[0]}'")
        table = file.read(columns=["watermark"] if marked else list(columns) or None)
    if marked:  # an oracle's file: whole, but no result
        raise ValueError(f"{path}: {table['watermark'][0]}")
    return table


def read_parquet(path: str | Path, *columns: str) -> pl.DataFrame:
    """Read some columns of a file, or all of them, as a data frame of polars."""
    return to_frame(read_table(path, *columns))


def to_frame(table: pa.Table) -> pl.DataFrame:
    """Convert a table; its metadata is dropped, as polars reads it as UTF-8 and it may not be."""
    frame = pl.from_arrow(table.replace_schema_metadata(None))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _read_footer(path: Path) -> bytes:
    """Read the footer of a Parquet file, to the file's end."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < 12:
            raise ValueError(f"it has {count(size, 'byte')}")
        file.seek(size - 8)  # the footer's length, then the letters PAR1
        length = int.from_bytes(file.read(4), "little") + 8
        if length > size:
            raise ValueError("its end is missing")
        file.seek(size - length)
        return file.read()

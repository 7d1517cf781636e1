"""Parquet files that are seen to be whole when they are read.

Parquet keeps a checksum of every page of data, where it is asked to. All else stands in the file's
footer: names, types, numbers of rows, metadata. A SHA-256 of the footer, the seal, stands in the
footer itself, where it is counted as zeros. A file without a seal, which another program wrote, is
read as it is.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from vtclip.files import atomic_write, name_file_in_errors

SEAL = b"vtclip-seal:"  # stands before it
BLANK = b"0" * 64


class SealedWriter:
    """Writes a table by row groups.

    Args:
        path: the file.
        schema: names, types and metadata of the table.
        options: further arguments of `pyarrow.parquet.ParquetWriter`.
    """

    def __init__(self, path: Path, schema: pa.Schema, **options: Any) -> None:
        self._path = path
        self._writer = pq.ParquetWriter(path, schema, write_page_checksum=True, **options)

    def write(self, table: pa.Table) -> None:
        """Write one row group."""
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def close(self) -> None:
        """Write the footer, and seal it."""
        self._writer.add_key_value_metadata({"seal": (SEAL + BLANK).decode()})
        self._writer.close()
        start, footer = _read_footer(self._path)
        place = footer.index(SEAL) + len(SEAL)
        with self._path.open("r+b") as file:
            file.seek(start + place)
            file.write(hashlib.sha256(footer).hexdigest().encode())


def write_parquet(
    path: str | Path,
    table: pl.DataFrame | pa.Table,
    metadata: Mapping[bytes, bytes] | None = None,
) -> None:
    """Write a table, atomically.

    Args:
        path: the file.
        table: what to write.
        metadata: for the whole file.
    """
    if isinstance(table, pl.DataFrame):
        table = table.to_arrow(compat_level=pl.CompatLevel.oldest())
    table = table.replace_schema_metadata(dict(metadata or {}))
    with atomic_write(path) as temporary:
        writer = SealedWriter(temporary, table.schema, compression="zstd")
        writer.write(table)
        writer.close()


@contextmanager
def open_verified(path: str | Path) -> Iterator[pq.ParquetFile]:
    """A file to read from, once its seal is seen to be right.

    Raises:
        DamagedError: the file is damaged or cut short, also where that shows only in the block.
    """
    with name_file_in_errors(path):
        _check_seal(Path(path))
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file


def read_table(path: str | Path, *columns: str) -> pa.Table:
    """Some columns of a file, or all of them.

    Raises:
        DamagedError: the file is damaged or cut short, or has no such column.
    """
    # `pq.read_table` imports pandas where it is installed, a third of a second each job.
    with open_verified(path) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise ValueError(f"it has no column '{missing[0]}'")
        return file.read(columns=list(columns) or None)


def read_parquet(path: str | Path, *columns: str) -> pl.DataFrame:
    """The same as a data frame of polars."""
    # polars has no place for metadata, and takes none that is not UTF-8.
    frame = pl.from_arrow(read_table(path, *columns).replace_schema_metadata(None))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _check_seal(path: Path) -> None:
    _, footer = _read_footer(path)
    place = footer.find(SEAL) + len(SEAL)
    if place < len(SEAL):
        return
    seal, end = footer[place : place + len(BLANK)], place + len(BLANK)
    if seal != hashlib.sha256(footer[:place] + BLANK + footer[end:]).hexdigest().encode():
        raise ValueError("its footer is not the one that was written")


def _read_footer(path: Path) -> tuple[int, bytes]:
    """Where the footer of a Parquet file begins, and its bytes to the file's end."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < 12:
            raise ValueError(f"it has {size} bytes")
        file.seek(size - 8)  # the footer's length, then the letters PAR1
        length = int.from_bytes(file.read(4), "little") + 8
        if length > size:
            raise ValueError("its end is missing")
        file.seek(size - length)
        return size - length, file.read()

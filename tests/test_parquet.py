"""Parquet files that are seen to be whole when they are read."""

import random

import polars as pl
import pyarrow as pa
import pytest

from vtclip.files import DamagedError
from vtclip.parquet import open_verified, read_parquet, write_parquet

METADATA = {b"vtclip": b'{"logit_scale": 100.0}'}


@pytest.fixture
def table():
    lists = [[row, row + 1] for row in range(40)]
    return pl.DataFrame(
        {
            "image": [f"a/{row}.png" for row in range(40)],
            "label": pl.Series(range(40), dtype=pl.Int32),
            "x": [row / 7 for row in range(40)],
            "top": pl.Series(lists, dtype=pl.List(pl.Int32)),
        }
    )


def read_all(path):
    with open_verified(path) as file:
        metadata = dict(file.schema_arrow.metadata.items())
        return pl.from_arrow(file.read().replace_schema_metadata(None)), metadata


def test_a_table_comes_back_with_its_types_and_metadata(table, tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet(path, table, METADATA)
    found, metadata = read_all(path)
    assert found.equals(table)
    assert found.schema == table.schema
    assert metadata[b"vtclip"] == METADATA[b"vtclip"]
    assert read_parquet(path, "label", "x").columns == ["label", "x"]


def test_an_empty_table_and_one_of_arrow_come_back(table, tmp_path):
    write_parquet(tmp_path / "empty.parquet", table.clear())
    assert read_parquet(tmp_path / "empty.parquet").equals(table.clear())
    write_parquet(tmp_path / "arrow.parquet", pa.table({"label": [1, 2]}))
    assert read_parquet(tmp_path / "arrow.parquet")["label"].to_list() == [1, 2]


def test_no_flipped_bit_gives_another_table_or_other_metadata(table, tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet(path, table, METADATA)
    whole, content = read_all(path), path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    draw = random.Random(0)
    places = draw.sample(range(8 * footer), 300) + draw.sample(
        range(8 * footer, 8 * len(content)), 700
    )
    refused = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        refusal = None
        try:
            found, metadata = read_all(path)
        except DamagedError as error:
            refusal = str(error)
        if refusal is not None:
            assert str(path) in refusal
            assert "Delete it and run again" in refusal
            refused += 1
        else:
            assert found.equals(whole[0]), place
            assert found.schema == whole[0].schema
            assert metadata[b"vtclip"] == METADATA[b"vtclip"], place
    assert refused > len(places) / 2


@pytest.mark.parametrize("length", [0, 3, 100, -1])
def test_a_file_cut_short_is_refused_by_name(table, tmp_path, length):
    path = tmp_path / "table.parquet"
    write_parquet(path, table)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DamagedError, match=r"table\.parquet: the file is damaged"):
        read_parquet(path)


def test_a_column_that_is_not_there_is_named(table, tmp_path):
    path = tmp_path / "table.parquet"
    write_parquet(path, table)
    with pytest.raises(DamagedError, match="no column 'split'"):
        read_parquet(path, "label", "split")


def test_a_file_that_is_not_there_is_no_damaged_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_parquet(tmp_path / "table.parquet")


def test_a_file_of_another_program_is_read_as_it_is(table, tmp_path):
    table.write_parquet(tmp_path / "other.parquet")
    assert read_parquet(tmp_path / "other.parquet").equals(table)

import subprocess
import sys

import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from tests.feature_files import read_features
from vtclip.features.store import (
    FeatureError,
    FeatureSet,
    check_origin,
    find_non_finite,
    open_features_writer,
    read_metadata,
)
from vtclip.features.texts import write_texts
from vtclip.files import DamagedError


def rows(number, start=0):
    return pl.DataFrame(
        {
            "image": [f"{start + row}.png" for row in range(number)],
            "label": list(range(number)),
            "split": ["train"] * number,
            "view": [0] * number,
        }
    )


@pytest.fixture
def written(tmp_path):
    """A file of two row groups, and what went into it."""
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(7, 8, generator=generator).half()
    spatial = torch.randn(7, 3, 6, generator=generator).half()
    path = tmp_path / "features.parquet"
    with open_features_writer(path, {"backbone": "small"}) as writer:
        writer.write(rows(4), pooled[:4], spatial[:4])
        writer.write(rows(3, start=4), pooled[4:], spatial[4:])
    return path, pooled, spatial


def test_features_come_back_bit_for_bit(written):
    path, pooled, spatial = written
    features = read_features(path)
    assert torch.equal(features.pooled, pooled)
    assert torch.equal(features.spatial, spatial)
    assert features.rows["image"].to_list() == [f"{row}.png" for row in range(7)]


def test_the_file_has_the_schema_that_the_documentation_promises(written):
    schema = pq.read_schema(written[0])
    assert schema.names == ["image", "label", "split", "view", "pooled", "spatial"]
    assert str(schema.field("pooled").type).startswith("fixed_size_list<")
    assert "halffloat" in str(schema.field("pooled").type)
    assert str(schema.field("spatial").type) == "fixed_size_binary[36]"  # 3 x 6 numbers of 2 bytes


def test_the_metadata_contain_what_made_the_features_and_their_shapes(written):
    assert read_metadata(written[0]) == {"backbone": "small", "tokens": 3, "dim": 8, "width": 6}


def test_streaming_gives_one_row_group_at_a_time(written):
    features = FeatureSet([written[0]])
    for _ in range(2):
        assert [len(batch) for batch in features] == [4, 3]


def test_spatial_features_are_read_only_if_requested(written):
    assert read_features(written[0], spatial=False).spatial is None


def test_taken_rows_keep_their_order(written):
    path, pooled, spatial = written
    taken = FeatureSet([path]).take([5, 0, 6])
    assert taken.rows["image"].to_list() == ["5.png", "0.png", "6.png"]
    assert torch.equal(taken.pooled, pooled[[5, 0, 6]])
    assert torch.equal(taken.spatial, spatial[[5, 0, 6]])


def test_a_damaged_page_is_an_error_that_names_the_file(written):
    path, _, spatial = written
    content = path.read_bytes()
    place = content.index(spatial[5].numpy().tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    for read in (list, lambda found: found.take([6])):
        with pytest.raises(DamagedError, match=r"features\.parquet"):
            read(FeatureSet([path]))


def test_shards_are_one_set_in_order(written, tmp_path):
    path, pooled, spatial = written
    other = tmp_path / "other.parquet"
    with open_features_writer(other, {"backbone": "small"}) as writer:
        writer.write(rows(2, start=7), pooled[:2], spatial[:2])
    features = FeatureSet([path, other])
    assert len(features) == 9
    assert torch.equal(features.take([8, 3]).pooled, pooled[[1, 3]])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("backbone", "large"), ("spatial", "raw"), ("image_size", 288), ("weights_sha256", "ab"),
        ("precision", "float16"),
    ],
)  # fmt: skip
def test_files_of_another_origin_are_refused_with_both_values(written, tmp_path, key, value):
    _, pooled, spatial = written
    origin = {
        "backbone": "small", "spatial": "projected", "image_size": 224, "weights_sha256": "a",
        "precision": "float32",
    }  # fmt: skip
    for name, changes in (("one", {}), ("other", {key: value})):
        with open_features_writer(tmp_path / name, origin | changes) as writer:
            writer.write(rows(2), pooled[:2], spatial[:2])
    with pytest.raises(FeatureError, match=f"other: {key}: expected {origin[key]!r}.*{value!r}"):
        FeatureSet([tmp_path / "one", tmp_path / "other"])


def test_the_shapes_are_compared_and_what_one_of_two_files_does_not_record_is_not(written):
    metadata = read_metadata(written[0])
    with pytest.raises(FeatureError, match="tokens: expected 50, as in b, found 3"):
        check_origin("a", metadata, "b", metadata | {"tokens": 50})
    check_origin("a", metadata, "b", metadata | {"precision": "float32"})


@pytest.mark.parametrize("column", ["pooled", "spatial"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (70123.0, r"70123\.0 does not fit half precision \(largest: 65504\)"),
        (-70123.0, r"-70123\.0 does not fit half precision"),
        (float("inf"), "inf does not fit half precision"),
        (float("nan"), "nan is not a number"),
    ],
)
def test_a_number_that_half_precision_cannot_represent_is_refused_with_its_image_and_view(
    tmp_path, column, value, expected
):
    features = {"pooled": torch.zeros(4, 8), "spatial": torch.zeros(4, 3, 6)}
    features[column][2].view(-1)[5] = value
    views = rows(4).with_columns(view=pl.int_range(4))
    with (
        pytest.raises(FeatureError, match=rf"^2\.png, view 2: {column}: {expected}"),
        open_features_writer(tmp_path / "features.parquet", {}) as writer,
    ):
        writer.write(views, **features)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sign", [0, 0x8000])
def test_infinity_and_every_nan_differ_from_finite_numbers_in_their_bits(sign):
    bits = [sign + size for size in (0, 1, 0x3C00, 0x7BFF, 0x7C00, 0x7C01, 0x7E00, 0x7FFF)]
    half = torch.tensor(bits, dtype=torch.int32).to(torch.int16).view(torch.float16)
    assert [find_non_finite(half[place : place + 1]) for place in range(8)] == 4 * [None] + 4 * [
        (0,)
    ]
    assert find_non_finite(half) == (4,)


def test_the_largest_numbers_of_half_precision_are_written(tmp_path):
    path, largest = tmp_path / "features.parquet", torch.finfo(torch.float16).max
    with open_features_writer(path, {}) as writer:
        writer.write(rows(2), torch.full((2, 4), largest), torch.full((2, 3, 4), -largest))
    assert read_features(path).pooled.unique().tolist() == [largest]


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_text_that_is_no_finite_number_is_refused_with_its_class(tmp_path, value):
    texts = torch.zeros(2, 4)
    texts[1, 3] = value
    with pytest.raises(FeatureError, match=f"class 'dog': {value} is no finite number"):
        write_texts(tmp_path / "texts.parquet", ["cat", "dog"], texts, {})
    assert list(tmp_path.iterdir()) == []


def test_a_failed_extraction_leaves_no_file(tmp_path):
    path = tmp_path / "features.parquet"
    with pytest.raises(RuntimeError), open_features_writer(path, {}) as writer:
        writer.write(rows(2), torch.zeros(2, 4), torch.zeros(2, 3, 4))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_no_images_at_all_is_an_error(tmp_path):
    with pytest.raises(FeatureError, match="no images"), open_features_writer(tmp_path / "f", {}):
        pass


def test_another_parquet_file_is_refused_by_name(tmp_path):
    rows(2).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(FeatureError, match=r"other\.parquet: not a feature file"):
        read_features(tmp_path / "other.parquet")


MEASURE = """
import resource, sys
from vtclip.features.store import FeatureSet
print(sum(len(batch) for batch in FeatureSet([sys.argv[1]])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_reading_ten_times_as_many_rows_takes_no_more_memory(tmp_path):
    """Within a tenth; the larger file alone is half as large as the whole process."""
    peaks = []
    spatial = torch.zeros(50, 50, 512, dtype=torch.float16)
    for number in (5, 50):
        path = tmp_path / f"{number}.parquet"
        with open_features_writer(path, {}) as writer:
            for batch in range(number):
                writer.write(rows(50, start=50 * batch), spatial[:, 0], spatial)
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path)], check=True, text=True, capture_output=True
        )
        count, peak = map(int, done.stdout.split())
        assert count == 50 * number
        peaks.append(peak)
    assert peaks[1] < 1.1 * peaks[0]

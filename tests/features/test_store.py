import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from vtclip.features.store import (
    FeatureError,
    read_features,
    read_metadata,
    stream_features,
    writing_features,
)


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
    with writing_features(path, {"backbone": "small"}) as writer:
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
    assert "halffloat" in str(schema.field("spatial").type)
    assert schema.field("spatial").type.list_size == 18


def test_the_metadata_tells_what_made_the_features_and_their_shapes(written):
    assert read_metadata(written[0]) == {"backbone": "small", "tokens": 3, "dim": 8, "width": 6}


def test_streaming_gives_one_row_group_at_a_time(written):
    assert [len(batch) for batch in stream_features(written[0])] == [4, 3]


def test_spatial_features_stay_on_disk_where_they_are_not_asked_for(written):
    assert read_features(written[0], spatial=False).spatial is None


def test_taken_rows_keep_their_order(written):
    path, pooled, _ = written
    taken = read_features(path).take([5, 0])
    assert taken.rows["image"].to_list() == ["5.png", "0.png"]
    assert torch.equal(taken.pooled, pooled[[5, 0]])


def test_a_failed_extraction_leaves_no_file(tmp_path):
    path = tmp_path / "features.parquet"
    with pytest.raises(RuntimeError), writing_features(path, {}) as writer:
        writer.write(rows(2), torch.zeros(2, 4), torch.zeros(2, 3, 4))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_no_images_at_all_is_an_error(tmp_path):
    with pytest.raises(FeatureError, match="no images"), writing_features(tmp_path / "f", {}):
        pass


def test_another_parquet_file_is_refused_by_name(tmp_path):
    rows(2).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(FeatureError, match=r"other\.parquet: not a feature file"):
        read_features(tmp_path / "other.parquet")

import math

import pyarrow as pa
import pytest
import torch

from vtclip.features.store import FeatureError
from vtclip.features.texts import read_classes, write_texts
from vtclip.files import DamagedError
from vtclip.parquet import read_table, write_parquet

NAMES, FEATURES = ["cat", "dog"], torch.eye(2, 4)


def test_texts_come_back_with_the_lengths_of_their_means(tmp_path):
    path, norms = tmp_path / "texts.parquet", torch.tensor([0.5, 8.0])
    write_texts(path, NAMES, FEATURES, {"logit_scale": 50.0}, norms=norms)
    texts, metadata = read_classes(path)
    assert torch.equal(texts.features, FEATURES)
    assert torch.equal(texts.norms, norms)
    assert torch.equal(texts.means, torch.tensor([[0.5, 0, 0, 0], [0, 8.0, 0, 0]]))
    assert texts.logit_scale == metadata["logit_scale"] == 50


def test_a_file_that_keeps_no_lengths_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "texts.parquet"
    write_texts(path, NAMES, FEATURES, {"logit_scale": 50.0})
    table = read_table(path)
    old: pa.Table = table.drop_columns("norm")
    write_parquet(path, old, table.schema.metadata)
    with pytest.raises(DamagedError, match=r"texts.parquet.*no column 'norm'.*Delete it and run"):
        read_classes(path)


@pytest.mark.parametrize("norm", [0.0, -1.0, math.inf, math.nan])
def test_a_length_that_none_can_have_is_refused_with_its_class(tmp_path, norm):
    with pytest.raises(FeatureError, match=f"class 'dog': expected a length above 0, found {norm}"):
        write_texts(
            tmp_path / "texts.parquet", NAMES, FEATURES, {}, norms=torch.tensor([1.0, norm])
        )
    assert list(tmp_path.iterdir()) == []


def test_there_is_one_length_a_class(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        write_texts(tmp_path / "texts.parquet", NAMES, FEATURES, {}, norms=torch.ones(1))

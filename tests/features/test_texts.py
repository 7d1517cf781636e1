import math

import pyarrow as pa
import pytest
import torch

from vtclip.features.store import FeatureError
from vtclip.features.texts import read_classes, write_texts
from vtclip.files import DamagedError
from vtclip.parquet import read_table, write_parquet

NAMES, FEATURES = ["cat", "dog"], torch.eye(2, 4)


def test_texts_come_back_with_the_means_and_the_texts_of_all_templates(tmp_path):
    path, means = tmp_path / "texts.parquet", torch.tensor([[0.5, 0, 0, 0], [0, 8.0, 0, 0]])
    prompts = torch.arange(24.0).reshape(2, 3, 4)
    write_texts(path, NAMES, FEATURES, {"logit_scale": 50.0}, means=means, prompts=prompts)
    texts, metadata = read_classes(path)
    assert torch.equal(texts.features, FEATURES)
    assert torch.equal(texts.means, means)
    assert torch.equal(texts.prompts, prompts)
    assert texts.logit_scale == metadata["logit_scale"] == 50


def test_a_file_without_means_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "texts.parquet"
    write_texts(path, NAMES, FEATURES, {"logit_scale": 50.0})
    table = read_table(path)
    old: pa.Table = table.drop_columns("mean")
    write_parquet(path, old, table.schema.metadata)
    with pytest.raises(DamagedError, match=r"texts.parquet.*no column 'mean'.*Delete it and run"):
        read_classes(path)


@pytest.mark.parametrize("norm", [0.0, math.inf, math.nan])
def test_a_length_that_none_can_have_is_refused_with_its_class(tmp_path, norm):
    with pytest.raises(FeatureError, match=f"class 'dog': expected a length above 0, found {norm}"):
        means = FEATURES * torch.tensor([[1.0], [norm]])
        write_texts(tmp_path / "texts.parquet", NAMES, FEATURES, {}, means=means.nan_to_num(norm))
    assert list(tmp_path.iterdir()) == []

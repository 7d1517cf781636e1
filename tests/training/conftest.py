"""Texts and features of a run on disk, and a training on them."""

import json

import polars as pl
import pytest
import torch

from vtclip.features.store import open_features_writer
from vtclip.features.texts import write_texts
from vtclip.training.tasks import Sources
from vtclip.training.train import train_head

CPU = torch.device("cpu")


@pytest.fixture
def on_disk(tmp_path, task):
    """Texts, and the features of a run: one training and one validation image a class."""
    write_texts(
        tmp_path / "texts.parquet", list("abcd"), task.texts.features, {"logit_scale": 50.0}
    )
    picked = [9, 0, 6, 3]  # in an order of their own
    images = {
        split: pl.DataFrame(
            {"image": [f"{split}{row}.png" for row in picked], "label": task.train.labels[picked]},
            schema_overrides={"label": pl.Int32},
        ).with_columns(split=pl.lit(split))
        for split in ("train", "val")
    }
    views = pl.DataFrame({"view": [0, 1]})
    rows = pl.concat(
        [
            images["train"].join(views, how="cross", maintain_order="left_right"),
            images["val"].with_columns(view=pl.lit(0, pl.Int64)),
        ]
    )
    pooled = [shots.pooled[picked].flatten(0, 1) for shots in (task.train, task.val)]
    spatial = [shots.spatial[picked].flatten(0, 1) for shots in (task.train, task.val)]
    with open_features_writer(tmp_path / "features.parquet", {"backbone": "small"}) as writer:
        writer.write(rows, torch.cat(pooled), torch.cat(spatial))
    return tmp_path


def train(
    folder, method="vt_clip", settings=None, *, few_shot=True, sample=None, dataset="", **options
):
    features = [folder / "features.parquet"] if few_shot else []
    sources = Sources(folder / "texts.parquet", features, sample=sample, dataset=dataset)
    options = {"shots": 1, "seed": 1, "device": CPU} | options
    train_head(method, settings or {}, sources, folder / "run", **options)
    return json.loads((folder / "run" / "run.json").read_text())

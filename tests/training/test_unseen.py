"""Heads never see the test images, not even where they lie in the file that training reads."""

import json

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from tests.methods.short import OF_FEATURES, short_settings
from vtclip.backbones.prompts import TextTower
from vtclip.features.store import open_features_writer
from vtclip.features.texts import write_texts
from vtclip.methods import METHODS
from vtclip.training.tasks import Sources
from vtclip.training.train import train_head

NAMES = ["ant", "bear", "cow", "dog"]


@pytest.fixture
def write(tmp_path, backbone):
    """Writes texts and the features of a run, with test images among them."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat_interleave(2)
    rows = pl.concat(
        pl.DataFrame(
            {
                "image": [f"{split}{number}.png" for number in range(8) for _ in range(views)],
                "label": labels.repeat_interleave(views).numpy(),
                "split": split,
                "view": list(range(views)) * 8,
            },
            schema_overrides={"label": pl.Int32, "view": pl.Int64},
        )
        for split, views in (("test", 1), ("train", 2), ("val", 1))
    )
    pooled = torch.randn(len(rows), 64, generator=generator)
    spatial = torch.randn(len(rows), 3, 64, generator=generator)

    def write(name, test_labels):
        folder = tmp_path / name
        folder.mkdir()
        texts = backbone.encode_classes(NAMES, ["a photo of a {}."])
        write_texts(folder / "texts.parquet", NAMES, texts, {"logit_scale": 100.0})
        of_test = pl.Series(test_labels, dtype=pl.Int32)
        label = pl.concat([of_test, rows["label"][8:]])
        with open_features_writer(folder / "features.parquet", {}) as writer:
            writer.write(rows.with_columns(label=label), pooled, spatial)
        return folder

    return write


@pytest.mark.parametrize("name", [name for name in OF_FEATURES if METHODS[name].few_shot])
def test_swapped_test_labels_change_no_head_and_no_setting(name, write, backbone):
    tower = TextTower(backbone) if METHODS[name].reads_text_tower else None
    projection = (torch.eye(64), torch.zeros(64)) if METHODS[name].reads_projection else None
    found = []
    for folder in (write("right", [0, 0, 1, 1, 2, 2, 3, 3]), write("wrong", [3] * 8)):
        train_head(
            name, short_settings(name).model_dump(mode="json"),
            Sources(
                folder / "texts.parquet", [folder / "features.parquet"], tower=tower,
                projection=projection,
            ),
            folder / "run", shots=2, seed=1, device=torch.device("cpu"),
        )  # fmt: skip
        run = json.loads((folder / "run" / "run.json").read_text())
        head = load_file(folder / "run" / "head.safetensors")
        found.append((head, run["settings"], run["val_accuracy"]))
    (right, *its_settings), (wrong, *other_settings) = found
    assert its_settings == other_settings
    assert right.keys() == wrong.keys()
    assert all(torch.equal(right[key], wrong[key]) for key in right)

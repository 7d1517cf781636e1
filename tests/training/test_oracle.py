"""Oracles: never worse than a fair head on the images they chose on, and never taken for one."""

import json
import shutil

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.conftest import CPU
from vtclip.backbones.checkpoints import read_checkpoint
from vtclip.features.store import open_features_writer
from vtclip.files import sha256_of
from vtclip.inference.runs import read_saved
from vtclip.parquet import read_parquet
from vtclip.results.tables import read_accuracies
from vtclip.tensors import MARKED, WATERMARK, read_head
from vtclip.training.oracle import train_oracle
from vtclip.training.predict import TrainedHead, predict_test
from vtclip.training.tasks import Sources
from vtclip.training.train import train_head

METHOD = "tip_adapter"


@pytest.fixture
def run(on_disk, task):
    """A fair head, its predictions, and an oracle of the same run."""
    labels = task.train.labels
    rows = pl.DataFrame(
        {"image": [f"test{n}.png" for n in range(len(labels))], "label": labels.numpy()},
        schema_overrides={"label": pl.Int32},
    ).with_columns(split=pl.lit("test"), view=pl.lit(0, pl.Int64))
    torch.manual_seed(0)
    noisy = task.train.pooled[:, 0] + 0.8 * torch.randn_like(task.train.pooled[:, 0])
    with open_features_writer(on_disk / "test.parquet", {"backbone": "small"}) as writer:
        writer.write(rows, noisy, task.train.spatial[:, 0])
    texts, features = on_disk / "texts.parquet", on_disk / "features.parquet"
    sources = Sources(texts, [features])
    train_head(METHOD, {}, sources, on_disk / "fair", shots=1, seed=1, device=CPU)
    head, predictions = on_disk / "fair/head.safetensors", on_disk / "fair.parquet"
    predict_test(
        METHOD, {}, texts, [TrainedHead(1, 1, head)], [on_disk / "test.parquet"], predictions,
        device=CPU,
    )  # fmt: skip
    (on_disk / "oracle").mkdir()
    train_oracle(
        METHOD, {}, sources, [on_disk / "test.parquet"], [(head, predictions)],
        on_disk / "oracle/oracle.safetensors", shots=1, seed=1, device=CPU,
    )  # fmt: skip
    return on_disk


def test_an_oracle_is_at_least_as_good_as_the_fair_head_on_the_test_images(run):
    record = json.loads((run / "oracle/oracle.json").read_text())
    assert record["test_accuracy"] >= read_accuracies(run / "fair.parquet")["accuracy"][0]


def test_an_oracle_can_read_the_projection(run, task):
    (run / "second").mkdir()
    sources = Sources(run / "texts.parquet", [run / "features.parquet"], projection=task.projection)
    train_oracle(
        "prolip", {"steps": 2}, sources, [run / "test.parquet"], [],
        run / "second/oracle.safetensors", shots=1, seed=1, device=CPU,
    )  # fmt: skip
    assert f"{MARKED}weight" in load_file(run / "second/oracle.safetensors")


def test_head_record_and_predictions_have_the_watermark(run):
    assert json.loads((run / "oracle/oracle.json").read_text())["watermark"] == WATERMARK
    assert all(name.startswith(MARKED) for name in load_file(run / "oracle/oracle.safetensors"))
    predictions = read_parquet(run / "oracle/predictions.parquet")
    assert predictions["watermark"].unique().to_list() == [WATERMARK]


def test_an_oracles_head_that_is_copied_over_a_fair_one_is_refused(run):
    shutil.copy(run / "oracle/oracle.safetensors", run / "fair/head.safetensors")
    shutil.copy(run / "oracle/oracle.json", run / "fair/run.json")
    with pytest.raises(ValueError, match="ORACLE: chosen on the test images"):
        read_head(run / "fair/head.safetensors")
    with pytest.raises(ValueError, match="ORACLE: chosen on the test images"):
        predict_test(
            METHOD, {}, run / "texts.parquet", [TrainedHead(1, 1, run / "fair/head.safetensors")],
            [run / "test.parquet"], run / "again.parquet", device=CPU,
        )  # fmt: skip
    assert not (run / "again.parquet").exists()


def test_the_mark_stays_without_the_metadata(run):
    tensors = load_file(run / "oracle/oracle.safetensors")
    save_file(tensors, run / "fair/head.safetensors")
    record = json.loads((run / "fair/run.json").read_text())
    assert record["sha256"] != sha256_of(run / "fair/head.safetensors")
    with pytest.raises(ValueError, match=r"head.safetensors"):
        read_head(run / "fair/head.safetensors")


@pytest.mark.parametrize("name", ["oracle/oracle.safetensors", "renamed.safetensors"])
def test_an_oracles_file_can_be_neither_classified_with_nor_exported(run, name):
    if not (run / name).exists():
        shutil.copy(run / "oracle/oracle.safetensors", run / name)
    with pytest.raises(ValueError, match="ORACLE: chosen on the test images"):
        read_saved(run / name)
    with pytest.raises(ValueError, match="no head is in this folder"):
        read_saved(run / "oracle")


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt"])
def test_an_oracles_file_is_refused_as_the_weights_of_a_backbone(run, name):
    tensors = load_file(run / "oracle/oracle.safetensors")
    save = torch.save if name.endswith(".pt") else save_file
    save(tensors, run / name)
    with pytest.raises(ValueError, match=rf"{name}: ORACLE: chosen on the test images"):
        read_checkpoint(run / name)


def test_an_oracles_predictions_cannot_be_read_as_those_of_a_method(run):
    with pytest.raises(ValueError, match=r"predictions.parquet: ORACLE: chosen on the test images"):
        read_accuracies(run / "oracle/predictions.parquet")

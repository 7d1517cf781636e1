import polars as pl
import pytest
import torch
from safetensors.torch import save_file
from sklearn.metrics import accuracy_score

from vtclip.features.store import writing_features
from vtclip.features.texts import write_texts
from vtclip.training.predict import Run, predict_test


@pytest.fixture
def folder(tmp_path):
    """Three classes, six test images on two row groups of two files; two linear heads."""
    texts = torch.eye(3, 4)
    write_texts(tmp_path / "texts.parquet", list("abc"), texts, {"logit_scale": 10.0})
    generator = torch.Generator().manual_seed(0)
    for part in range(2):
        rows = pl.DataFrame(
            {
                "image": [f"{part}{row}" for row in range(3)],
                "label": [0, 1, 2],
                "split": "test",
                "view": 0,
            }
        )
        with writing_features(tmp_path / f"test{part}.parquet", {}) as writer:
            writer.write(rows, torch.randn(3, 4, generator=generator), torch.zeros(3, 2, 4))
    for seed in (1, 2):
        head = {"weight": torch.randn(3, 4, generator=generator), "bias": torch.zeros(3)}
        save_file(head, tmp_path / f"head{seed}.safetensors")
    return tmp_path


def predict(folder):
    predict_test(
        "linear_probe", {}, folder / "texts.parquet",
        [Run(1, seed, folder / f"head{seed}.safetensors") for seed in (2, 1)],
        [folder / "test0.parquet", folder / "test1.parquet"],
        folder / "predictions.parquet", device=torch.device("cpu"),
    )  # fmt: skip
    return pl.read_parquet(folder / "predictions.parquet")


def test_every_head_predicts_every_test_image_once(folder):
    predictions = predict(folder)
    assert predictions.select("shots", "seed").unique().height == 2
    for _, group in predictions.group_by("seed"):
        assert group["image"].to_list() == ["00", "01", "02", "10", "11", "12"]


def test_predictions_are_those_of_each_head_alone(folder):
    from safetensors.torch import load_file

    from vtclip.features.store import read_features

    predictions = predict(folder).filter(seed=2)
    head = load_file(folder / "head2.safetensors")
    pooled = torch.cat([read_features(folder / f"test{part}.parquet").pooled for part in (0, 1)])
    logits = torch.nn.functional.normalize(pooled.float(), dim=-1) @ head["weight"].T
    assert predictions["prediction"].to_list() == logits.argmax(1).tolist()
    expected = logits.softmax(1).amax(1).tolist()
    assert predictions["confidence"].to_list() == pytest.approx(expected, abs=1e-5)
    assert predictions["top"].to_list() == logits.argsort(1, descending=True).tolist()
    assert accuracy_score(predictions["label"], predictions["prediction"]) <= 1

import numpy as np
import polars as pl
import pytest
import torch

from tests.results.conftest import make_run
from vtclip.features.texts import write_texts
from vtclip.results.metrics import aggregate_metrics, calibration_error, measure


def test_the_calibration_error_equals_a_computation_bin_by_bin():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.05, 1.0, 500)
    hits = generator.uniform(size=500) < confidence**2
    expected = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            gap = abs(hits[inside].mean() - confidence[inside].mean())
            expected += gap * inside.sum() / 500
    assert calibration_error(hits, confidence) == pytest.approx(expected)


def test_a_certain_and_right_method_has_no_calibration_error():
    run = pl.DataFrame({"label": [0, 1], "prediction": [0, 1], "confidence": [1.0, 1.0000001]})
    assert measure(run) == {
        "macro_f1": 100.0, "macro_accuracy": 100.0,
        "calibration_error": pytest.approx(0, abs=1e-6),
    }  # fmt: skip


def test_macro_accuracy_is_the_mean_over_classes():
    run = pl.DataFrame(
        {"label": [0] * 8 + [1] * 2, "prediction": [0] * 9 + [1], "confidence": [1.0] * 10}
    )
    assert measure(run)["macro_accuracy"] == pytest.approx((100 + 50) / 2)


def test_macro_f1_counts_every_class_alike():
    run = pl.DataFrame(
        {"label": [0] * 8 + [1] * 2, "prediction": [0] * 10, "confidence": [1.0] * 10}
    )
    assert measure(run)["macro_f1"] == pytest.approx(100 * (16 / 18) / 2)


def test_accuracy_by_class_is_the_mean_over_seeds(tmp_path):
    texts = torch.nn.functional.normalize(torch.ones(3, 4), dim=-1)
    write_texts(tmp_path / "texts.parquet", ["ant", "bee", "cow"], texts, {"logit_scale": 1.0})
    runs = [
        pl.DataFrame(
            {"shots": 4, "seed": seed, "label": [0, 0, 1], "prediction": found, "confidence": 0.5}
        )
        for seed, found in ((1, [0, 0, 1]), (2, [0, 1, 0]))
    ]
    pl.concat(runs).write_parquet(tmp_path / "predictions.parquet")
    found = aggregate_metrics(
        [
            make_run(
                "a", "probe", tmp_path / "predictions.parquet", texts=tmp_path / "texts.parquet"
            )
        ],
        tmp_path / "metrics",
        tmp_path / "classes",
    )
    assert found.select("dataset", "method", "shots", "seeds").row(0) == ("a", "probe", 4, 2)
    classes = pl.read_parquet(tmp_path / "classes.parquet")
    assert classes["class_name"].to_list() == ["ant", "bee", "cow"]
    assert classes["accuracy"].to_list() == [75.0, 50.0, None]
    assert classes["images"].to_list() == [2, 1, 0]

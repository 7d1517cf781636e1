import numpy as np
import polars as pl
import pytest
import torch

from tests.results.conftest import make_run
from vtclip.features.texts import write_texts
from vtclip.results.metrics import (
    aggregate_metrics,
    calibration_error,
    find_confusions,
    find_mistakes,
    measure,
)


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


@pytest.mark.parametrize(
    ("measured", "found", "expected"),
    [
        ("macro_accuracy", [0] * 9 + [1], (100 + 50) / 2),
        ("macro_f1", [0] * 10, 100 * (16 / 18) / 2),
    ],
)
def test_macro_measures_count_every_class_alike(measured, found, expected):
    run = pl.DataFrame({"label": [0] * 8 + [1] * 2, "prediction": found, "confidence": 1.0})
    assert measure(run)[measured] == pytest.approx(expected)


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
    texts, predictions = tmp_path / "texts.parquet", tmp_path / "predictions.parquet"
    runs = [make_run("a", "probe", predictions, texts=texts)]
    found = aggregate_metrics(runs, tmp_path / "metrics", tmp_path / "classes")
    assert found.select("dataset", "method", "shots", "seeds").row(0) == ("a", "probe", 4, 2)
    classes = pl.read_parquet(tmp_path / "classes.parquet")
    assert classes["class_name"].to_list() == ["ant", "bee", "cow"]
    assert classes["accuracy"].to_list() == [75.0, 50.0, None]
    assert classes["images"].to_list() == [2, 1, 0]


def run(*rows):
    """Predictions of one number of shots, as (seed, image, label, prediction, confidence)."""
    schema = ["seed", "image", "label", "prediction", "confidence"]
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(shots=16)


RUN = run(
    (1, "a", 0, 1, 0.9), (1, "b", 0, 1, 0.7), (1, "c", 0, 0, 0.8), (1, "d", 1, 2, 0.95),
    (2, "a", 0, 1, 0.6), (2, "b", 0, 0, 0.7), (2, "c", 0, 0, 0.8), (2, "d", 1, 1, 0.5),
)  # fmt: skip


def test_the_pairs_that_are_confused_most_come_first_with_their_share_over_all_seeds():
    confusions = find_confusions(RUN, number=5, examples=2)
    assert confusions.rows() == [(0, 1, 50.0, ["a", "b"]), (1, 2, 50.0, ["d"])]


def test_the_most_confident_mistakes_come_first_and_each_image_once():
    found = find_mistakes(RUN, number=5)
    assert found.select("image", "confidence").rows() == [("d", 0.95), ("a", 0.9), ("b", 0.7)]


def test_without_a_mistake_there_is_nothing():
    right = RUN.with_columns(prediction=pl.col("label"))
    assert find_mistakes(right, number=5).is_empty()
    assert find_confusions(right, number=5, examples=2).is_empty()

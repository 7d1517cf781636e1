"""Accuracies with their intervals, and the head to take."""

import numpy as np
import polars as pl
import pytest

from tests.results.conftest import make_run
from vtclip.files import read_record, write_record
from vtclip.paths import ALL
from vtclip.results.estimates import (
    aggregate_estimates,
    choose_nested,
    describe_curve,
    find_interval,
    widen,
)

IMAGES = 100
NAMES = [f"{number}.jpg" for number in range(IMAGES)]


@pytest.fixture
def estimated(tmp_path):
    """Two methods on 100 images in five folds, right on 60 and 70 at 1 shot, 80 and 82 of all."""
    splits = [f"fold{1 + number // 20}" for number in range(IMAGES)]
    manifest = tmp_path / "birds-manifest.parquet"
    pl.DataFrame({"image": NAMES, "split": splits}).write_parquet(manifest)
    rights = {"gda": {1: 60, ALL: 80}, "linear_probe": {1: 70, ALL: 82}}
    runs = [
        write_run(tmp_path, method, shots, 1, right, None)
        for method, by_shots in rights.items()
        for shots, right in by_shots.items()
    ]
    table, best = estimate(tmp_path, runs, {"birds": manifest})
    return tmp_path, table, best["birds"]


def write_run(folder, method, shots, seed, right, score):
    """A run that is right on so many images, its record, and its rows among the predictions."""
    record, file = folder / f"{method}{shots}-{seed}.json", folder / f"{method}.parquet"
    write_record(record, {"seconds": 2.0, "bytes": 5, "val_accuracy": score})
    predicted = [int(number >= right) for number in range(IMAGES)]
    rows = {"shots": shots, "seed": seed, "image": NAMES, "label": 0, "prediction": predicted}
    table = pl.DataFrame(rows).cast({"shots": pl.Int32})
    before = [pl.read_parquet(file)] if file.is_file() else []
    pl.concat([*before, table]).write_parquet(file)
    more = {"head": f"{method}{shots}", "texts": str(folder / "texts.parquet")}
    return make_run("birds", method, file, shots=shots, seed=seed, record=str(record), **more)


def estimate(folder, runs, manifests):
    """The table, and the heads to take."""
    classes = pl.DataFrame({"label": [0, 1], "class_name": ["heron", "stork"]})
    classes.write_parquet(folder / "texts.parquet")
    written = [folder / name for name in ("estimates", "confusions", "best.json")]
    return aggregate_estimates(runs, manifests, *written), read_record(folder / "best.json")


def test_the_interval_is_wilsons_with_the_variance_of_nadeau_and_bengio(estimated):
    _, table, _ = estimated
    assert widen(5) == 1 + (1 / 4) / (1 / 5)
    row = table.row(3, named=True)
    assert (row["accuracy"], row["images"], row["folds"]) == (82, IMAGES, 5)
    # Wilson's ends p solve (0.82 - p)^2 = 1.96^2 p (1 - p) / n.
    for end in (row["low"] / 100, row["high"] / 100):
        assert (0.82 - end) ** 2 == pytest.approx(1.96**2 * end * (1 - end) * 2.25 / IMAGES)
    assert row["low"] < 82 < row["high"]


def test_the_interval_of_no_mistakes_is_not_empty():
    low, high = find_interval(1.0, 20)
    assert 0.8 < low < 0.9
    assert high == pytest.approx(1)


def test_the_head_to_take_is_the_most_accurate_of_all_numbers_of_shots(estimated):
    _, _, best = estimated
    assert best["head"] == f"linear_probe{ALL}"
    assert (best["method"], best["shots"], best["candidates"]) == ("linear_probe", ALL, 4)
    assert (best["bytes"], best["seconds"]) == (5, 2.0)
    assert best["as_good"] == [["gda", "all shots"], ["linear_probe", "1 shot"]]
    assert best["trained"] == "all training images"
    assert "+12.0 points" in best["curve"]
    assert best["curve"].endswith("more images per class would probably help.")


def test_classes_and_confusions_are_those_of_the_head_to_take(estimated):
    folder, _, best = estimated
    assert pl.read_parquet(folder / "confusions.parquet").rows() == [
        ("birds", "heron", "heron", 82.0), ("birds", "heron", "stork", 18.0)
    ]  # fmt: skip
    assert best["classes"] == [
        {"name": "heron", "images": 100, "accuracy": 82, "taken_for": "stork (18)"}
    ]


def test_the_nested_choice_does_not_see_the_fold_that_scores_it():
    """Each of five methods is right on one fold alone: chosen on the others it is wrong there."""
    rows = [
        ("b", "d", f"method{m}", 1, f"{fold}-{n}", float(m == fold), f"fold{fold}")
        for m in range(5)
        for fold in range(5)
        for n in range(4)
    ]
    columns = ["backbone", "dataset", "method", "shots", "image", "hit", "split"]
    assert choose_nested(pl.DataFrame(rows, columns, orient="row")) == 0


def test_a_curve_that_is_flat_promises_nothing():
    generator = np.random.default_rng(0)
    hits = pl.DataFrame({
        "shots": [4] * 60 + [8] * 60, "image": [*map(str, range(60))] * 2,
        "hit": generator.integers(0, 2, 120).astype(float), "split": ["fold1", "fold2"] * 60,
    })  # fmt: skip
    assert "cannot be seen" in describe_curve(hits)
    assert describe_curve(hits.filter(shots=4)) == ""


def write_tested(folder, scores):
    """Methods right on 90, 80, ... of 100 test images, with these validation scores."""
    runs = [
        write_run(folder, method, shots, seed, 90 - 10 * number, score)
        for number, (method, by_shots) in enumerate(scores.items())
        for shots, found in by_shots.items()
        for seed, score in enumerate(found, 1)
    ]
    return estimate(folder, runs, {})


def test_with_a_test_split_the_validation_shots_choose_the_head_not_the_test_images(tmp_path):
    scores = {"gda": {16: [0.8, 0.8]}, "coop": {16: [0.7, 1.0]}, "zero_shot": {0: [None]}}
    table, best = write_tested(tmp_path, scores)
    found = best["birds"]
    assert (found["method"], found["score"], found["candidates"]) == ("coop", 85, 2)
    assert (found["accuracy"], found["folds"], found["nested"]) == (80, 0, None)
    low, high = find_interval(0.8, IMAGES)  # Wilson's, of as many images as there are
    assert (found["low"], found["high"]) == pytest.approx((100 * low, 100 * high))
    assert found["as_good"] == [["gda", "16 shots"]]
    assert table["accuracy"].to_list() == [90, 80, 70]


def test_heads_with_fewer_validation_images_are_no_candidates_beside_those_with_more(tmp_path):
    _, best = write_tested(tmp_path, {"gda": {1: [1.0], 4: [0.7], 16: [0.7]}})
    assert (best["birds"]["shots"], best["birds"]["candidates"]) == (16, 2)


def test_without_validation_shots_there_is_no_head_to_take(tmp_path):
    table, best = write_tested(tmp_path, {"gda": {16: [None]}})
    assert (table.height, best) == (1, {})

"""The gain of each variant and of each choice; an oracle's has its watermark."""

import polars as pl
import pytest

from tests.results.conftest import make_run, write_predictions
from vtclip.files import write_json
from vtclip.parquet import write_parquet
from vtclip.results.gains import (
    CONFIGURED,
    aggregate_ablation,
    aggregate_optimism,
    plot_ablation,
)
from vtclip.tensors import MARKED, WATERMARK

# variant -> seed -> accuracy on validation shots and on test images
ACCURACIES = {
    CONFIGURED: {1: (0.5, 0.4), 2: (0.5, 0.6)},
    "heads: 1": {1: (0.6, 0.6), 2: (0.4, 0.9)},
    r"words: $\a$ |": {1: (0.5, 0.4), 2: (0.5, 0.6)},
}


@pytest.fixture
def table(tmp_path):
    return make_table(tmp_path)


def make_table(tmp_path, *, validated=True):
    runs = []
    for number, (variant, seeds) in enumerate(ACCURACIES.items()):
        test = {(4, seed): accuracy for seed, (_, accuracy) in seeds.items()}
        predictions = write_predictions(tmp_path / f"{number}.parquet", test)
        for seed, (val, _) in seeds.items():
            record = tmp_path / f"{number}-{seed}.json"
            write_json(record, {"val_accuracy": val if validated else None})
            place = {"label": variant, "shots": 4, "seed": seed, "record": str(record)}
            runs.append(make_run("a", "vt_clip", predictions, **place))
    return aggregate_ablation(runs, tmp_path / "ablation", notes=["Nothing was chosen."])


def test_gains_are_over_the_method_as_configured_seed_by_seed(table):
    row = table.filter(dataset="a", variant="heads: 1", images="test").row(0, named=True)
    assert row["mean"] == pytest.approx(75)
    assert row["gain"] == pytest.approx(25)  # 20 and 30
    assert row["gain_std"] == pytest.approx(50**0.5)
    row = table.filter(dataset="a", variant="heads: 1", images="validation").row(0, named=True)
    assert (row["mean"], row["gain"]) == pytest.approx((50, 0))
    assert table.filter(variant=CONFIGURED)["gain"].abs().max() < 1e-9


def test_validation_shots_and_test_images_have_a_table_each(table, tmp_path):
    validation, test = (tmp_path / "ablation.md").read_text().split("Accuracy on the test images")
    assert "| a       | heads: 1          | 50.0 (+0.0 ± 14.1) |" in validation
    assert "| a       | heads: 1          | 75.0 (+25.0 ± 7.1) |" in test
    assert r"| words: \$\\a\$ \| |" in test, "any words are text"
    assert "Choose by the validation images alone." in test
    assert test.endswith("Nothing was chosen.\n")


def test_without_validation_images_there_is_no_table_of_them_to_choose_by(tmp_path):
    make_table(tmp_path, validated=False)
    page = (tmp_path / "ablation.md").read_text()
    assert page.startswith("Accuracy on the test images")
    assert "validation" not in page


def test_the_figure_has_a_panel_per_dataset_and_a_row_per_variant(table, tmp_path):
    plot_ablation(tmp_path / "ablation.parquet", tmp_path / "gains", {"a": "Data A"})
    assert (tmp_path / "gains.png").read_bytes()[:4] == b"\x89PNG"
    drawn = (tmp_path / "gains.svg").read_text()
    assert "Mean over datasets" not in drawn, "there is one"
    for text in ("Data A", *list(ACCURACIES)[1:], "4 shots"):
        assert f"<!-- {text} -->" in drawn


@pytest.fixture
def optimism(tmp_path):
    runs = []
    for choose, accuracy in (("none", 0.5), ("validation", 0.6), ("all", 0.7)):
        found = {(4, seed): accuracy + seed / 100 for seed in (1, 2)}
        predictions = write_predictions(tmp_path / f"{choose}.parquet", found, images=100)
        runs += [
            make_run("digits", "gda", predictions, shots=4, seed=seed, label=choose)
            for seed in (1, 2)
        ]
    oracles = []
    for seed in (1, 2):
        path = tmp_path / f"oracle{seed}.parquet"
        rows = {"label": [0] * 100, f"{MARKED}prediction": [0] * 80 + [1] * 20}
        write_parquet(path, pl.DataFrame(rows))
        oracles.append((runs[0].backbone, "digits", "gda", 4, seed, str(path)))
    return aggregate_optimism(runs, oracles, tmp_path / "optimism", titles={"gda": "GDA"})


def test_each_choice_has_its_accuracy_and_what_it_buys_over_the_validation_shots(optimism):
    rows = {row["chosen_on"]: row for row in optimism.to_dicts()}
    assert {key: round(row["mean"], 1) for key, row in rows.items()} == {
        "none": 51.5, "validation": 61.5, "all": 71.5, "oracle": 80.0,
    }  # fmt: skip
    assert rows["none"]["gain"] == pytest.approx(-10)
    assert rows["all"]["gain"] == pytest.approx(10)
    assert rows["oracle"]["low"] <= rows["oracle"]["gain"] <= rows["oracle"]["high"]
    assert {key for key, row in rows.items() if row["watermark"]} == {"oracle"}


def test_the_page_has_the_watermark_before_and_after_the_table_and_in_the_column(
    optimism, tmp_path
):
    page = (tmp_path / "optimism.md").read_text()
    assert page.startswith(WATERMARK)
    assert page.rstrip().endswith(WATERMARK)
    assert "ORACLE: test images, no result" in page
    assert "80.0 (oracle), +18.5" in page
    assert WATERMARK.split(",")[0] in (tmp_path / "optimism.csv").read_text()

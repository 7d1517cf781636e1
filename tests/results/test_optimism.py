"""The optimism table: every choice in a column, and the oracle's with its watermark."""

import polars as pl
import pytest

from tests.results.conftest import make_run, write_predictions
from vtclip.files import MARKED, WATERMARK
from vtclip.parquet import write_parquet
from vtclip.results.optimism import Oracle, aggregate_optimism


@pytest.fixture
def table(tmp_path):
    runs = []
    for choose, accuracy in (("none", 0.5), ("validation", 0.6), ("all", 0.7)):
        found = {(4, seed): accuracy + seed / 100 for seed in (1, 2)}
        predictions = write_predictions(tmp_path / f"{choose}.parquet", found, images=100)
        runs += [
            make_run("digits", "gda", predictions, shots=4, seed=seed)._replace(label=choose)
            for seed in (1, 2)
        ]
    oracles = []
    for seed in (1, 2):
        path = tmp_path / f"oracle{seed}.parquet"
        rows = {"label": [0] * 100, f"{MARKED}prediction": [0] * 80 + [1] * 20}
        write_parquet(path, pl.DataFrame(rows))
        oracles.append(Oracle(runs[0].backbone, "digits", "gda", 4, seed, str(path)))
    return aggregate_optimism(runs, oracles, tmp_path / "optimism", titles={"gda": "GDA"})


def test_each_choice_has_its_accuracy_and_what_it_buys_over_the_validation_shots(table):
    rows = {row["chosen_on"]: row for row in table.to_dicts()}
    assert {key: round(row["mean"], 1) for key, row in rows.items()} == {
        "none": 51.5, "validation": 61.5, "all": 71.5, "oracle": 80.0,
    }  # fmt: skip
    assert rows["none"]["gain"] == pytest.approx(-10)
    assert rows["all"]["gain"] == pytest.approx(10)
    assert rows["oracle"]["low"] <= rows["oracle"]["gain"] <= rows["oracle"]["high"]
    assert {key for key, row in rows.items() if row["watermark"]} == {"oracle"}


def test_the_page_has_the_watermark_before_and_after_the_table_and_in_the_column(table, tmp_path):
    page = (tmp_path / "optimism.md").read_text()
    assert page.startswith(WATERMARK)
    assert page.rstrip().endswith(WATERMARK)
    assert "ORACLE: test images, no result" in page
    assert "80.0 (oracle), +18.5" in page
    assert WATERMARK.split(",")[0] in (tmp_path / "optimism.csv").read_text()

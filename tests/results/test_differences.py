import polars as pl
import pytest

from tests.results.test_aggregate import write_predictions
from vtclip.results.differences import aggregate_differences


@pytest.fixture
def table(tmp_path):
    runs = {
        ("a", "zero_shot"): {(0, 0): 0.4},
        ("a", "probe"): {(1, 1): 0.5, (1, 2): 0.7},
        ("a", "vt_clip"): {(1, 1): 0.6, (1, 2): 0.7},
        ("b", "zero_shot"): {(0, 0): 0.2},
        ("b", "probe"): {(1, 1): 0.3, (1, 2): 0.2},
        ("b", "vt_clip"): {(1, 1): 0.6, (1, 2): 0.6},
    }
    paths = {
        key: write_predictions(tmp_path / "-".join(key), accuracies)
        for key, accuracies in runs.items()
    }
    return aggregate_differences(paths, tmp_path / "differences", reference="vt_clip")


def test_methods_are_compared_on_the_same_dataset_seed_and_shots(table):
    row = table.filter(method="probe", other="vt_clip").row(0, named=True)
    assert row["difference"] == pytest.approx((-10 + 0 - 30 - 40) / 4)
    assert row["pairs"] == 4
    assert -40 <= row["low"] < row["difference"] < row["high"] <= 0


def test_a_method_without_shots_is_compared_with_every_run(table):
    row = table.filter(method="zero_shot", other="vt_clip", shots=1).row(0, named=True)
    assert row["pairs"] == 4
    assert row["difference"] == pytest.approx((-20 - 30 - 40 - 40) / 4)


def test_the_interval_is_the_same_each_time_and_none_for_a_single_pair(tmp_path, table):
    one = {
        ("a", name): write_predictions(tmp_path / f"one-{name}", {(1, 1): accuracy})
        for name, accuracy in (("probe", 0.5), ("vt_clip", 0.6))
    }
    alone = aggregate_differences(one, tmp_path / "one", reference="vt_clip")
    assert alone.select("low", "high").row(0) == (None, None)
    assert pl.read_parquet(tmp_path / "differences.parquet").equals(table)


def test_the_page_shows_the_references_lead(table, tmp_path):
    page = (tmp_path / "differences.md").read_text()
    assert "| vt_clip over | 1 shot " in page
    assert "| zero_shot    | +32.5 (+" in page
    assert "| probe        | +20.0 (+" in page

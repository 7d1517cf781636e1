import numpy as np
import polars as pl
import pytest

from tests.results.conftest import make_run, write_predictions
from vtclip.results.differences import _cell, aggregate_differences


def write_run(folder, backbone, dataset, method, accuracies):
    path = folder / f"{backbone}-{dataset}-{method}.parquet"
    predictions = write_predictions(path, accuracies, images=10_000)  # to 0.01 points
    return make_run(dataset, method, predictions, backbone=backbone)


def simulate(folder, datasets, seeds, *, backbones=1):
    """The lead of vt_clip over probe, with a spread of 5 over datasets and 1 over seeds."""

    def spread(number, deviation):
        values = np.linspace(-1, 1, number) if number > 1 else np.zeros(1)
        return values * (deviation / values.std(ddof=1) if number > 1 else 0)

    folder.mkdir()
    runs = []
    for backbone in range(backbones):
        for dataset, lead in enumerate(spread(datasets, 5)):
            better = {
                (1, seed): 0.5 + (20 * backbone + lead + more) / 100
                for seed, more in enumerate(spread(seeds, 1))
            }
            for method, found in (("vt_clip", better), ("probe", dict.fromkeys(better, 0.5))):
                runs.append(write_run(folder, f"b{backbone}", f"d{dataset}", method, found))
    return aggregate_differences(runs, folder / "differences", reference="vt_clip")


def width(table):
    row = table.row(0, named=True)
    return row["high"] - row["low"]


@pytest.fixture
def table(tmp_path):
    accuracies = {
        ("a", "zero_shot"): {(0, 0): 0.4},
        ("a", "probe"): {(1, 1): 0.5, (1, 2): 0.7},
        ("a", "vt_clip"): {(1, 1): 0.6, (1, 2): 0.7},
        ("b", "zero_shot"): {(0, 0): 0.2},
        ("b", "probe"): {(1, 1): 0.3, (1, 2): 0.2},
        ("b", "vt_clip"): {(1, 1): 0.6, (1, 2): 0.6},
    }
    runs = [write_run(tmp_path, "RN50", *key, found) for key, found in accuracies.items()]
    more = {"titles": {"probe": "Linear probe"}, "notes": ["Nothing was chosen."]}
    return aggregate_differences(runs, tmp_path / "differences", reference="vt_clip", **more)


def test_of_a_method_alone_the_page_compares_nothing(tmp_path):
    runs = [write_run(tmp_path, "RN50", "a", "probe", {(1, 1): 0.5, (1, 2): 0.7})]
    aggregate_differences(runs, tmp_path / "differences", reference="probe", notes=["A note."])
    page = (tmp_path / "differences.md").read_text()
    assert page == "There is one method, so nothing is compared. A note.\n"


def test_methods_are_compared_on_the_same_dataset_seed_and_shots(table):
    row = table.filter(method="probe", other="vt_clip").row(0, named=True)
    assert row["difference"] == pytest.approx((-10 + 0 - 30 - 40) / 4)
    assert row["pairs"] == 4
    assert -40 <= row["low"] < row["difference"] < row["high"] <= 0


def test_a_method_without_shots_is_compared_with_every_run(table):
    row = table.filter(method="zero_shot", other="vt_clip", shots=1).row(0, named=True)
    assert row["pairs"] == 4
    assert row["difference"] == pytest.approx((-20 - 30 - 40 - 40) / 4)


def test_with_eleven_datasets_the_interval_is_that_of_datasets_drawn_again(tmp_path):
    """1.96 * 2 * sqrt(5² * 10/11 / 11 + 1² * 2/3 / 33) = 5.7, and 3.5 if pairs were independent."""
    table = simulate(tmp_path / "table", 11, 3)
    assert table["resampled"].to_list() == ["datasets and seeds"]
    assert 5.2 < width(table) < 6.2
    page = (tmp_path / "table" / "differences.md").read_text()
    assert "over datasets like these" in page


def test_with_four_datasets_the_interval_is_that_of_seeds_drawn_again_within_each(tmp_path):
    """1.96 * 2 * sqrt(1² * 2/3 / 12) = 0.92, and 5.0 if pairs were independent."""
    table = simulate(tmp_path / "table", 4, 3)
    assert table["resampled"].to_list() == ["seeds"]
    assert 0.8 < width(table) < 1.0
    page = (tmp_path / "table" / "differences.md").read_text()
    assert "not over datasets at large" in page


def test_one_seed_of_many_datasets_has_an_interval_and_of_few_datasets_none(tmp_path):
    many = simulate(tmp_path / "many", 11, 1)
    assert many["resampled"].to_list() == ["datasets"]
    assert 5.2 < width(many) < 6.2
    few = simulate(tmp_path / "few", 4, 1)
    assert few.select("low", "high", "resampled").row(0) == (None, None, None)
    assert "has no interval" in (tmp_path / "few" / "differences.md").read_text()


def test_each_backbone_is_compared_by_itself(tmp_path):
    """20 points lie between the backbones, and none of them in an interval."""
    table = simulate(tmp_path / "eleven", 11, 3, backbones=2)
    assert table["backbone"].to_list() == ["b0", "b1"]
    assert table["difference"].to_list() == pytest.approx([0, 20], abs=0.1)
    assert 5.2 < width(table) < 6.2
    written = (tmp_path / "eleven" / "differences.md").read_text()
    assert written.startswith("| backbone | vt_clip over |")


def test_datasets_may_have_different_numbers_of_seeds(tmp_path):
    runs = [
        write_run(tmp_path, "b", f"d{dataset}", method, {(1, s): accuracy for s in seeds})
        for dataset, seeds in enumerate([(1,), (1, 2), (1, 2, 3), (1,), (3, 2), (2,)])
        for method, accuracy in (("vt_clip", 0.6), ("probe", 0.5))
    ]
    table = aggregate_differences(runs, tmp_path / "differences", reference="vt_clip")
    row = table.row(0, named=True)
    assert row["pairs"] == 10
    assert [row["low"], row["high"]] == pytest.approx([10, 10])


def test_the_interval_is_the_same_each_time(tmp_path):
    first, second = (simulate(tmp_path / name, 5, 2) for name in ("first", "second"))
    assert first.equals(second)
    assert pl.read_parquet(tmp_path / "first" / "differences.parquet").equals(first)


def test_the_page_shows_the_references_lead(table, tmp_path):
    page = (tmp_path / "differences.md").read_text()
    assert "| vt_clip over | 1 shot " in page
    assert "| zero_shot    | +32.5 (+" in page
    assert "| Linear probe | +20.0 (+" in page
    assert page.split("\n\n")[1].endswith("Nothing was chosen.")


def test_a_lead_is_claimed_by_the_rule_that_is_stated_and_no_other(tmp_path):
    accuracies = {
        name: {(1, seed): base + seed / 1000 for seed in (1, 2)}
        for name, base in (("probe", 0.5), ("vt_clip", 0.6))
    }
    claims = {}
    for datasets in (4, 5, 6):
        runs = [
            write_run(tmp_path, "RN50", f"d{dataset}", method, found)
            for dataset in range(datasets)
            for method, found in accuracies.items()
        ]
        aggregate_differences(runs, tmp_path / "differences", reference="vt_clip")
        claims[datasets] = (tmp_path / "differences.md").read_text()
    assert "- vt_clip over probe at 1 shot: p 0.00781" in claims[4]  # 8 runs
    assert "No lead may be claimed." in claims[5]
    assert "With 5 datasets the smallest p of 1 pair can be 0.0625." in claims[5]
    assert "- vt_clip over probe at 1 shot: p 0.0312" in claims[6]


def test_a_pair_of_one_run_without_a_test_is_not_among_those_that_are_corrected(tmp_path):
    accuracies = {
        "zero_shot": {(0, 0): 0.4}, "calip": {(0, 0): 0.5},
        "probe": {(1, 1): 0.5, (1, 2): 0.7},
    }  # fmt: skip
    runs = [write_run(tmp_path, "RN50", "a", *each) for each in accuracies.items()]
    table = aggregate_differences(runs, tmp_path / "differences", reference="probe")
    assert table.height == 3
    assert "Holm over all 2 pairs of methods" in (tmp_path / "differences.md").read_text()


def test_the_p_of_all_pairs_of_methods_are_corrected_together(tmp_path):
    runs = [
        write_run(tmp_path, "RN50", f"d{dataset}", method, {(1, 1): base + dataset * slope})
        for dataset in range(7)
        for method, base, slope in (("a", 0.5, 0), ("b", 0.6, 0.01), ("c", 0.52, -0.01))
    ]
    table = aggregate_differences(runs, tmp_path / "differences", reference="c")
    assert table["p"].to_list() == pytest.approx([2 / 2**7, *table["p"][1:2], 2 / 2**7])
    assert table["p_holm"][0] == pytest.approx(3 * 2 / 2**7)
    assert (table["p_holm"] >= table["p"]).all()
    assert table["won"].to_list()[0] == 0.0


def test_a_difference_of_nothing_has_no_minus_sign():
    row = {"sign": -1, "difference": 0.0, "low": -0.04, "high": 0.0}
    assert _cell(row) == "+0.0 (+0.0 to +0.0)"

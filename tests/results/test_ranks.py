"""Ranks and corrections, compared with scipy and with numbers that were published."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import friedmanchisquare

from vtclip.parquet import write_parquet
from vtclip.paths import ALL
from vtclip.results.ranks import (
    average_ranks,
    correct_by_holm,
    critical_difference,
    measure_effect,
    plot_ranks,
    rank_methods,
    render_ranks,
    take_units,
)

# Demšar (2006), table 6: the AUC of C4.5 with two parameters, tuned or not, on 14 datasets. Two
# that are equal there after rounding (voting) have the ranks 2 and 3.
TREES = """
.763 .768 .771 .798  .599 .591 .590 .569  .954 .971 .968 .967  .628 .661 .654 .657
.882 .888 .886 .898  .936 .931 .916 .931  .661 .668 .609 .685  .583 .583 .563 .625
.775 .838 .866 .875  1 1 1 1  .940 .962 .965 .962  .619 .666 .614 .669
.972 .981 .975 .9749  .957 .978 .946 .970
"""
# Hollander and Wolfe (1973): seconds of 22 players to second base, as R's friedman.test has them.
ROUNDING = """
5.40 5.50 5.55  5.85 5.70 5.75  5.20 5.60 5.50  5.55 5.50 5.40  5.90 5.85 5.70  5.45 5.55 5.60
5.40 5.40 5.35  5.45 5.50 5.35  5.25 5.15 5.00  5.85 5.80 5.70  5.25 5.20 5.10  5.65 5.55 5.45
5.60 5.35 5.45  5.05 5.00 4.95  5.50 5.50 5.40  5.45 5.55 5.50  5.55 5.55 5.35  5.45 5.50 5.55
5.50 5.45 5.25  5.65 5.60 5.40  5.70 5.65 5.55  6.30 6.30 6.25
"""
# Pulses of seven persons before exercise, after it and five minutes later, as scipy's manual has.
PULSES = "72 120 76  96 120 95  88 132 104  92 120 96  74 101 84  76 96 72  82 112 76"


def read(numbers: str, methods: int) -> np.ndarray:
    return np.array(numbers.split(), dtype=float).reshape(-1, methods)


@pytest.mark.parametrize(
    ("numbers", "methods", "ranks", "statistic", "p"),
    [
        (TREES, 4, [3.143, 2.000, 2.893, 1.964], None, None),
        (ROUNDING, 3, None, 11.143, 0.003805),
        (PULSES, 3, None, 10.5714, 0.0050634),
    ],
)
def test_ranks_and_friedmans_test_are_those_published_and_scipys(
    numbers, methods, ranks, statistic, p
):
    values = read(numbers, methods)
    found, chi_square, found_p = average_ranks(values)
    expected = friedmanchisquare(*values.T)
    assert (chi_square, found_p) == pytest.approx(tuple(expected))
    if ranks is not None:
        assert found == pytest.approx(ranks, abs=0.001)
    else:
        assert chi_square == pytest.approx(statistic, abs=0.001)
        assert found_p == pytest.approx(p, rel=0.001)


@pytest.mark.parametrize(
    ("methods", "quantile"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)]
)
def test_the_critical_difference_is_demsars(methods, quantile):
    expected = quantile * (methods * (methods + 1) / (6 * 14)) ** 0.5
    assert critical_difference(methods, 14) == pytest.approx(expected, rel=0.001)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # As p.adjust of R and multipletests of statsmodels have them.
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.9, 1.0], [1.0, 1.0, 1.0]),
        ([], []),
    ],
)
def test_holms_correction_is_that_of_r(given, expected):
    assert correct_by_holm(given) == pytest.approx(expected)


def test_an_effect_is_the_mean_over_the_deviation_and_ties_count_half():
    effect = measure_effect([1.0, 2.0, 3.0, 0.0])
    assert effect.size == pytest.approx(1.5 / np.std([1, 2, 3, 0], ddof=1))
    assert effect.won == 0.875
    assert measure_effect([0.0, 0.0]) == (1.0, None, 0.5)
    assert measure_effect([2.0]) == (None, None, 1.0)


def accuracies(datasets: int) -> pl.DataFrame:
    rows = [
        ("RN50", shots, f"d{dataset}", seed, method, 50.0 + dataset + gain + seed % 2)
        for shots in (1, ALL)
        for dataset in range(datasets)
        for seed in (1, 2)
        for method, gain in (("a", 0), ("b", 5), ("c", -5))
    ]
    columns = ["backbone", "shots", "dataset", "seed", "method", "accuracy"]
    return pl.DataFrame(rows, columns, orient="row")


@pytest.mark.parametrize(("datasets", "units", "unit"), [(5, 5, "dataset"), (4, 8, "run")])
def test_units_are_datasets_where_there_are_five_and_else_runs(datasets, units, unit):
    ranks = rank_methods(accuracies(datasets))
    assert ranks["units"].unique().to_list() == [units]
    assert ranks["unit"].unique().to_list() == [unit]
    assert ranks.filter(shots=1)["rank"].to_list() == [2.0, 1.0, 3.0]
    wide = accuracies(datasets).filter(method="a", shots=1)
    assert take_units(wide, "accuracy").height == units


def test_the_text_names_tests_and_number_of_units_and_the_figure_is_written(tmp_path):
    ranks = rank_methods(accuracies(5))
    text = render_ranks(ranks, {"a": "Method A"})
    assert "| Method A | 2.00" in text
    assert "1 shot: Friedman's chi-square 10.00, p 0.00674; critical difference 1.48, 5" in text
    write_parquet(tmp_path / "ranks.parquet", ranks)
    plot_ranks(tmp_path / "ranks.parquet", tmp_path / "ranks", {})
    assert (tmp_path / "ranks.svg").stat().st_size > 1000


def test_of_several_backbones_each_test_names_its_own():
    several = [accuracies(5).with_columns(backbone=pl.lit(name)) for name in ("RN50", "ViT")]
    text = render_ranks(rank_methods(pl.concat(several)), {})
    for name in ("RN50", "ViT"):
        assert f"{name}, 1 shot: Friedman's" in text


def test_a_method_alone_has_no_rank(tmp_path):
    assert rank_methods(accuracies(5).filter(method="a")).is_empty()
    assert render_ranks(rank_methods(accuracies(5).filter(method="a")), {}) == ""

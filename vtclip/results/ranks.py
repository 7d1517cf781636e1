"""Ranks of the methods, and which leads may be claimed.

A unit is what the tests count as independent: a dataset, with the mean over its seeds, where there
are `MIN_DATASETS` of them, as Demšar (2006) has it; with fewer a run, one seed of a dataset.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from scipy.stats import friedmanchisquare, rankdata, studentized_range, wilcoxon

from vtclip.parquet import read_parquet
from vtclip.paths import name_shots
from vtclip.results.figures import draw_panels, title_of
from vtclip.results.tables import align, backbone_column, pivot
from vtclip.wording import count

ALPHA = 0.05
MIN_DATASETS = 5  # to take them as units, and to draw from them
SCHEMA = {
    "backbone": pl.String, "shots": pl.Int32, "method": pl.String, "rank": pl.Float64,
    "units": pl.Int32, "unit": pl.String, "chi_square": pl.Float64, "p": pl.Float64,
    "critical_difference": pl.Float64,
}  # fmt: skip


class Effect(NamedTuple):
    """A lead against its spread over units."""

    p: float | None  # of Wilcoxon's signed-rank test, two-sided; None for one unit
    size: float | None  # Cohen's d: mean over deviation; None without spread
    won: float  # share of the units, a draw counting half


def unit_of(datasets: int) -> str:
    """The unit of comparison with so many datasets: `dataset` or `run`."""
    return "dataset" if datasets >= MIN_DATASETS else "run"


def take_units(runs: pl.DataFrame, *columns: str) -> pl.DataFrame:
    """The mean of some columns over each unit of the runs, which have `dataset`."""
    if unit_of(runs["dataset"].n_unique()) == "run":
        return runs.select(columns)
    means = runs.group_by("dataset", maintain_order=True).agg(pl.col(columns).mean())
    return means.select(columns)


def measure_effect(differences: Sequence[float]) -> Effect:
    """Test and measure differences, one of each unit."""
    found = np.round(np.asarray(differences, dtype=float), 9)  # equal accuracies differ by nothing
    won = float(np.mean((found > 0) + 0.5 * (found == 0)))
    deviation = found.std(ddof=1) if len(found) > 1 else 0.0
    size = float(found.mean() / deviation) if deviation > 0 else None
    if len(found) < 2:
        return Effect(None, None, won)
    p = float(wilcoxon(found).pvalue) if found.any() else 1.0
    return Effect(p, size, won)


def correct_by_holm(values: Sequence[float]) -> list[float]:
    """Correct the p of several tests by Holm's step-down procedure."""
    order = np.argsort(values, kind="stable")
    factors = len(values) - np.arange(len(values))
    steps = np.minimum(1, np.maximum.accumulate(np.asarray(values)[order] * factors))
    corrected = np.empty(len(values))
    corrected[order] = steps
    return corrected.tolist()


def critical_difference(methods: int, units: int) -> float:
    """The difference of two average ranks that Nemenyi's test finds significant at ALPHA."""
    quantile = studentized_range.isf(ALPHA, methods, math.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(methods * (methods + 1) / (6 * units)))


def average_ranks(accuracies: np.ndarray) -> tuple[np.ndarray, float | None, float | None]:
    """The average rank of each method, 1 the best, Friedman's chi-square and its p.

    accuracies (N, M): N units of M methods. Friedman's test needs three methods and two units.
    """
    ranks = rankdata(-np.round(accuracies, 9), axis=1).mean(axis=0)
    if accuracies.shape[1] < 3 or len(accuracies) < 2 or np.ptp(accuracies, axis=1).max() < 1e-9:
        return ranks, None, None
    statistic, p = friedmanchisquare(*np.round(accuracies, 9).T)
    return ranks, float(statistic), float(p)


def rank_methods(accuracies: pl.DataFrame) -> pl.DataFrame:
    """Rank the methods at each number of shots, by the units that all of them have.

    accuracies: backbone, shots, dataset, seed, method, accuracy. Returns the columns of SCHEMA;
    chi_square and p are Friedman's, critical_difference Nemenyi's.
    """
    rows = []
    for (backbone, shots), group in accuracies.group_by("backbone", "shots", maintain_order=True):
        methods = group["method"].unique(maintain_order=True).to_list()
        wide = group.pivot("method", index=["dataset", "seed"], values="accuracy").drop_nulls()
        units = take_units(wide, *methods)
        if units.is_empty() or len(methods) < 2:
            continue
        ranks, statistic, p = average_ranks(units.to_numpy())
        critical = critical_difference(len(methods), units.height)
        unit = unit_of(wide["dataset"].n_unique())
        rows += [
            (backbone, shots, method, rank, units.height, unit, statistic, p, critical)
            for method, rank in zip(methods, ranks.tolist(), strict=True)
        ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("shots", maintain_order=True)


def render_ranks(ranks: pl.DataFrame, titles: Mapping[str, str]) -> str:
    """The average ranks in Markdown, a column per number of shots, with what they mean."""
    if ranks.is_empty():
        return ""
    several = backbone_column(ranks)
    rows = pivot(
        ranks, [*several, "method"], "shots", lambda row: f"{row['rank']:.2f}",
        titles=titles,
    )  # fmt: skip
    tested = ranks.unique(["backbone", "shots"], maintain_order=True)
    shown = tested.sort("shots", maintain_order=True).to_dicts()
    tests = "; ".join(
        (f"{row['backbone']}, " if several else "") + _describe_test(row) for row in shown
    )
    return (
        f"Average ranks, 1 the best:\n\n{align(rows)}\n\nThe mean over units of a method's rank "
        f"among all methods. Two methods differ by Nemenyi's test at {ALPHA:.0%} where their "
        "average ranks differ by more than the critical difference, and where Friedman's test "
        f"finds any difference. {tests}.\n"
    )


def _describe_test(row: Mapping[str, float | str | None]) -> str:
    units = count(int(row["units"] or 0), str(row["unit"]))
    found = f"critical difference {row['critical_difference']:.2f}, {units}"
    if row["p"] is not None:
        found = f"Friedman's chi-square {row['chi_square']:.2f}, p {row['p']:.3g}; {found}"
    return f"{name_shots(int(row['shots'] or 0))}: {found}"


def plot_ranks(ranks: str | Path, destination: str | Path, titles: Mapping[str, str]) -> None:
    """Draw the average ranks, each with a bar as long as the critical difference.

    Two methods whose bars do not overlap differ by Nemenyi's test, if Friedman's finds any.
    """
    table = read_parquet(ranks)
    groups, methods = table.select("backbone", "shots").n_unique(), table["method"].n_unique()
    draw_panels(
        destination, table, partial(_draw_ranks, titles=titles), titles, by="shots",
        columns=max(1, min(4, groups)), panel_size=(3.4, 0.25 * methods + 1.1), margins=(1, 0),
    )  # fmt: skip


def _draw_ranks(panel: Axes, group: pl.DataFrame, titles: Mapping[str, str]) -> None:
    group = group.sort("rank", maintain_order=True)
    half = group["critical_difference"][0] / 2
    places = range(len(group), 0, -1)
    panel.errorbar(
        group["rank"].to_list(), places, xerr=half, fmt="o", color="C0", markersize=4, capsize=3
    )
    panel.set_yticks(list(places), [title_of(name, titles) for name in group["method"]], fontsize=8)
    units = count(group["units"][0], group["unit"][0])
    panel.set_xlabel(f"average rank over {units}", fontsize=8)
    panel.grid(axis="x", alpha=0.3)

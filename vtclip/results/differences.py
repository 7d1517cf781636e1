"""Paired differences between methods, with bootstrap intervals.

The runs of a dataset resemble each other more than runs of two datasets do, so they are no
independent samples. The bootstrap goes down the same two levels as the experiment: where there are
`MIN_DATASETS` datasets it draws datasets, and seeds within each; the interval is then about
datasets like these. Where there are fewer, a draw of datasets says little: they stay as they are,
only seeds are drawn within each, and the interval is about these datasets alone.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from vtclip.paths import Run, name_shots
from vtclip.results import ranks, tables
from vtclip.results.ranks import ALPHA, MIN_DATASETS
from vtclip.wording import count

RESAMPLES = 9999
CONFIDENCE = 0.95
SCHEMA = {
    "backbone": pl.String, "method": pl.String, "other": pl.String, "shots": pl.Int32,
    "difference": pl.Float64, "low": pl.Float64, "high": pl.Float64, "resampled": pl.String,
    "pairs": pl.Int32, "p": pl.Float64, "p_holm": pl.Float64, "effect": pl.Float64,
    "won": pl.Float64,
}  # fmt: skip


def aggregate_differences(
    runs: Sequence[Run],  # all heads on their own test sets
    destination: str | Path,  # its suffix is replaced
    *,
    reference: str,  # the method that the Markdown table compares with all others
    titles: Mapping[str, str] = {},  # method -> the name to show there
    notes: Sequence[str] = (),
) -> pl.DataFrame:
    """Write the lead of each method over each other, as Parquet, CSV and Markdown.

    Two methods are compared run by run: the same backbone, dataset, seed and shots. A method that
    uses no shots is compared at every number of shots.

    Returns:
        backbone, method, other, shots, difference (points of accuracy, the mean over pairs), low,
        high (a 95% bootstrap interval), resampled (what it draws: "datasets and seeds", "datasets"
        or "seeds"; null, and no interval, where there are few datasets and one seed), pairs; p (of
        Wilcoxon's signed-rank test over units, see `vtclip.results.ranks`), p_holm (corrected over
        all pairs of methods at that number of shots), effect (Cohen's d over units), won (share of
        units). The average ranks are in a table beside it, `ranks`.
    """
    found = tables.read_runs(runs)
    methods = found["method"].unique(maintain_order=True)
    shots = sorted(found.filter(pl.col("shots") > 0)["shots"].unique()) or [0]
    rows = [
        (backbone, method, other, k, *compared)
        for (backbone,), group in found.group_by("backbone", maintain_order=True)
        for method, other in combinations(methods, 2)
        for k in shots
        if (compared := _compare(group, method, other, k))
    ]
    table = _correct(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
    ranked = ranks.rank_methods(_spread_shotless(found))
    tables.write_table(ranked, Path(destination).with_name("ranks"))
    text = f"There is one method, so nothing is compared. {' '.join(notes)}".rstrip() + "\n"
    if not table.is_empty():
        leads = _render(table, found, reference, titles, notes)
        claims = _claim(table, reference, titles, found["dataset"].n_unique())
        text = "\n".join([leads, claims, ranks.render_ranks(ranked, titles)])
    tables.write_table(table, destination, md=text)
    return table


def _correct(table: pl.DataFrame) -> pl.DataFrame:
    """The table with Holm's correction over the pairs of methods at each number of shots."""
    numbered = table.with_row_index("row")
    for group in numbered.drop_nulls("p").partition_by("backbone", "shots"):
        corrected = pl.Series("p_holm", ranks.correct_by_holm(group["p"].to_list()))
        numbered = numbered.update(group.with_columns(corrected), on="row")
    return numbered.drop("row")


def _spread_shotless(found: pl.DataFrame) -> pl.DataFrame:
    """The runs, where those of a method without shots stand at each number of shots and seed."""
    shotless = (pl.col("shots") == 0).all().over("method")
    trained, others = found.filter(~shotless), found.filter(shotless)
    if trained.is_empty():
        return others
    runs = trained.select("backbone", "dataset", "shots", "seed").unique(maintain_order=True)
    spread = others.drop("shots", "seed").join(runs, on=["backbone", "dataset"])
    methods = pl.Enum(found["method"].unique(maintain_order=True))
    order = pl.col("method").cast(methods)
    return pl.concat([trained, spread], how="diagonal").sort("shots", order, maintain_order=True)


def _compare(runs: pl.DataFrame, method: str, other: str, shots: int) -> tuple[Any, ...] | None:
    """difference, low, high, resampled, pairs, p, p_holm (None), effect, won; None for no pair."""
    left, right = (_runs_at(runs, name, shots) for name in (method, other))
    both_seeded = "seed" in left.columns and "seed" in right.columns
    pairs = left.join(right, on=["dataset", "seed"] if both_seeded else "dataset", suffix="_other")
    if pairs.is_empty():
        return None
    pairs = pairs.with_columns(difference=pl.col("accuracy") - pl.col("accuracy_other"))
    low, high, resampled = bootstrap_interval(pairs)
    effect = ranks.measure_effect(ranks.take_units(pairs, "difference")["difference"].to_list())
    mean = pairs["difference"].mean()
    return mean, low, high, resampled, pairs.height, effect.p, None, effect.size, effect.won


def _runs_at(runs: pl.DataFrame, method: str, shots: int) -> pl.DataFrame:
    """Accuracies of runs at a number of shots; without seed for a method without shots."""
    own = runs.filter(method=method)
    if own["shots"].to_list() == [0] * own.height:
        return own.select("backbone", "dataset", "accuracy")
    return own.filter(shots=shots).select("backbone", "dataset", "seed", "accuracy")


def bootstrap_interval(pairs: pl.DataFrame) -> tuple[float | None, float | None, str | None]:
    """Percentiles of the bootstrapped mean, and what was drawn."""
    drawn = []
    datasets = pairs["dataset"].n_unique()
    if datasets >= MIN_DATASETS:
        drawn.append("datasets")
    if datasets < pairs.height:
        drawn.append("seeds")
    if not drawn:
        return None, None, None
    tail = (1 - CONFIDENCE) / 2
    means = _resample(pairs, draw_datasets="datasets" in drawn)
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high), " and ".join(drawn)


def _resample(pairs: pl.DataFrame, *, draw_datasets: bool) -> np.ndarray:
    """The mean difference in each of RESAMPLES samples, from pairs (dataset, difference) of runs.

    A sample is D datasets, drawn with replacement or each once, and of each as many pairs (at most
    P) as it has, drawn with replacement: a dataset as a whole, since its runs share their images.
    """
    rng = np.random.default_rng(0)
    # Sorted, for a join promises no order, and the same pairs must give the same interval.
    pairs = pairs.sort("dataset", "difference").with_row_index("row")
    datasets = pairs.group_by("dataset", maintain_order=True).agg(pl.col("row").min(), pl.len())
    start, size = (datasets[name].to_numpy().astype(int) for name in ("row", "len"))  # (D,)
    chosen = np.arange(len(datasets))[None].repeat(RESAMPLES, 0)  # (R, D)
    if draw_datasets:
        chosen = rng.integers(len(datasets), size=chosen.shape)
    sizes = size[chosen][..., None].repeat(size.max(), -1)  # (R, D, P)
    used = np.arange(size.max()) < sizes  # a dataset may have fewer pairs than P
    drawn = start[chosen][..., None] + rng.integers(sizes)
    found = pairs["difference"].to_numpy()[drawn]
    return (found * used).sum((1, 2)) / used.sum((1, 2))


def _render(
    table: pl.DataFrame,
    found: pl.DataFrame,  # the runs
    reference: str,
    titles: Mapping[str, str],
    notes: Sequence[str],
) -> str:
    """The reference's lead over every other method; a column per number of shots."""
    led = _select_led(table, reference)
    leads = pl.col("method") == reference
    beaten, sign = pl.when(leads).then("other").otherwise("method"), pl.when(leads).then(1)
    over = f"{titles.get(reference, reference)} over"
    rows = tables.pivot(
        led.with_columns(beaten.alias(over), sign=sign.otherwise(-1)),
        [*tables.backbone_column(table), over], "shots", _cell,
        order=sorted(table["shots"].unique()),
        names={over: lambda method: titles.get(method, method)},
    )  # fmt: skip
    return f"{tables.align(rows)}\n\n{' '.join([_explain(led, found), *notes])}\n"


def _select_led(table: pl.DataFrame, reference: str) -> pl.DataFrame:
    """The pairs of methods of which the reference is one."""
    return table.filter(pl.any_horizontal(pl.col("method", "other") == reference))


def _explain(table: pl.DataFrame, found: pl.DataFrame) -> str:
    """The footnote: what the numbers are, and which question the interval answers."""
    drawn = " ".join(table["resampled"].drop_nulls().unique())
    columns = {"datasets": found["dataset"], "seeds": found.filter(pl.col("shots") > 0)["seed"]}
    several = " and ".join(name for name, column in columns.items() if column.n_unique() > 1)
    over = f", the mean over {several}" if several else ""
    mean = f"Points of accuracy{over}, run against run"
    interval = f"the {CONFIDENCE:.0%} interval of {RESAMPLES:,} bootstrap samples"
    if not drawn:
        return f"{mean}. One seed of fewer than {MIN_DATASETS} datasets has no interval."
    meaning = (
        "Datasets are drawn again, and seeds within each, where it has several: this tells how "
        "sure the mean is over datasets like these."
        if "datasets" in drawn
        else "Seeds are drawn again within each dataset, and the datasets stay: this tells how "
        "sure the mean is over these datasets, not over datasets at large. With "
        f"{MIN_DATASETS} datasets or more they would be drawn too."
    )
    return f"{mean}; in brackets {interval}. {meaning}"


def _claim(table: pl.DataFrame, reference: str, titles: Mapping[str, str], datasets: int) -> str:
    """The leads of the reference, and over it, that the rule lets anyone claim."""
    unit, several = ranks.unit_of(datasets), table["backbone"].n_unique() > 1
    counts = pl.len(), pl.count("p").alias("tested"), pl.max("pairs")
    largest = table.group_by("backbone", "shots").agg(*counts).max()
    pairs = largest["tested"].item() or largest["len"].item()
    units = datasets if unit == "dataset" else largest["pairs"].item()
    compared = count(pairs, "pair")
    corrected_over = f"all {compared}" if pairs > 1 else compared
    rule = (
        f"Rule: a lead is claimed where Wilcoxon's signed-rank test over {unit}s, corrected by "
        f"Holm over {corrected_over} of methods at a number of shots, has p below {ALPHA}."
    )
    least = min(1, 2 * 0.5**units * pairs)
    if least >= ALPHA:
        rule += f" With {count(units, unit)} the smallest p of {compared} can be {least:.3g}."
    found = []
    for row in (
        _select_led(table, reference)
        .filter(pl.col("p_holm") < ALPHA)
        .sort("shots", maintain_order=True)
        .to_dicts()
    ):
        names = [row["method"], row["other"]]
        winner, loser = names if row["difference"] > 0 else names[::-1]
        size = "" if row["effect"] is None else f", effect size {abs(row['effect']):.1f}"
        where = f", {row['backbone']}" if several else ""
        found.append(
            f"- {titles.get(winner, winner)} over {titles.get(loser, loser)} at "
            f"{name_shots(row['shots'])}{where}: p {row['p_holm']:.3g}{size}."
        )
    claims = "\n".join(map(tables.escape_markdown, found)) if found else "No lead may be claimed."
    return f"{rule} The effect size is Cohen's d over {unit}s.\n\n{claims}\n"


def _cell(row: dict[str, Any]) -> str:
    mean = f"{row['sign'] * row['difference']:+z.1f}"
    if row["low"] is None:
        return mean
    low, high = sorted(row["sign"] * row[bound] for bound in ("low", "high"))
    return f"{mean} ({low:+z.1f} to {high:+z.1f})"

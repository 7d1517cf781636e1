"""Paired differences between methods, with how sure they are."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import bootstrap

from vtclip.files import write_text
from vtclip.results.aggregate import read_runs, write_table
from vtclip.results.render import align, name_shots

RESAMPLES = 9999
CONFIDENCE = 0.95
SCHEMA = {
    "method": pl.String, "other": pl.String, "shots": pl.Int32, "difference": pl.Float64,
    "low": pl.Float64, "high": pl.Float64, "pairs": pl.Int32,
}  # fmt: skip


def aggregate_differences(
    predictions: Mapping[tuple[str, str], str | Path],
    destination: str | Path,
    *,
    reference: str,
) -> pl.DataFrame:
    """Write how much each method is over each other, as Parquet, CSV and Markdown.

    Two methods are compared run by run: the same dataset, the same seed, the same shots. A method
    that uses no shots is compared at every number of shots.

    Args:
        predictions: (dataset, method) -> predictions file.
        destination: the path to write to, without a suffix.
        reference: the method that the Markdown table compares with all others.

    Returns:
        method, other, shots, difference (points of accuracy, the mean over pairs), low, high (a
        95% bootstrap interval over the pairs; null for a single pair), pairs.
    """
    runs = read_runs(predictions)
    methods = runs["method"].unique(maintain_order=True).to_list()
    few_shot = runs.filter(pl.col("shots") > 0)
    shots = sorted(few_shot["shots"].unique()) or [0]
    rows = [
        _compare(runs, method, other, k)
        for method, other in combinations(methods, 2)
        for k in shots
    ]
    table = pl.DataFrame([row for row in rows if row], schema=SCHEMA, orient="row")
    write_table(table, destination)
    write_text(Path(destination).with_suffix(".md"), _render(table, reference))
    return table


def _compare(runs: pl.DataFrame, method: str, other: str, shots: int) -> tuple[Any, ...] | None:
    left, right = (_runs_at(runs, name, shots) for name in (method, other))
    on = ["dataset", "seed"] if "seed" in left.columns and "seed" in right.columns else ["dataset"]
    pairs = left.join(right, on=on, suffix="_other")
    if pairs.is_empty():
        return None
    differences = (pairs["accuracy"] - pairs["accuracy_other"]).to_numpy()
    low, high = _interval(differences)
    return method, other, shots, float(differences.mean()), low, high, len(differences)


def _runs_at(runs: pl.DataFrame, method: str, shots: int) -> pl.DataFrame:
    """dataset, seed, accuracy at a number of shots; without seed for a method without shots."""
    own = runs.filter(method=method)
    if own["shots"].to_list() == [0] * own.height:
        return own.select("dataset", "accuracy")
    return own.filter(shots=shots).select("dataset", "seed", "accuracy")


def _interval(differences: np.ndarray) -> tuple[float | None, float | None]:
    if len(differences) < 2:
        return None, None
    found = bootstrap(
        (differences,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def _render(table: pl.DataFrame, reference: str) -> str:
    """The reference's lead over every other method; a column a number of shots."""
    shots = sorted(table["shots"].unique())
    cells: dict[str, dict[int, str]] = {}
    for row in table.iter_rows(named=True):
        if reference in (row["method"], row["other"]):
            sign = 1 if row["method"] == reference else -1
            other = row["other"] if sign == 1 else row["method"]
            cells.setdefault(other, {})[row["shots"]] = _cell(row, sign)
    rows = [[f"{reference} over", *(name_shots(k) for k in shots)]]
    rows += [[other, *(found.get(k, "") for k in shots)] for other, found in cells.items()]
    return (
        f"{align(rows)}\n\nPoints of accuracy, the mean over datasets and seeds; in brackets the "
        f"{CONFIDENCE:.0%} interval of {RESAMPLES:,} bootstrap samples of these pairs. It tells "
        "how sure the mean is over these datasets and seeds, not over datasets at large.\n"
    )


def _cell(row: dict[str, Any], sign: int) -> str:
    mean = f"{sign * row['difference']:+.1f}"
    if row["low"] is None:
        return mean
    low, high = sorted((sign * row["low"], sign * row["high"]))
    return f"{mean} ({low:+.1f} to {high:+.1f})"

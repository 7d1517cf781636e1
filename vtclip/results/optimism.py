"""The optimism table: what it is worth to choose on more images, and on the test images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from vtclip.files import MARKED, WATERMARK
from vtclip.parquet import read_parquet
from vtclip.paths import Run
from vtclip.results.differences import CONFIDENCE, bootstrap_interval
from vtclip.results.tables import align, backbone_column, pivot, read_accuracies, write_table

ORACLE = "oracle"
CHOICES = {
    "none": "nothing",
    "validation": "min(shots, 4)",
    "all": "all validation images",
    ORACLE: "ORACLE: test images, no result",
}
RUN = ["backbone", "dataset", "method", "shots", "seed"]
KEY = ["backbone", "method", "shots", "chosen_on"]
SCHEMA = {
    **dict.fromkeys(KEY, pl.String), "shots": pl.Int32,
    **dict.fromkeys(("mean", "gain", "low", "high"), pl.Float64),
    "runs": pl.Int32, "watermark": pl.String,
}  # fmt: skip


class Oracle(NamedTuple):
    """An oracle's run."""

    backbone: str
    dataset: str
    method: str
    shots: int
    seed: int
    predictions: str


def aggregate_optimism(
    runs: Sequence[Run],
    oracles: Sequence[Oracle],
    destination: str | Path,
    *,
    titles: Mapping[str, str] = {},
) -> pl.DataFrame:
    """Write the accuracy of each method under each choice, as Parquet, CSV and Markdown.

    Args:
        runs: the fair heads; the label of each is what it has chosen on, of CHOICES.
        oracles: those that have chosen on the test images.
        destination: the path to write to, without a suffix.
        titles: method -> the name to show.

    Returns:
        backbone, method, shots, chosen_on, mean (accuracy in percent over datasets and seeds), gain
        (over min(shots, 4), run by run), low, high (its 95% bootstrap interval), runs, watermark
        (of an oracle's rows).
    """
    found = _read_runs(runs, oracles)
    plain = found.filter(chosen_on="validation").select(*RUN, plain="accuracy")
    pairs = found.join(plain, on=RUN, how="left", maintain_order="left")
    pairs = pairs.with_columns(difference=pl.col("accuracy") - pl.col("plain"))
    groups = pairs.group_by(*KEY, maintain_order=True)
    rows = [(*key, *_describe(group, key[-1])) for key, group in groups]
    table = pl.DataFrame(rows, SCHEMA, orient="row")
    write_table(table, destination, md=_render(table, titles))
    return table


def _read_runs(runs: Sequence[Run], oracles: Sequence[Oracle]) -> pl.DataFrame:
    """The accuracy in percent of each run under each choice: RUN, chosen_on, accuracy."""
    files = {(*run[:2], run.method, run.label, run.predictions): None for run in runs}
    fair = pl.concat(
        read_accuracies(predictions).select(
            "shots", "seed", "accuracy", backbone=pl.lit(backbone), dataset=pl.lit(dataset),
            method=pl.lit(method), chosen_on=pl.lit(label),
        )
        for backbone, dataset, method, label, predictions in files
    ).select(*RUN, "chosen_on", "accuracy")  # fmt: skip
    unfair = [(*oracle[:5], ORACLE, _read_oracle(oracle.predictions)) for oracle in oracles]
    return pl.concat([fair, pl.DataFrame(unfair, fair.schema, orient="row")])


def _describe(group: pl.DataFrame, chosen_on: object) -> tuple[Any, ...]:
    """The columns of SCHEMA behind the key, of the runs of a method under a choice."""
    known = group.drop_nulls("difference")
    low, high, _ = bootstrap_interval(known) if known.height else (None, None, None)
    mark = WATERMARK if chosen_on == ORACLE else None
    gain = known["difference"].mean()
    return group["accuracy"].mean(), gain, low, high, group.height, mark


def _read_oracle(path: str | Path) -> float:
    """The accuracy in percent of an oracle's predictions."""
    found = read_parquet(path, "label", f"{MARKED}prediction")
    return float((found["label"] == found[f"{MARKED}prediction"]).mean() or 0) * 100  # type: ignore[arg-type]


def _render(table: pl.DataFrame, titles: Mapping[str, str]) -> str:
    key = [*backbone_column(table), "method", "shots"]
    names = {"chosen_on": CHOICES.__getitem__}
    order = list(CHOICES)
    rows = pivot(table, key, "chosen_on", _cell, titles=titles, names=names, order=order)
    return (
        f"{WATERMARK}\n\n{align(rows)}\n\nAccuracy on the test images in percent by what a method "
        "chooses on, the mean over datasets and seeds; then the points over min(shots, 4) "
        f"validation images per class, run against run, and in brackets their {CONFIDENCE:.0%} "
        "bootstrap interval, as in differences.md. Methods without constants choose on something. "
        f"The last column is an upper bound that nobody can reach fairly. {WATERMARK}\n"
    )


def _cell(row: dict[str, Any]) -> str:
    mean = f"{row['mean']:.1f}" + (" (oracle)" if row["watermark"] else "")
    if row["chosen_on"] == "validation" or row["gain"] is None:
        return mean
    if row["low"] is None:
        return f"{mean}, {row['gain']:+.1f}"
    return f"{mean}, {row['gain']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})"

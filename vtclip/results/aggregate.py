"""Predictions to the table: mean and spread of the accuracy over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from vtclip.files import write_text, writing

MEAN = "mean"  # the row over all datasets, in the dataset column


def aggregate_results(
    predictions: Mapping[tuple[str, str], str | Path],
    destination: str | Path,
    *,
    missing: Sequence[str] = (),
) -> pl.DataFrame:
    """Write the results table as Parquet, CSV and Markdown.

    Args:
        predictions: (dataset, method) -> predictions file, in the table's order.
        destination: the path to write to, without a suffix.
        missing: datasets that were left out; the table says so.

    Returns:
        dataset, method, shots, mean, std (of a sample; null for one seed), seeds; accuracies
        in percent. The dataset `mean` is the mean over datasets, seed by seed.
    """
    runs = pl.concat(
        [
            read_accuracies(path).select(
                pl.lit(dataset).alias("dataset"), pl.lit(method).alias("method"), pl.all()
            )
            for (dataset, method), path in predictions.items()
        ]
    )
    runs = pl.concat([runs, _mean_over_datasets(runs)])
    results = runs.group_by("dataset", "method", "shots", maintain_order=True).agg(
        pl.col("accuracy").mean().alias("mean"),
        pl.col("accuracy").std().alias("std"),
        pl.len().cast(pl.Int32).alias("seeds"),
    )
    destination = Path(destination)
    with writing(destination.with_suffix(".parquet")) as temporary:
        results.write_parquet(temporary)
    with writing(destination.with_suffix(".csv")) as temporary:
        results.write_csv(temporary, float_precision=4)
    write_text(destination.with_suffix(".md"), render_table(results, missing))
    return results


def render_table(results: pl.DataFrame, missing: Sequence[str] = ()) -> str:
    """The results as a Markdown table: a row a dataset and method, a column a number of shots."""
    shots = sorted(results["shots"].unique())
    rows = [["dataset", "method", *(name_shots(k) for k in shots)]]
    for group in results.partition_by("dataset", "method", maintain_order=True):
        cells = {row["shots"]: _cell(row["mean"], row["std"]) for row in group.to_dicts()}
        rows.append([group["dataset"][0], group["method"][0], *(cells.get(k, "") for k in shots)])
    rows += [[dataset, "missing", *("" for _ in shots)] for dataset in missing]
    seeds = max(results["seeds"].to_list())
    note = f"Accuracy on the test images in percent, mean ± standard deviation over {seeds} seeds."
    return f"{align(rows)}\n\n{note}\n"


def read_accuracies(path: str | Path) -> pl.DataFrame:
    """shots, seed, accuracy in percent: a row a run."""
    hits = pl.col("prediction") == pl.col("label")
    return (
        pl.scan_parquet(path)
        .group_by("shots", "seed")
        .agg((100 * hits.mean()).alias("accuracy"))
        .sort("shots", "seed")
        .collect()
    )


def _mean_over_datasets(runs: pl.DataFrame) -> pl.DataFrame:
    """The mean run by run, where every dataset has that run."""
    datasets = runs["dataset"].n_unique()
    return (
        runs.group_by("method", "shots", "seed", maintain_order=True)
        .agg(pl.col("accuracy").mean(), pl.len())
        .filter(pl.col("len") == datasets)
        .select(pl.lit(MEAN).alias("dataset"), *(c for c in runs.columns if c != "dataset"))
    )


def name_shots(shots: int) -> str:
    """A number of shots as tables and legends name it."""
    return f"{shots} shot{'' if shots == 1 else 's'}"


def _cell(mean: float, std: float | None) -> str:
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first of them the head, as a Markdown table with columns of one width."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])

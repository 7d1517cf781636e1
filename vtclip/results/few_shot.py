"""Predictions to the table: mean and spread of the accuracy over seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.files import atomic_write, read_record, write_text
from vtclip.parquet import write_parquet
from vtclip.paths import ALL
from vtclip.results.tables import (
    MEAN,
    ROW,
    Source,
    read_runs,
    render_latex,
    render_markdown,
    render_text,
)

KEY = [*ROW, "shots"]
PUBLISHED = {
    "backbone": pl.String, "dataset": pl.String, "method": pl.String, "shots": pl.Int32,
    "published": pl.Float64, "chosen_on": pl.String,
}  # fmt: skip


def aggregate_results(
    sources: Sequence[Source],
    destination: str | Path,
    *,
    titles: Mapping[str, str] | None = None,
    missing: Sequence[str] = (),
    published: pl.DataFrame | None = None,
    records: Sequence[str | Path] = (),
    notes: Sequence[str] = (),
) -> pl.DataFrame:
    """Write the results table as Parquet, CSV, Markdown, LaTeX and plain text.

    Args:
        sources: the predictions, in the table's order.
        destination: the path to write to, without a suffix.
        titles: method -> the name to show; left out, the methods' own names.
        missing: datasets that were left out; the table says so.
        published: what `read_published` gives, to stand beside our numbers.
        records: the run.json of every head; a footnote tells where they differ in what made them.
        notes: footnotes before that one.

    Returns:
        backbone, dataset, method, shots, mean, std (of a sample; null for one seed), seeds,
        published, published_chosen_on (of CHOSEN_ON), difference (ours minus theirs); accuracies in
        percent, null where nothing is published. The dataset `mean` is the mean over datasets, seed
        by seed.
    """
    runs = read_runs(sources)
    runs = pl.concat([runs, _mean_over_datasets(runs)])
    results = runs.group_by(*KEY, maintain_order=True).agg(
        pl.col("accuracy").mean().alias("mean"),
        pl.col("accuracy").std().alias("std"),
        pl.len().cast(pl.Int32).alias("seeds"),
    )
    results = add_published(results, published)
    destination = Path(destination)
    write_table(results, destination)
    notes = [*notes, *list_differences(records)]
    write_text(
        destination.with_suffix(".md"),
        render_markdown(results, missing, titles=titles, notes=notes),
    )
    write_text(destination.with_suffix(".tex"), render_latex(results, titles=titles, notes=notes))
    write_text(
        destination.with_suffix(".txt"), render_text(results, missing, titles=titles, notes=notes)
    )
    return results


def write_table(table: pl.DataFrame, destination: str | Path) -> None:
    """Write a table as Parquet and CSV; `destination` has no suffix.

    All shots are `all` in the CSV, and `vtclip.paths.ALL` in Parquet.
    """
    destination = Path(destination)
    write_parquet(destination.with_suffix(".parquet"), table)
    with atomic_write(destination.with_suffix(".csv")) as temporary:
        _name_all_shots(table).write_csv(temporary, float_precision=4)


def _name_all_shots(table: pl.DataFrame) -> pl.DataFrame:
    if "shots" not in table.columns or ALL not in table["shots"]:
        return table
    return table.with_columns(pl.col("shots").cast(pl.String).replace(str(ALL), "all"))


def _mean_over_datasets(runs: pl.DataFrame) -> pl.DataFrame:
    """The mean run by run, where every dataset has that run."""
    datasets = runs["dataset"].n_unique()
    return (
        runs.group_by("backbone", "method", "shots", "seed", maintain_order=True)
        .agg(pl.col("accuracy").mean(), pl.len())
        .filter(pl.col("len") == datasets)
        .with_columns(dataset=pl.lit(MEAN))
        .select(runs.columns)
    )


def add_published(results: pl.DataFrame, published: pl.DataFrame | None) -> pl.DataFrame:
    """Add the columns `published`, `published_chosen_on` and `difference`.

    The mean over datasets has a published number where every dataset has one; what those were
    chosen on stands there in a list with semicolons.
    """
    if published is None:
        published = pl.DataFrame(schema=PUBLISHED)
    datasets = results.filter(pl.col("dataset") != MEAN)["dataset"].unique()
    means = (
        published.filter(pl.col("dataset").is_in(datasets.implode()))
        .group_by("backbone", "method", "shots")
        .agg(
            pl.col("published").mean(),
            pl.col("chosen_on").unique().sort().str.join("; "),
            pl.len(),
        )
        .filter(pl.col("len") == len(datasets))
        .with_columns(pl.lit(MEAN).alias("dataset"))
    )
    columns = [*KEY, "published", pl.col("chosen_on").alias("published_chosen_on")]
    known = pl.concat([published.select(columns), means.select(columns)])
    return results.join(known, on=KEY, how="left", maintain_order="left").with_columns(
        difference=pl.col("mean") - pl.col("published")
    )


PACKAGES = ("torch", "open_clip_torch", "scikit-learn")  # whose versions may move a number


def list_differences(records: Sequence[str | Path]) -> list[str]:
    """A sentence for each kind of thing that differs between the runs of a table.

    Device kinds, precisions, and major.minor versions of the packages that compute.

    Args:
        records: the run.json of every head.
    """
    runs = [read_record(record) for record in records]
    return [
        f"Not all runs have the same {kind}: {_count_runs(found)}."
        for kind, found in _gather(runs).items()
        if len(found) > 1
    ]


def _gather(runs: Sequence[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Kind -> how many runs have each value."""
    kinds = {"device": "device_kind", "precision": "precision"}
    found = {
        kind: Counter(str(run[key]) for run in runs if key in run) for kind, key in kinds.items()
    }
    for package in PACKAGES:
        versions = (run.get("versions", {}).get(package) for run in runs)
        short = (".".join(version.split(".")[:2]) for version in versions if version)
        found[f"version of {package}"] = Counter(short)
    return found


def _count_runs(found: Counter[str]) -> str:
    return ", ".join(f"{value} ({number} runs)" for value, number in found.most_common())

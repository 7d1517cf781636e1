"""The table and figure of heads on other test sets than their own, and on halves of the classes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.axes import Axes

from vtclip.config.dataset import HALVES, ClassSplit, dataset_name
from vtclip.parquet import read_parquet
from vtclip.paths import Run, format_shots
from vtclip.results import tables
from vtclip.results.figures import STYLES, draw_panels, draw_rows, title_of
from vtclip.results.metrics import calibration_error
from vtclip.results.tables import ELEVEN, MEAN, NOTHING_PUBLISHED

HARMONIC = "harmonic mean"
CELL = ["backbone", "dataset", "tested", "method", "shots"]
MEASURES = ["accuracy", "calibration_error"]
SCHEMA = {
    "backbone": pl.String, "dataset": pl.String, "tested": pl.String, "method": pl.String,
    "shots": pl.Int32, "seed": pl.Int32, "accuracy": pl.Float64, "calibration_error": pl.Float64,
    "reason": pl.String,
}  # fmt: skip
NOTE = "An image is classified among the classes of its test set only, or of the tested half."


def aggregate_tests(
    # All heads on all test sets, in the table's order; one with a reason, and without predictions,
    # where a method's heads cannot be tested.
    runs: Sequence[Run],
    destination: str | Path,  # its suffix is replaced
    *,
    titles: Mapping[str, str] = {},  # dataset or method -> the name to show
    notes: Sequence[str] = (),
    published: pl.DataFrame = NOTHING_PUBLISHED,  # of `read_published`, by test set
) -> pl.DataFrame:
    """Write the table as Parquet, CSV and Markdown.

    Returns:
        backbone, dataset, tested, method, shots, mean, std, calibration_error,
        calibration_error_std, seeds, published, difference, reason; in percent. `tested` is a test
        set, or `mean`: the mean over all but the dataset's own, seed by seed. Of halves it is
        `base`, `new` or `harmonic mean`, which is that of the two means over seeds; there the
        dataset `mean` is the mean over datasets. An empty cell has a reason.
    """
    found = _read_runs(runs)
    halves = any(ClassSplit.parse(run.dataset).half for run in runs)
    runs_and_means = pl.concat([found, *_find_means(found, halves=halves)])
    counted = {"seeds": pl.count("accuracy").cast(pl.Int32), "reason": pl.first("reason")}
    table = tables.mean_and_deviation(runs_and_means, CELL, *MEASURES, **counted)
    table = table.rename({"accuracy": "mean", "accuracy_std": "std"})
    if halves:
        table = pl.concat([table, _harmonic_mean(table)])
    table = _add_published(_sort(table), published)
    markdown = _render(table, titles, notes)
    table = table.drop("published_chosen_on")
    tables.write_table(table, destination, md=markdown)
    return table


def _read_runs(runs: Sequence[Run]) -> pl.DataFrame:
    """A row per run; one without numbers, and with the reason, where there are no predictions."""
    found = []
    for run in tables.by_file(runs):
        rows = _measure_runs(run.predictions) if run.predictions else [{"reason": run.reason}]
        names = {
            "backbone": run.backbone, "dataset": dataset_name(run.dataset),
            "tested": ClassSplit.parse(run.tested).half or run.tested, "method": run.method,
        }  # fmt: skip
        found += [names | row for row in rows]
    return pl.DataFrame(found, schema=SCHEMA)


def _measure_runs(predictions: str | Path) -> list[dict[str, Any]]:
    table = read_parquet(predictions, "shots", "seed", "label", "prediction", "confidence")
    rows = []
    for (shots, seed), run in table.group_by("shots", "seed", maintain_order=True):
        hits = (run["label"] == run["prediction"]).to_numpy()
        error = calibration_error(hits, run["confidence"].to_numpy())
        measured = {"accuracy": 100 * float(hits.mean()), "calibration_error": 100 * error}
        rows.append({"shots": shots, "seed": seed, **measured})
    return rows


def _find_means(runs: pl.DataFrame, *, halves: bool) -> list[pl.DataFrame]:
    """The mean of each half over datasets, or over test sets but the dataset's own; of several."""
    if halves:
        column, groups = "dataset", [runs]
    else:
        others = runs.filter(pl.col("tested") != pl.col("dataset"))
        column, groups = "tested", others.partition_by("dataset", maintain_order=True)
    return [
        tables.mean_over(group.drop_nulls("accuracy"), column, number, *MEASURES)
        for group in groups
        if (number := group[column].n_unique()) > 1
    ]


def _harmonic_mean(table: pl.DataFrame) -> pl.DataFrame:
    """2 b n / (b + n) of the accuracies on base and new classes, where both are known."""
    key = [name for name in CELL if name != "tested"]
    base, new = (table.drop_nulls("mean").filter(tested=half) for half in HALVES)
    both = base.join(new, on=key, suffix="_new", maintain_order="left")
    product, total = pl.col("mean") * pl.col("mean_new"), pl.col("mean") + pl.col("mean_new")
    # Two accuracies of 0 have a harmonic mean of 0, not none.
    harmonic = pl.when(total > 0).then(2 * product / total).otherwise(0.0)
    known = both.select(*key, "seeds", harmonic.alias("mean"), tested=pl.lit(HARMONIC))
    return pl.concat([table.clear(), known], how="diagonal")


def _sort(table: pl.DataFrame) -> pl.DataFrame:
    """Sort backbones, datasets, methods and test sets as they came, and means after them."""
    columns = ("backbone", "dataset", "method", "tested")
    ranks = [pl.col(column).cast(pl.Enum(_list_names(table[column]))) for column in columns]
    return table.sort(*ranks, "shots", maintain_order=True)


def _list_names(column: pl.Series) -> list[str]:
    """The names in a column as they come, and means after them."""
    names = column.unique(maintain_order=True).to_list()
    return sorted(names, key=lambda name: name in (MEAN, HARMONIC))


def _add_published(table: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
    """Add the published numbers; a published mean over datasets is of the eleven alone."""
    if set(table["dataset"]) - {MEAN} != ELEVEN:
        published = published.filter(pl.col("dataset") != MEAN)
    return tables.join_published(table, published, CELL).select(pl.exclude("reason"), "reason")


def _render(table: pl.DataFrame, titles: Mapping[str, str], notes: Sequence[str]) -> str:
    """The table as Markdown: accuracy, calibration error, and published numbers beside ours."""
    mean = tables.describe_mean(table)
    parts = [
        " ".join([f"Accuracy on the test images in percent, {mean}. {NOTE}", *notes]) + "\n",
        f"{_lay_out_measure(table, 'mean', 'std', titles)}\n",
        *(f"–: {reason}.\n" for reason in table["reason"].drop_nulls().unique(maintain_order=True)),
        "Expected calibration error in percent, on the same images.\n",
        f"{_lay_out_measure(table, 'calibration_error', 'calibration_error_std', titles)}\n",
    ]
    beside = table.drop_nulls("difference")
    parts.append(tables.render_published(beside, lambda cell: _lay_out(beside, cell, titles)))
    return "\n".join(filter(None, parts))


def _lay_out_measure(table: pl.DataFrame, mean: str, std: str, titles: Mapping[str, str]) -> str:
    def cell(row: dict[str, Any]) -> str:
        return "–" if row[mean] is None else tables.format_mean(row[mean], row[std])

    is_shown = pl.any_horizontal(pl.col(mean, "reason").is_not_null())
    return _lay_out(table.filter(is_shown), cell, titles)


def _lay_out(
    table: pl.DataFrame, cell: Callable[[dict[str, Any]], str], titles: Mapping[str, str]
) -> str:
    """A row per dataset, method and number of shots, a column per test set.

    A test set that a method cannot be tested on has a sign in the rows that the method has; a
    method without any has one row.
    """
    method = ["backbone", "dataset", "method"]
    no_row = pl.col("shots").is_null() & pl.col("shots").is_not_null().any().over(method)
    shown = table.filter(~no_row).rename({"dataset": "trained on"})
    key = ["trained on", *tables.backbone_column(table), "method", "shots"]

    names: dict[str, Callable[[Any], str]] = {
        "trained on": partial(_title, titles=titles),
        "shots": lambda shots: "" if shots is None else str(format_shots(shots)),
        "tested": partial(_title, titles=titles),
    }
    order = _list_names(table["tested"])
    rows = tables.pivot(
        shown, key, "tested", cell, titles=titles, names=names, order=order, empty="–"
    )
    return tables.align(rows)


def plot_tests(table: str | Path, destination: str | Path, titles: Mapping[str, str]) -> None:
    """Draw accuracy by test set at the most shots: a panel per dataset, a marker per method."""
    found = read_parquet(table)
    methods = found["method"].unique(maintain_order=True).to_list()
    groups = found.group_by("backbone", "dataset").agg(pl.col("tested").n_unique())
    columns = min(4, len(groups))
    draw_panels(
        destination, found, partial(_draw_tests, methods=methods, titles=titles), titles,
        columns=columns, margins=(1, 0), panel_size=(3.4, 1.2 + 0.35 * max(groups["tested"])),
        # A method's name takes less than two inches.
        legend_columns=int((1 + 3.4 * columns) / 2),
    )  # fmt: skip


def _draw_tests(
    panel: Axes, group: pl.DataFrame, methods: Sequence[str], titles: Mapping[str, str]
) -> None:
    series = []
    for number, method in enumerate(methods):
        rows = group.drop_nulls("mean").filter(method=method)
        rows = rows.filter(pl.col("shots") == pl.col("shots").max())
        marker = STYLES[number % len(STYLES)][0]
        series.append((title_of(method, titles), marker, rows.select("tested", "mean", "std")))
    tested = group["tested"].unique(maintain_order=True)
    draw_rows(panel, series, {name: _title(name, titles) for name in tested}, spread=0.6)
    panel.set_xlabel("accuracy (%)")


def _title(name: str, titles: Mapping[str, str]) -> str:
    return name if name == MEAN else title_of(name, titles)

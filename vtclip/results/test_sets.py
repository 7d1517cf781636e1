"""The table and figure of heads on other test sets than their own, and on halves of the classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from matplotlib.axes import Axes

from vtclip.config.dataset import HALVES, ClassSplit, dataset_name
from vtclip.files import write_text
from vtclip.parquet import read_parquet
from vtclip.results.few_shot import write_table
from vtclip.results.figures import STYLES, drawing, title_of
from vtclip.results.metrics import calibration_error
from vtclip.results.tables import MEAN, align

HARMONIC = "harmonic mean"
CELL = ["backbone", "dataset", "tested", "method", "shots"]
MEASURES = ["accuracy", "calibration_error"]
# The datasets of the published means over datasets.
ELEVEN = {
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "flowers102", "food101",
    "fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101",
}  # fmt: skip
NOTE = (
    "mean ± standard deviation over seeds. An image is classified among the classes of its test "
    "set only, or of the tested half. Test images were used for nothing else."
)


class Asked(NamedTuple):
    """A method's heads on one dataset, and a test set."""

    backbone: str
    dataset: str
    tested: str
    method: str
    predictions: str | Path | None
    """None where it cannot be asked"""
    reason: str
    """why, if so"""


def aggregate_tests(
    asked: Sequence[Asked],
    destination: str | Path,
    *,
    titles: Mapping[str, str] | None = None,
    published: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Write the table as Parquet, CSV and Markdown.

    Args:
        asked: all cells, in the table's order.
        destination: the path to write to, without a suffix.
        titles: dataset or method -> the name to show.
        published: backbone, dataset, tested, method, shots, published (percent).

    Returns:
        backbone, dataset, tested, method, shots, mean, std, calibration_error,
        calibration_error_std, seeds, published, difference, reason; in percent. `tested` is a test
        set, or `mean`: the mean over all but the dataset's own, seed by seed. Of halves it is
        `base`, `new` or `harmonic mean`, which is that of the two means over seeds; there the
        dataset `mean` is the mean over datasets. An empty cell has a reason.
    """
    halves = any(ClassSplit.parse(cell.dataset).half for cell in asked)
    runs = pl.concat([_read_runs(cell) for cell in asked])
    others = _mean_over_datasets(runs) if halves else _mean_over_tests(runs)
    table = _mean_over_seeds(pl.concat([runs, others]))
    if halves:
        table = pl.concat([table, _harmonic(table)])
    table = _add_published(_in_order(table), published)
    destination = Path(destination)
    write_table(table, destination)
    write_text(destination.with_suffix(".md"), render(table, titles or {}))
    return table


def _read_runs(cell: Asked) -> pl.DataFrame:
    """A row a run; one without numbers, and with the reason, where it cannot be asked."""
    half = ClassSplit.parse(cell.tested).half
    rows: list[dict[str, Any]] = [{"shots": None, "seed": None, "reason": cell.reason}]
    if cell.predictions is not None:
        columns = ("shots", "seed", "label", "prediction", "confidence")
        table = read_parquet(cell.predictions, *columns)
        rows = [
            {"shots": shots, "seed": seed, **_measure(run)}
            for (shots, seed), run in table.group_by("shots", "seed", maintain_order=True)
        ]
    schema = {"shots": pl.Int32, "seed": pl.Int32, "reason": pl.String}
    schema |= dict.fromkeys(MEASURES, pl.Float64)
    return pl.DataFrame(rows, schema=schema).select(
        pl.lit(cell.backbone).alias("backbone"),
        pl.lit(dataset_name(cell.dataset)).alias("dataset"),
        pl.lit(half or cell.tested).alias("tested"),
        pl.lit(cell.method).alias("method"),
        pl.all(),
    )


def _measure(run: pl.DataFrame) -> dict[str, float]:
    hits = (run["label"] == run["prediction"]).to_numpy()
    error = calibration_error(hits, run["confidence"].to_numpy())
    return {"accuracy": 100 * float(hits.mean()), "calibration_error": 100 * error}


def _mean_over_tests(runs: pl.DataFrame) -> pl.DataFrame:
    """The mean over all test sets but the dataset's own, where there are several."""
    others = runs.filter(pl.col("tested") != pl.col("dataset"))
    wanted = others.group_by("dataset").agg(pl.col("tested").n_unique().alias("wanted"))
    means = _mean_of(others, ["backbone", "dataset", "method", "shots", "seed"])
    return (
        means.join(wanted, on="dataset", maintain_order="left")
        .filter(pl.col("wanted") > 1, pl.col("number") == pl.col("wanted"))
        .with_columns(tested=pl.lit(MEAN))
        .select(runs.columns)
    )


def _mean_over_datasets(runs: pl.DataFrame) -> pl.DataFrame:
    """The mean of each half over the datasets, where there are several."""
    wanted = runs["dataset"].n_unique()
    means = _mean_of(runs, ["backbone", "tested", "method", "shots", "seed"])
    every = means.filter(pl.col("number") == wanted, pl.lit(wanted > 1))
    return every.with_columns(dataset=pl.lit(MEAN)).select(runs.columns)


def _mean_of(runs: pl.DataFrame, over: list[str]) -> pl.DataFrame:
    answered = runs.filter(pl.col("accuracy").is_not_null())
    measures = [pl.col(name).mean() for name in MEASURES]
    grouped = answered.group_by(over, maintain_order=True)
    return grouped.agg(*measures, pl.len().alias("number"), reason=pl.lit(None, pl.String).first())


def _mean_over_seeds(runs: pl.DataFrame) -> pl.DataFrame:
    return runs.group_by(CELL, maintain_order=True).agg(
        pl.col("accuracy").mean().alias("mean"),
        pl.col("accuracy").std().alias("std"),
        pl.col("calibration_error").mean(),
        pl.col("calibration_error").std().alias("calibration_error_std"),
        pl.col("accuracy").count().cast(pl.Int32).alias("seeds"),
        pl.col("reason").first(),
    )


def _harmonic(table: pl.DataFrame) -> pl.DataFrame:
    """2 b n / (b + n) of the accuracies on base and new classes, where both are known."""
    key = [name for name in CELL if name != "tested"]
    base, new = (table.filter(pl.col("mean").is_not_null(), tested=half) for half in HALVES)
    both = base.join(new, on=key, suffix="_new", maintain_order="left")
    product, total = pl.col("mean") * pl.col("mean_new"), pl.col("mean") + pl.col("mean_new")
    nothing = [
        pl.lit(None, table.schema[name]).alias(name)
        for name in ("std", "calibration_error", "calibration_error_std", "reason")
    ]
    # Two accuracies of 0 have a harmonic mean of 0, not none.
    harmonic = pl.when(total > 0).then(2 * product / total).otherwise(0.0)
    return both.with_columns(harmonic.alias("mean"), *nothing, tested=pl.lit(HARMONIC)).select(
        table.columns
    )


def _in_order(table: pl.DataFrame) -> pl.DataFrame:
    """Backbones, datasets, methods and test sets as they came, and means after them."""
    ranks = [
        pl.col(column).replace_strict({name: n for n, name in enumerate(_names(table[column]))})
        for column in ("backbone", "dataset", "method", "tested")
    ]
    return table.sort(*ranks, "shots", maintain_order=True)


def _names(column: pl.Series) -> list[str]:
    """The names in a column as they come, and means after them."""
    names = column.unique(maintain_order=True).to_list()
    return sorted(names, key=lambda name: name in (MEAN, HARMONIC))


def _add_published(table: pl.DataFrame, published: pl.DataFrame | None) -> pl.DataFrame:
    """Add `published` and `difference`; a mean over datasets is that of the eleven alone."""
    if published is None:
        published = pl.DataFrame(
            schema={name: table.schema[name] for name in CELL} | {"published": pl.Float64}
        )
    if set(table["dataset"]) - {MEAN} != ELEVEN:
        published = published.filter(pl.col("dataset") != MEAN)
    known = published.select(*CELL, "published")
    joined = table.join(known, on=CELL, how="left", maintain_order="left")
    joined = joined.with_columns(difference=pl.col("mean") - pl.col("published"))
    return joined.select(pl.exclude("reason"), "reason")


def render(table: pl.DataFrame, titles: Mapping[str, str]) -> str:
    """The table as Markdown: accuracy, calibration error, and published numbers beside ours."""
    parts = [
        f"Accuracy on the test images in percent, {NOTE}\n",
        f"{_spread(table, titles, ('mean', 'std'))}\n",
        *(f"–: {reason}.\n" for reason in table["reason"].drop_nulls().unique(maintain_order=True)),
        "Expected calibration error in percent, on the same images.\n",
        f"{_spread(table, titles, ('calibration_error', 'calibration_error_std'))}\n",
    ]
    beside = table.filter(pl.col("difference").is_not_null())
    if not beside.is_empty():
        parts += ["Ours / published (difference):\n", f"{_spread_published(beside, titles)}\n"]
    return "\n".join(parts)


def _spread(table: pl.DataFrame, titles: Mapping[str, str], measure: tuple[str, str]) -> str:
    known = table.filter(pl.col(measure[0]).is_not_null() | pl.col("reason").is_not_null())
    return _lay_out(known, titles, lambda row: _show(row[measure[0]], row[measure[1]]))


def _spread_published(table: pl.DataFrame, titles: Mapping[str, str]) -> str:
    return _lay_out(
        table,
        titles,
        lambda row: f"{row['mean']:.1f} / {row['published']:.1f} ({row['difference']:+.1f})",
    )


def _lay_out(table: pl.DataFrame, titles: Mapping[str, str], cell: Any) -> str:
    """A row a dataset, method and number of shots, a column a test set.

    What cannot be asked of a method stands in the rows that it has, or in one of its own.
    """
    tested = _names(table["tested"])
    several = table["backbone"].n_unique() > 1
    head = ["trained on", *(["backbone"] if several else []), "method", "shots"]
    rows = [[*head, *(_name(name, titles) for name in tested)]]
    for group in table.partition_by("backbone", "dataset", "method", maintain_order=True):
        key = group.row(0, named=True)
        named = [_name(key["dataset"], titles), *([key["backbone"]] if several else [])]
        named.append(titles.get(key["method"], key["method"]))
        for shots in group["shots"].drop_nulls().unique(maintain_order=True).to_list() or [None]:
            found = [] if shots is None else group.filter(shots=shots).to_dicts()
            cells = {row["tested"]: cell(row) for row in found}
            number = "" if shots is None else str(shots)
            rows.append([*named, number, *(cells.get(name, "–") for name in tested)])
    return align(rows)


def _name(name: str, titles: Mapping[str, str]) -> str:
    return name if name == MEAN else title_of(name, titles)


def _show(mean: float | None, std: float | None) -> str:
    if mean is None:
        return ""
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def plot_tests(table: str | Path, destination: str | Path, titles: Mapping[str, str]) -> None:
    """Draw accuracy by test set at the most shots: a panel a dataset, a marker a method.

    Args:
        table: the table of test sets, in Parquet.
        destination: the path to write to, without a suffix; .svg and .png are written.
        titles: dataset or method -> the name to show.
    """
    found = read_parquet(table)
    methods = found["method"].unique(maintain_order=True).to_list()
    groups = found.partition_by("backbone", "dataset", maintain_order=True)
    several = found["backbone"].n_unique() > 1
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    longest = max(group["tested"].n_unique() for group in groups)
    width = 1 + 3.4 * columns  # inches, of which a method's name takes less than two
    with drawing(destination, width, rows * (1.2 + 0.35 * longest)) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for panel, group in zip(panels, groups, strict=False):
            _draw_tests(panel, group, methods, titles)
            name = title_of(group["dataset"][0], titles)
            panel.set_title(f"{name}\n{group['backbone'][0]}" if several else name, fontsize=11)
        for panel in panels[len(groups) :]:
            panel.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=int(width / 2))


def _draw_tests(
    panel: Axes, group: pl.DataFrame, methods: Sequence[str], titles: Mapping[str, str]
) -> None:
    tested = group["tested"].unique(maintain_order=True).to_list()
    places = {name: -number for number, name in enumerate(tested)}
    for number, method in enumerate(methods):
        rows = group.filter(pl.col("mean").is_not_null(), method=method)
        rows = rows.filter(pl.col("shots") == pl.col("shots").max())
        offset = 0.6 * (number / max(1, len(methods) - 1) - 0.5)
        panel.errorbar(
            rows["mean"], [places[name] - offset for name in rows["tested"]],
            xerr=rows["std"].fill_null(0), fmt=STYLES[number % len(STYLES)][0], markersize=4,
            color=f"C{number % 10}", elinewidth=1, label=title_of(method, titles),
        )  # fmt: skip
    panel.set_yticks(list(places.values()), [_name(name, titles) for name in places])
    panel.set_xlabel("accuracy (%)")
    panel.grid(alpha=0.3)

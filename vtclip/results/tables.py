"""Tables of runs: accuracies, their mean and deviation over seeds, and their layout as text.

What a user called something is text in all of them, and never markup. Published numbers are read
here too, to stand beside the runs'.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.config.dataset import MEAN  # the row over all datasets, in the dataset column
from vtclip.files import atomic_write, write_text
from vtclip.parquet import read_metadata_key, read_parquet, write_parquet
from vtclip.paths import ALL, Run, name_shots

NOTES = b"notes"  # key of a table's metadata: footnotes, as JSON
KEY = ["backbone", "dataset", "method", "shots"]  # of a row, but in the ablation

# What Markdown would read as markup: not the underscore of `oxford_pets`, or the sign of `A & B`.
_MARKDOWN = re.compile(r"[\\`*\[|$~]|&(?=[\w#])|<(?=[\w/!?])|(?<![^\W_])_|_(?![^\W_])")

PUBLISHED = {
    "method": pl.String, "dataset": pl.String, "shots": pl.Int32, "accuracy": pl.Float64,
    "backbone": pl.String, "chosen_on": pl.String, "source": pl.String,
}  # fmt: skip
# What settings and epoch were chosen on, as the file has it -> in words.
CHOSEN_ON = {
    "nothing": "no image",
    "min(k, 4)": "min(shots, 4) validation images per class",
    "k a class": "as many validation images per class as shots",
    "validation split": "the whole validation split",
    "test set": "the test images",
    "not stated": "images that its authors do not state",
}
# The datasets of the published means over datasets.
ELEVEN = {
    "imagenet", "caltech101", "oxford_pets", "stanford_cars", "flowers102", "food101",
    "fgvc_aircraft", "sun397", "dtd", "eurosat", "ucf101",
}  # fmt: skip
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
OPENAI = "openai"  # the weights that all published numbers were made with
NOTHING_PUBLISHED = pl.DataFrame(schema={
    "backbone": pl.String, "method": pl.String, "dataset": pl.String, "tested": pl.String,
    "shots": pl.Int32, "published": pl.Float64, "chosen_on": pl.String
})  # fmt: skip


def read_runs(runs: Iterable[Run]) -> pl.DataFrame:
    """Accuracy in percent by backbone, dataset, method, shots and seed."""
    return pl.concat([name_rows(read_accuracies(run.predictions), run) for run in by_file(runs)])


def by_file(runs: Iterable[Run]) -> list[Run]:
    """One run for each file of predictions, or reason why there is none."""
    key = attrgetter("backbone", "dataset", "tested", "method", "predictions")
    return list({key(run): run for run in runs}.values())


def name_rows(table: pl.DataFrame, run: Run) -> pl.DataFrame:
    """The table, each of its rows with a run's backbone, dataset and method."""
    return table.with_columns(
        backbone=pl.lit(run.backbone), dataset=pl.lit(run.dataset), method=pl.lit(run.method)
    )


def read_accuracies(path: str | Path) -> pl.DataFrame:
    """Accuracy in percent by shots and seed, of a file of predictions."""
    hits = pl.col("prediction") == pl.col("label")
    return (
        read_parquet(path, "shots", "seed", "label", "prediction")
        .group_by("shots", "seed")
        .agg((100 * hits.mean()).alias("accuracy"))
        .sort("shots", "seed")
    )


def mean_over(runs: pl.DataFrame, column: str, number: int, *measures: str) -> pl.DataFrame:
    """The mean run by run over all values of a column, where `number` of them have that run.

    All columns besides `column`, in which `mean` then stands, and `measures` say which run it is.
    """
    run = [name for name in runs.columns if name not in (column, *measures)]
    return (
        runs.group_by(run, maintain_order=True)
        .agg(pl.col(*measures).mean(), pl.len())
        .filter(pl.col("len") == number)
        .with_columns(pl.lit(MEAN).alias(column))
        .select(runs.columns)
    )


def mean_and_deviation(
    runs: pl.DataFrame, key: Sequence[str], *measures: str, **more: pl.Expr
) -> pl.DataFrame:
    """Mean and standard deviation of each measure over runs, as `<measure>` and `<measure>_std`.

    The deviation is that of a sample, null for one run. `seeds` is the number of runs; `more` are
    further columns, computed from the runs of a key.
    """
    columns: list[pl.Expr] = []
    for measure in measures:
        columns += [pl.col(measure).mean(), pl.col(measure).std().name.suffix("_std")]
    more = {"seeds": pl.len().cast(pl.Int32)} | more
    return runs.group_by(key, maintain_order=True).agg(*columns, **more)


def drop_lone_mean(table: pl.DataFrame) -> pl.DataFrame:
    """The rows to show: without the mean over datasets where there is one dataset."""
    datasets = table.filter(pl.col("dataset") != MEAN)
    return datasets if datasets["dataset"].n_unique() == 1 else table


def describe_mean(table: pl.DataFrame) -> str:
    """Say over how many seeds a table's numbers are means."""
    seeds = max(table["seeds"].to_list())
    return f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "of one seed"


def write_table(
    table: pl.DataFrame,
    destination: str | Path,
    *,
    notes: Sequence[str] = (),  # footnotes, for what is made from the Parquet file
    **texts: str,
) -> None:
    """Write a table as Parquet and CSV, and each of `texts` under its name as the suffix.

    All shots are `all` in the CSV, and `vtclip.paths.ALL` in Parquet.
    """
    destination = Path(destination)
    metadata = {NOTES: json.dumps(notes).encode()} if notes else None
    write_parquet(destination.with_suffix(".parquet"), table, metadata)
    if "shots" in table.columns and ALL in table["shots"]:
        table = table.with_columns(pl.col("shots").cast(pl.String).replace(str(ALL), "all"))
    with atomic_write(destination.with_suffix(".csv")) as temporary:
        table.write_csv(temporary, float_precision=4)
    for suffix, text in texts.items():
        write_text(destination.with_suffix(f".{suffix}"), text)


def read_notes(table: str | Path) -> list[str]:
    """Read the footnotes of a table in Parquet."""
    return json.loads(read_metadata_key(table, NOTES) or "[]")


def pivot(
    table: pl.DataFrame,
    rows: Sequence[str],  # the columns that say which row a cell is in; they stand first in it
    columns: str,  # the column that says which column a cell is in
    cell: Callable[[dict[str, Any]], Any],  # a row of the table -> what to show of it
    *,
    titles: Mapping[str, str] = {},  # method -> the name to show
    names: Mapping[str, Callable[[Any], str]] = {},  # column -> what to show of its values
    order: Sequence[Any] | None = None,  # the values of `columns`; left out, all of them, sorted
    empty: Any = "",  # what a cell shows that the table does not have
) -> list[list[Any]]:
    """Lay a table out in two directions: the head, then a row per key, in the table's order."""
    names = {"method": lambda name: titles.get(name, name), "shots": name_shots} | {**names}
    order = sorted(table[columns].unique()) if order is None else order
    found = [[*rows, *(names.get(columns, str)(value) for value in order)]]
    for key, group in table.group_by(rows, maintain_order=True):
        cells = {row[columns]: cell(row) for row in group.to_dicts()}
        named = [names.get(column, str)(value) for column, value in zip(rows, key, strict=True)]
        found.append([*named, *(cells.get(value, empty) for value in order)])
    return found


def backbone_column(table: pl.DataFrame) -> list[str]:
    """The column that names the backbone, to show where a table has two or more."""
    return ["backbone"] if table["backbone"].n_unique() > 1 else []


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first of them the head, as a Markdown table with columns of one width."""
    rows = [[escape_markdown(cell) for cell in row] for row in rows]
    widths = list_widths(rows)
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def list_widths(rows: Sequence[Sequence[str]]) -> list[int]:
    """The number of characters in the longest cell of each column."""
    return [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]


def format_mean(mean: float, std: float | None, between: str = " ± ") -> str:
    """A mean with its deviation, if there is one: `60.0 ± 1.2`."""
    return f"{mean:.1f}" if std is None else f"{mean:.1f}{between}{std:.1f}"


def one_line(text: str) -> str:
    """Text without line breaks, and with a sign in place of what cannot be printed."""
    joined = " ".join(text.split())
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in joined)


def escape_markdown(text: str) -> str:
    """Text as a cell of a Markdown table shows it literally."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


def join_published(
    table: pl.DataFrame, published: pl.DataFrame, key: Sequence[str]
) -> pl.DataFrame:
    """Add the columns `published`, `published_chosen_on` and `difference`."""
    known = published.select(*key, "published", published_chosen_on="chosen_on")
    joined = table.join(known, on=key, how="left", maintain_order="left")
    return joined.with_columns(difference=pl.col("mean") - pl.col("published"))


def render_published(
    beside: pl.DataFrame, lay_out: Callable[[Callable[[dict[str, Any]], str]], str]
) -> str:
    """Ours, theirs and the difference in Markdown, as `lay_out` lays out cells; "" without theirs.

    A mark beside a published number says which of `published_chosen_on` it is.
    """
    if beside.is_empty():
        return ""
    kinds = beside["published_chosen_on"].unique(maintain_order=True)
    marks = {kind: str(number).translate(RAISED) for number, kind in enumerate(kinds, start=1)}
    words = {kind: ", or ".join(CHOSEN_ON[word] for word in kind.split("; ")) for kind in kinds}
    explained = "; ".join(f"{mark} {words[kind]}" for kind, mark in marks.items())

    def cell(row: dict[str, Any]) -> str:
        theirs = f"{row['published']:.1f}{marks[row['published_chosen_on']]}"
        return f"{row['mean']:.1f} / {theirs} ({row['difference']:+z.1f})"

    return (
        f"Ours / published (difference):\n\n{lay_out(cell)}\n\n"
        f"What the published numbers' settings were chosen on: {explained}.\n"
    )


class PublishedError(ValueError):
    """A file of published numbers that cannot be used."""


def read_published(
    path: str | Path, backbones: Sequence[tuple[str, str, str]], *, by_test_set: bool = False
) -> pl.DataFrame:
    """The published numbers for some backbones; none for other weights than OpenAI's.

    The CSV file has the columns PUBLISHED, and `tested` for the table of test sets. A backbone is
    its features folder, open_clip's name and its tag of the weights; `-quickgelu` at the end of a
    name makes no other backbone.

    Returns:
        backbone (the features folder), method, dataset, shots, published (percent), chosen_on,
        source; and tested, by test set.
    """
    more = ["tested"] if by_test_set else []
    schema = PUBLISHED | dict.fromkeys(more, pl.String)
    table = pl.read_csv(path, schema_overrides=schema)
    _check_published(table, schema, path)
    names = [
        (folder, name.removesuffix("-quickgelu"))
        for folder, name, weights in backbones
        if weights == OPENAI
    ]
    schema = dict.fromkeys(["folder", "backbone"], pl.String)
    table = table.join(pl.DataFrame(names, schema=schema, orient="row"), on="backbone").select(
        pl.col("folder").alias("backbone"), "method", "dataset", "shots",
        pl.col("accuracy").alias("published"), "chosen_on", "source", *more,
    )  # fmt: skip
    key = ["backbone", "method", "dataset", "shots", *more]
    twice = table.filter(table.select(key).is_duplicated()).select(key[1:])
    if twice.height:
        found = ", ".join(str(value) for value in twice.row(0))
        raise PublishedError(f"{path}: {found} is there twice. Keep one of the two lines.")
    return table


def _check_published(table: pl.DataFrame, schema: Iterable[str], path: str | Path) -> None:
    """Refuse a file without a column, or with something else that was chosen on."""
    missing = [column for column in schema if column not in table.columns]
    if missing:
        raise PublishedError(
            f"{path}: expected the columns {', '.join(schema)}; missing: {', '.join(missing)}."
        )
    strange = table.filter(~pl.col("chosen_on").fill_null("").is_in(list(CHOSEN_ON)))
    if strange.height:
        row = strange.row(0, named=True)
        raise PublishedError(
            f"{path}: {row['method']}, {row['dataset']}, {row['shots']}: chosen_on: found "
            f"{row['chosen_on'] or 'no word'}; expected one of: {'; '.join(CHOSEN_ON)}."
        )

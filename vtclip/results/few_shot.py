"""The results table: mean and deviation of the accuracy over seeds."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.paths import Run, Sample, distinct, format_shots, name_shots
from vtclip.results import tables
from vtclip.results.footnotes import describe_ties, describe_used, find_inconsistencies
from vtclip.results.tables import ELEVEN, KEY, MEAN, NOTHING_PUBLISHED

WIDTH = 100  # columns of a terminal
_LATEX = str.maketrans({
    **{sign: rf"\{sign}" for sign in "{}$&#_%"},
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}", "*": "{*}",  # after the end of a row these two would be its arguments
})  # fmt: skip


def aggregate_results(
    runs: Sequence[Run],  # all heads on their own test sets, in the table's order
    destination: str | Path,  # its suffix is replaced
    *,
    titles: Mapping[str, str] = {},  # method -> the name to show
    missing: Sequence[str] = (),  # datasets that were left out; the table says so
    published: pl.DataFrame = NOTHING_PUBLISHED,  # of `read_published`, to stand beside ours
    notes: Sequence[str] = (),  # more follow where the runs differ in what made them
    samples: Sequence[Sample] = (),  # the images of one seed for each dataset and number of shots
    unmet: Sequence[str] = (),  # sentences about settings that are used in part, or not at all
    metrics: pl.DataFrame | None = None,  # whose macro accuracy follows the table in Markdown
) -> pl.DataFrame:
    """Write the results table as Parquet, CSV, Markdown, LaTeX and plain text.

    Returns:
        backbone, dataset, method, shots, mean, std (of a sample; null for one seed), seeds,
        published, published_chosen_on (of CHOSEN_ON), difference (ours minus theirs); accuracies in
        percent, null where nothing is published. The dataset `mean` is the mean over datasets, seed
        by seed.
    """
    found = tables.read_runs(runs)
    over_datasets = tables.mean_over(found, "dataset", found["dataset"].n_unique(), "accuracy")
    results = tables.mean_and_deviation(pl.concat([found, over_datasets]), KEY, "accuracy")
    results = results.rename({"accuracy": "mean", "accuracy_std": "std"})
    results = add_published(results, published)
    used = [*describe_used(runs, samples, titles), *describe_ties(runs, titles), *unmet]
    notes = [*notes, *used, *find_inconsistencies(distinct(runs, "record"))]
    tables.write_table(
        results, destination, notes=used,
        md=render_markdown(results, missing, titles=titles, notes=notes)
        + _render_macro(metrics, titles),
        tex=render_latex(results, titles=titles, notes=notes),
        txt=render_text(results, missing, titles=titles, notes=notes),
    )  # fmt: skip
    return results


def add_published(results: pl.DataFrame, published: pl.DataFrame) -> pl.DataFrame:
    """Add the published numbers, as `join_published` does.

    The mean over datasets has a published number where every dataset has one; what those were
    chosen on stands there in a list with semicolons. A mean that is published alone is of the
    eleven datasets, and stands beside that of the same eleven.
    """
    datasets = results.filter(pl.col("dataset") != MEAN)["dataset"].unique()
    columns = [*KEY, "published", "chosen_on"]
    of_datasets = published.filter(pl.col("dataset").is_in(datasets.implode())).select(columns)
    means = (
        of_datasets.group_by("backbone", "method", "shots")
        .agg(pl.len(), pl.mean("published"), pl.col("chosen_on").unique().sort().str.join("; "))
        .filter(pl.col("len") == len(datasets))
        .with_columns(dataset=pl.lit(MEAN))
        .select(columns)
    )
    alone = published.filter(dataset=MEAN).select(columns).join(means, on=KEY, how="anti")
    known = pl.concat([of_datasets, means, *([alone] if set(datasets) == ELEVEN else [])])
    return tables.join_published(results, known, KEY)


def render_markdown(
    results: pl.DataFrame,
    missing: Sequence[str] = (),
    *,
    titles: Mapping[str, str] = {},
    notes: Sequence[str] = (),
) -> str:
    """The results in Markdown, and a second table with published numbers where there are any."""
    rows = _lay_out(results, _mean_cell(" ± "), titles)
    rows += _missing_rows(missing, rows[0])
    text = f"{tables.align(rows)}\n\n{' '.join([_explain(results), *notes])}\n"
    beside = results.drop_nulls("published")
    published = tables.render_published(
        beside, lambda cell: tables.align(_lay_out(beside, cell, titles))
    )
    return "\n".join(filter(None, [text, published]))


def _render_macro(metrics: pl.DataFrame | None, titles: Mapping[str, str]) -> str:
    """The accuracies as means over classes, in Markdown; empty without metrics."""
    if metrics is None:
        return ""
    table = metrics.rename({"macro_accuracy": "mean", "macro_accuracy_std": "std"})
    rows = _lay_out(table, _mean_cell(" ± "), titles)
    return f"\nMacro accuracy, the mean over the classes, in percent:\n\n{tables.align(rows)}\n"


def render_latex(
    results: pl.DataFrame, *, titles: Mapping[str, str] = {}, notes: Sequence[str] = ()
) -> str:
    """The results as a LaTeX table, for the package booktabs."""
    head, *rows = _lay_out(results, _mean_cell(r"\,$\pm$\,"), titles, escape=escape_latex)
    left = len(head) - results["shots"].n_unique()
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(head) - left)}}}",
        r"\toprule",
        _join_latex(head),
    ]
    for _, (first, *others) in groupby(rows, key=itemgetter(0)):
        lines += [r"\midrule", *map(_join_latex, [first, *(["", *row[1:]] for row in others)])]
    comments = [f"% {line}" for line in [_explain(results), *notes]]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *comments]) + "\n"


def escape_latex(text: str) -> str:
    """Text as LaTeX sets it literally."""
    return tables.one_line(text).translate(_LATEX)


def _join_latex(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def render_text(
    results: pl.DataFrame,
    missing: Sequence[str] = (),
    width: int = WIDTH,
    *,
    titles: Mapping[str, str] = {},
    notes: Sequence[str] = (),
) -> str:
    """The results for a terminal; deviations and long names give way to keep the width."""
    lay_out = partial(_lay_out, results, titles=titles, name=lambda k: f"{format_shots(k)}-shot")
    rows = lay_out(_mean_cell("±"))
    if _total_width(rows) > width:
        rows = lay_out(lambda row: f"{row['mean']:.1f}")
    too_wide = max(0, _total_width(rows) - width)
    longest = max(8, max(len(row[0]) for row in rows) - too_wide)
    rows += _missing_rows(missing, rows[0])
    for row in rows:
        if len(row[0]) > longest:
            row[0] = f"{row[0][: longest - 1]}…"
    left = len(rows[0]) - results["shots"].n_unique()
    explained = textwrap.wrap(" ".join([_explain(results), *notes]), width)
    return "\n".join([*_align_plainly(rows, left), "", *explained]) + "\n"


def _align_plainly(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of cells, `left` columns of them to the left; an empty line before each new name."""
    widths, lines = tables.list_widths(rows), []
    sides = [str.ljust] * left + [str.rjust] * (len(widths) - left)
    for _, group in groupby(rows, key=itemgetter(0)):
        lines.append("")
        for row in group:
            cells = zip(sides, row, widths, strict=True)
            lines.append("  ".join(side(cell, width) for side, cell, width in cells).rstrip())
    return lines[1:]


def _total_width(rows: Sequence[Sequence[str]]) -> int:
    return sum(tables.list_widths(rows)) + 2 * (len(rows[0]) - 1)


def _lay_out(
    results: pl.DataFrame,
    cell: Callable[[dict[str, Any]], str],
    titles: Mapping[str, str],
    *,
    name: Callable[[int], str] = name_shots,
    escape: Callable[[str], str] = tables.one_line,
) -> list[list[str]]:
    """A row per dataset, backbone and method, a column per number of shots, after the head."""
    # A dataset's rows stand together, whatever the backbone.
    shown = tables.drop_lone_mean(results)
    together = pl.concat(shown.partition_by("dataset", maintain_order=True))
    key = ["dataset", *tables.backbone_column(results), "method"]
    rows = tables.pivot(together, key, "shots", cell, titles=titles, names={"shots": name})
    return [[*map(escape, row[: len(key)]), *row[len(key) :]] for row in rows]


def _mean_cell(between: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: tables.format_mean(row["mean"], row["std"], between)


def _missing_rows(missing: Sequence[str], head: Sequence[str]) -> list[list[str]]:
    return [[dataset, "missing", *([""] * (len(head) - 2))] for dataset in missing]


def _explain(results: pl.DataFrame) -> str:
    return f"Accuracy on the test images in percent, {tables.describe_mean(results)}."

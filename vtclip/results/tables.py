"""Names as tables show them: what a user called something is text, and never markup."""

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from vtclip.config.dataset import MEAN as MEAN  # the row over all datasets, in the dataset column
from vtclip.parquet import read_parquet
from vtclip.paths import format_shots
from vtclip.results.published import CHOSEN_ON
from vtclip.runs import Run

_LATEX = str.maketrans(
    {
        **{sign: rf"\{sign}" for sign in "{}$&#_%"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        # After the end of a row these two would be its arguments.
        "[": "{[}",
        "*": "{*}",
    }
)
# What Markdown would read as markup: not the underscore of `oxford_pets`, or the sign of `A & B`.
_MARKDOWN = re.compile(r"[\\`*\[|$~]|&(?=[\w#])|<(?=[\w/!?])|(?<![^\W_])_|_(?![^\W_])")


def one_line(text: str) -> str:
    """Text without line breaks, and with a sign in place of what cannot be printed."""
    joined = " ".join(text.split())
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in joined)


def escape_markdown(text: str) -> str:
    """Text as a cell of a Markdown table shows it literally."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


def escape_latex(text: str) -> str:
    """Text as LaTeX sets it literally."""
    return one_line(text).translate(_LATEX)


ROW = ["backbone", "dataset", "method"]


class Source(NamedTuple):
    """The predictions of all heads of a method on a dataset."""

    backbone: str
    """its features folder"""
    dataset: str
    method: str
    predictions: str | Path


def list_sources(runs: Sequence[Run]) -> list[Source]:
    """The files of predictions behind some runs, in their order."""
    found = (Source(run.backbone, run.dataset, run.method, run.predictions) for run in runs)
    return list(dict.fromkeys(found))


def read_runs(sources: Sequence[Source]) -> pl.DataFrame:
    """backbone, dataset, method, shots, seed, accuracy in percent: a row a run."""
    return pl.concat(
        [
            read_accuracies(source.predictions).select(
                *(pl.lit(getattr(source, column)).alias(column) for column in ROW), pl.all()
            )
            for source in sources
        ]
    )


def read_accuracies(path: str | Path) -> pl.DataFrame:
    """shots, seed, accuracy in percent: a row a run."""
    hits = pl.col("prediction") == pl.col("label")
    return (
        read_parquet(path, "shots", "seed", "label", "prediction")
        .group_by("shots", "seed")
        .agg((100 * hits.mean()).alias("accuracy"))
        .sort("shots", "seed")
    )


RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
WIDTH = 100  # columns of a terminal


def render_markdown(
    results: pl.DataFrame,
    missing: Sequence[str] = (),
    *,
    titles: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The results, and a second table with published numbers where there are any.

    Args:
        results: what `aggregate_results` gives.
        missing: datasets that were left out.
        titles: method -> the name to show.
        notes: footnotes.
    """
    names = titles or {}
    rows = _spread(results, lambda row: _cell(row["mean"], row["std"]), names)
    rows += _missing_rows(missing, rows[0])
    text = f"{align(rows)}\n\n{' '.join([_explain(results), *notes])}\n"
    beside = results.filter(pl.col("published").is_not_null())
    if beside.is_empty():
        return text
    marks = _mark(beside["published_chosen_on"])
    rows = _spread(
        beside,
        lambda row: (
            f"{row['mean']:.1f} / {row['published']:.1f}{marks[row['published_chosen_on']]} "
            f"({row['difference']:+.1f})"
        ),
        names,
    )
    told = "; ".join(f"{mark} {_in_words(chosen_on)}" for chosen_on, mark in marks.items())
    return (
        f"{text}\nOurs / published (difference):\n\n{align(rows)}\n\n"
        f"What the published numbers' settings were chosen on: {told}.\n"
    )


def _mark(chosen_on: pl.Series) -> dict[str, str]:
    """A raised number for each kind of images that were chosen on."""
    kinds = chosen_on.unique(maintain_order=True).to_list()
    return {kind: str(number).translate(RAISED) for number, kind in enumerate(kinds, start=1)}


def _in_words(chosen_on: str) -> str:
    return ", or ".join(CHOSEN_ON[kind] for kind in chosen_on.split("; "))


def render_latex(
    results: pl.DataFrame,
    *,
    titles: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The results as a LaTeX table, for the package booktabs."""
    head, *rows = _spread(
        results,
        lambda row: _cell(row["mean"], row["std"], r"\,$\pm$\,"),
        titles or {},
        escape=escape_latex,
    )
    left = len(head) - results["shots"].n_unique()
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(head) - left)}}}",
        r"\toprule",
        _join_latex(head),
    ]
    previous = None
    for row in rows:
        if row[0] != previous:
            lines.append(r"\midrule")
        lines.append(_join_latex([row[0] if row[0] != previous else "", *row[1:]]))
        previous = row[0]
    comments = [f"% {line}" for line in [_explain(results), *notes]]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *comments]) + "\n"


def render_text(
    results: pl.DataFrame,
    missing: Sequence[str] = (),
    width: int = WIDTH,
    *,
    titles: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The results for a terminal; spreads and long names give way to keep the width."""
    names = titles or {}
    rows = _spread(results, lambda row: _cell(row["mean"], row["std"], "±"), names, "{}-shot")
    if _width(rows) > width:
        rows = _spread(results, lambda row: _cell(row["mean"], None), names, "{}-shot")
    too_wide = max(0, _width(rows) - width)
    longest = max(8, max(len(row[0]) for row in rows) - too_wide)
    rows += _missing_rows(missing, rows[0])
    rows = [[_shorten(row[0], longest), *row[1:]] for row in rows]
    left = len(rows[0]) - results["shots"].n_unique()
    explained = textwrap.wrap(" ".join([_explain(results), *notes]), width)
    return "\n".join([*_align_plainly(rows, left), "", *explained]) + "\n"


def _align_plainly(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of cells, `left` columns of them to the left; an empty line before each new name."""
    widths, lines, previous = _widths(rows), [], None
    for row in rows:
        if previous not in (None, row[0]):
            lines.append("")
        cells = [
            cell.ljust(w) if place < left else cell.rjust(w)
            for place, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
        previous = row[0]
    return lines


def _missing_rows(missing: Sequence[str], head: Sequence[str]) -> list[list[str]]:
    return [[dataset, "missing", *([""] * (len(head) - 2))] for dataset in missing]


def name_shots(shots: int) -> str:
    """A number of shots as tables and legends name it: `1 shot`, `16 shots`, `all shots`."""
    return f"{format_shots(shots)} shot{'' if shots == 1 else 's'}"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first of them the head, as a Markdown table with columns of one width.

    What stands in a cell is shown as it is, whatever Markdown would make of it.
    """
    rows = [[escape_markdown(cell) for cell in row] for row in rows]
    widths = _widths(rows)
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _spread(
    results: pl.DataFrame,
    cell: Callable[[dict[str, Any]], str],
    titles: Mapping[str, str],
    head: str | None = None,
    escape: Callable[[str], str] = one_line,
) -> list[list[str]]:
    """A row a dataset, backbone and method, a column a number of shots, after a row of names.

    Of one backbone nothing is said; of two or more each has its rows. Names are escaped.
    """
    shots = sorted(results["shots"].unique())
    names = [head.format(format_shots(k)) if head else name_shots(k) for k in shots]
    several = results["backbone"].n_unique() > 1
    rows = [["dataset", *(["backbone"] if several else []), "method", *names]]
    # A dataset's rows stand together, whatever the backbone.
    for dataset in results.partition_by("dataset", maintain_order=True):
        for group in dataset.partition_by("backbone", "method", maintain_order=True):
            cells = {row["shots"]: cell(row) for row in group.to_dicts()}
            key = group.row(0, named=True)
            named = [key["dataset"], *([key["backbone"]] if several else [])]
            named.append(titles.get(key["method"], key["method"]))
            rows.append([*map(escape, named), *(cells.get(k, "") for k in shots)])
    return rows


def _explain(results: pl.DataFrame) -> str:
    seeds = max(results["seeds"].to_list())
    return f"Accuracy on the test images in percent, mean ± standard deviation over {seeds} seeds."


def _cell(mean: float, std: float | None, between: str = " ± ") -> str:
    return f"{mean:.1f}" if std is None else f"{mean:.1f}{between}{std:.1f}"


def _join_latex(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]


def _width(rows: Sequence[Sequence[str]]) -> int:
    return sum(_widths(rows)) + 2 * (len(rows[0]) - 1)


def _shorten(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"

"""Tables as text: Markdown for pages, LaTeX for papers, plain for a terminal."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

WIDTH = 100  # columns of a terminal


def render_markdown(results: pl.DataFrame, missing: Sequence[str] = ()) -> str:
    """The results, and a second table with published numbers where there are any.

    Args:
        results: what `aggregate_results` gives.
        missing: datasets that were left out.
    """
    rows = _spread(results, lambda row: _cell(row["mean"], row["std"]))
    rows += [[dataset, "missing", *([""] * (len(rows[0]) - 2))] for dataset in missing]
    text = f"{align(rows)}\n\n{_explain(results)}\n"
    beside = results.filter(pl.col("published").is_not_null())
    if beside.is_empty():
        return text
    rows = _spread(
        beside, lambda row: f"{row['mean']:.1f} / {row['published']:.1f} ({row['difference']:+.1f})"
    )
    return f"{text}\nOurs / published (difference):\n\n{align(rows)}\n"


def render_latex(results: pl.DataFrame) -> str:
    """The results as a LaTeX table, for the package booktabs."""
    head, *rows = _spread(results, lambda row: _cell(row["mean"], row["std"], r"\,$\pm$\,"))
    lines = [
        r"% \usepackage{booktabs}",
        rf"\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
        r"\toprule",
        _latex_row(head),
    ]
    previous = None
    for row in rows:
        if row[0] != previous:
            lines.append(r"\midrule")
        lines.append(_latex_row([row[0] if row[0] != previous else "", *row[1:]]))
        previous = row[0]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", f"% {_explain(results)}"]) + "\n"


def render_text(results: pl.DataFrame, missing: Sequence[str] = (), width: int = WIDTH) -> str:
    """The results for a terminal; spreads and long names give way to keep the width."""
    rows = _spread(results, lambda row: _cell(row["mean"], row["std"], "±"), "{}-shot")
    if _width(rows) > width:
        rows = _spread(results, lambda row: _cell(row["mean"], None), "{}-shot")
    too_wide = max(0, _width(rows) - width)
    longest = max(8, max(len(row[0]) for row in rows) - too_wide)
    lines, previous = [], None
    rows += [[dataset, "missing", *([""] * (len(rows[0]) - 2))] for dataset in missing]
    rows = [[_shorten(row[0], longest), *row[1:]] for row in rows]
    widths = _widths(rows)
    for row in rows:
        if previous not in (None, row[0]):
            lines.append("")
        left = [cell.ljust(w) for cell, w in zip(row[:2], widths[:2], strict=True)]
        right = [cell.rjust(w) for cell, w in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
        previous = row[0]
    return "\n".join([*lines, "", *textwrap.wrap(_explain(results), width)]) + "\n"


def name_shots(shots: int) -> str:
    """A number of shots as tables and legends name it."""
    return f"{shots} shot{'' if shots == 1 else 's'}"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells, the first of them the head, as a Markdown table with columns of one width."""
    widths = _widths(rows)
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _spread(
    results: pl.DataFrame, cell: Callable[[dict[str, Any]], str], head: str | None = None
) -> list[list[str]]:
    """A row a dataset and method, a column a number of shots, after a row of names."""
    shots = sorted(results["shots"].unique())
    names = [head.format(k) if head else name_shots(k) for k in shots]
    rows = [["dataset", "method", *names]]
    for group in results.partition_by("dataset", "method", maintain_order=True):
        cells = {row["shots"]: cell(row) for row in group.to_dicts()}
        rows.append([group["dataset"][0], group["method"][0], *(cells.get(k, "") for k in shots)])
    return rows


def _explain(results: pl.DataFrame) -> str:
    seeds = max(results["seeds"].to_list())
    return f"Accuracy on the test images in percent, mean ± standard deviation over {seeds} seeds."


def _cell(mean: float, std: float | None, between: str = " ± ") -> str:
    return f"{mean:.1f}" if std is None else f"{mean:.1f}{between}{std:.1f}"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cell.replace("_", r"\_") for cell in cells) + r" \\"


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]


def _width(rows: Sequence[Sequence[str]]) -> int:
    return sum(_widths(rows)) + 2 * (len(rows[0]) - 1)


def _shorten(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"

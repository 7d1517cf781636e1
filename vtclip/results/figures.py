"""Figures: accuracy against shots, as the paper draws it, and against the cost of training."""

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from vtclip.files import BLANK, MARK, atomic_write, read_record, seal
from vtclip.parquet import read_parquet
from vtclip.paths import ALL, Run, format_shots, name_shots
from vtclip.results.tables import MEAN, drop_lone_mean, one_line, read_notes

STYLES = ("o-", "s-", "^-", "D-", "v-", "P-", "X-", "*-")
COST_KEY = ["backbone", "method", "shots"]


@contextmanager
def drawing(destination: str | Path, width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure (sizes in inches); once the block has ended well, write .svg and .png.

    It needs no display, and the same figure gives the same bytes, whatever suffix is given. The
    files are sealed, for `check_seal`.
    """
    # Dollar signs in names, such as `ke$ha`, do not make them mathematics.
    with mpl.rc_context({"text.parse_math": False, "svg.hashsalt": "vtclip"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
            with atomic_write(Path(destination).with_suffix(suffix)) as temporary:
                figure.savefig(temporary, format=suffix[1:], dpi=150, metadata=metadata)
                with temporary.open("a", encoding="utf-8") as file:  # viewers read no further
                    file.write(f"<!-- {MARK}{BLANK} -->\n")
                seal(temporary)


def draw_panels(
    destination: str | Path,
    table: pl.DataFrame,
    draw: Callable[[Axes, pl.DataFrame], None],  # the rows of a panel
    titles: Mapping[str, str],
    *,
    by: Literal["dataset", "shots"] = "dataset",  # what a panel is of, beside the backbone
    columns: int,  # panels side by side
    panel_size: tuple[float, float],  # width and height, in inches
    legend_columns: int = 1,  # names side by side at most
    margins: tuple[float, float] = (0, 0),  # more width and height of the figure
    share_y: bool = False,
    notes: Sequence[str] = (),  # above the panels
) -> None:
    """Draw a panel per backbone and dataset or number of shots, with one legend for all."""
    groups = table.partition_by("backbone", by, maintain_order=True)
    several = table["backbone"].n_unique() > 1
    rows = max(1, math.ceil(len(groups) / columns))
    width, height = panel_size[0] * columns + margins[0], panel_size[1] * rows + margins[1]
    with drawing(destination, width, height) as figure:
        panels = figure.subplots(rows, columns, squeeze=False, sharey=share_y).flatten()
        for panel, group in zip(panels, groups, strict=False):
            draw(panel, group)
            of = group[by][0]
            name = name_shots(of) if by == "shots" else title_of(of, titles)
            panel.set_title(f"{name}\n{group['backbone'][0]}" if several else name, fontsize=11)
        for panel in panels[len(groups) :]:
            panel.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        if labels:
            ncols = min(legend_columns, len(labels))
            figure.legend(handles, labels, loc="outside lower center", ncols=ncols)
        if notes:
            figure.suptitle(textwrap.fill(one_line(" ".join(notes)), int(14 * width)), fontsize=8)


def draw_rows(
    panel: Axes,
    series: Sequence[tuple[str, str, pl.DataFrame]],  # label, marker, (name, mean, deviation)
    names: Mapping[str, str],  # name of a row -> what to show of it
    *,
    spread: float,  # of a row's markers; rows are 1 apart
) -> None:
    """Draw a row per name, from the top, with a marker and a deviation of each series."""
    places = {name: -number for number, name in enumerate(names)}
    for number, (label, marker, table) in enumerate(series):
        rows, mean, std = table
        offset = spread * (number / max(1, len(series) - 1) - 0.5)
        panel.errorbar(
            mean, [places[name] - offset for name in rows], xerr=std.fill_null(0), fmt=marker,
            markersize=4, color=f"C{number}", elinewidth=1, label=label,
        )  # fmt: skip
    panel.set_yticks(list(places.values()), list(names.values()))
    panel.grid(alpha=0.3)


def title_of(name: str, titles: Mapping[str, str]) -> str:
    """The name to show of a dataset or a method."""
    return "Mean over datasets" if name == MEAN else one_line(titles.get(name, name))


def plot_accuracy(results: str | Path, destination: str | Path, titles: Mapping[str, str]) -> None:
    """Draw one panel per dataset and one for their mean; a line per method, with its deviation.

    Methods that use no shots are horizontal lines. All shots, of which each class may have another
    number, stand one doubling to the right of the largest number. Published numbers are thin dashed
    lines in the colour of their method. Each backbone has its own panels.
    """
    table = drop_lone_mean(read_parquet(results))
    draw_panels(
        destination, table, partial(_draw_accuracies, titles=titles), titles,
        columns=min(4, table["dataset"].n_unique()), panel_size=(3.6, 3.1), legend_columns=8,
        notes=read_notes(results),
    )  # fmt: skip


def _draw_accuracies(panel: Axes, table: pl.DataFrame, titles: Mapping[str, str]) -> None:
    shots = sorted(k for k in table["shots"].unique() if k > 0)
    for number, method in enumerate(table["method"].unique(maintain_order=True)):
        colour, style = f"C{number}", STYLES[number % len(STYLES)]
        lines = table.filter(method=method).sort("shots")
        name = title_of(method, titles)
        if lines["shots"].to_list() == [0]:
            panel.axhline(lines["mean"][0], color=colour, linestyle="-.", label=name)
            if lines["published"][0] is not None:
                panel.axhline(lines["published"][0], color=colour, linestyle="--", linewidth=0.7)
            continue
        mean, std = lines["mean"], lines["std"].fill_null(0)
        places = [_place(k, shots) for k in lines["shots"]]
        panel.plot(places, mean, style, color=colour, label=name, markersize=4)
        panel.fill_between(places, mean - std, mean + std, color=colour, alpha=0.15, lw=0)
        known = lines.drop_nulls("published")
        panel.plot(known["shots"], known["published"], "--", color=colour, linewidth=0.7)
    if shots:
        panel.set_xscale("log", base=2)
        panel.set_xticks([_place(k, shots) for k in shots], [str(format_shots(k)) for k in shots])
        panel.minorticks_off()
    panel.set_xlabel("labelled images per class")
    panel.set_ylabel("accuracy (%)")
    panel.grid(alpha=0.3)


def _place(shots: int, known: Sequence[int]) -> int:
    """The place of a number of shots on the horizontal axis, among others."""
    return shots if shots != ALL else 2 * max((k for k in known if k != ALL), default=1)


def plot_cost(
    results: str | Path, runs: Sequence[Run], destination: str | Path, titles: Mapping[str, str]
) -> None:
    """Draw accuracy against training cost; a line per method, a point per number of shots."""
    costs = read_costs(runs)
    accuracies = read_parquet(results)
    over = ", the mean over datasets" if accuracies["dataset"].n_unique() > 2 else ""
    points = accuracies.filter(dataset=MEAN).join(costs, on=COST_KEY)
    several = costs["backbone"].n_unique() > 1
    methods = costs.select("backbone", "method").unique(maintain_order=True)
    columns = 2 if several else 4
    with drawing(destination, 6.4, 3.4 + 0.2 * math.ceil(len(methods) / columns)) as figure:
        panel = figure.subplots()
        for number, (backbone, method) in enumerate(methods.iter_rows()):
            line = points.filter(backbone=backbone, method=method).sort("shots")
            name = title_of(method, titles) + (f", {backbone}" if several else "")
            _draw_costs(panel, line, number, name)
        panel.set_xscale("log")
        # Plain numbers: the usual powers of ten are mathematics.
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter(LogFormatter())
        panel.set_xlabel(f"seconds a run: reading, fitting and training{over}")
        panel.set_ylabel("accuracy (%)")
        panel.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=columns)


def read_costs(runs: Sequence[Run]) -> pl.DataFrame:
    """Cost of a run by backbone, method and shots: mean seconds and largest memory, in GB."""
    columns = ("seconds", "peak_memory_bytes", "peak_gpu_memory_bytes")
    rows = []
    for run in runs:
        record = read_record(run.record)
        rows.append((run.backbone, run.method, run.shots, *(record[name] for name in columns)))
    schema = {"backbone": pl.String, "method": pl.String, "shots": pl.Int32}
    table = pl.DataFrame(rows, schema | dict.fromkeys(columns, pl.Float64), orient="row")
    return table.group_by(COST_KEY, maintain_order=True).agg(
        pl.mean("seconds"),
        runs=pl.len(),
        memory=pl.max("peak_memory_bytes") / 1e9,
        gpu_memory=pl.max("peak_gpu_memory_bytes") / 1e9,
    )


def _draw_costs(panel: Axes, line: pl.DataFrame, number: int, name: str) -> None:
    costs, accuracies = line["seconds"], line["mean"]
    panel.plot(costs, accuracies, STYLES[number % len(STYLES)], color=f"C{number}",
               label=name, markersize=5, linewidth=1)  # fmt: skip
    if len(costs) > 1:
        panel.annotate(
            f"{format_shots(line['shots'][-1])}", (costs[-1], accuracies[-1]), fontsize=7,
            xytext=(4, 2), textcoords="offset points",
        )  # fmt: skip

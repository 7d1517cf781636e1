"""Accuracy against shots, as the paper draws it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from vtclip.files import atomic_write, read_record
from vtclip.parquet import read_parquet
from vtclip.paths import ALL, format_shots
from vtclip.results.tables import MEAN, one_line

STYLES = ("o-", "s-", "^-", "D-", "v-", "P-", "X-", "*-")


def plot_accuracy(results: str | Path, destination: str | Path, titles: Mapping[str, str]) -> None:
    """Draw one panel a dataset and one for their mean; a line a method, its spread over seeds.

    Methods that use no shots are horizontal lines. All shots, of which each class may have another
    number, stand one doubling to the right of the largest number. Published numbers are thin dashed
    lines in the colour of their method. Each backbone has panels of its own.

    Args:
        results: the results table, in Parquet.
        destination: the path to write to, without a suffix; .svg and .png are written.
        titles: dataset or method -> the name to show.
    """
    groups = read_parquet(results).partition_by("backbone", "dataset", maintain_order=True)
    several = len({group["backbone"][0] for group in groups}) > 1
    columns = min(4, len({group["dataset"][0] for group in groups}))
    rows = math.ceil(len(groups) / columns)
    with drawing(destination, 3.6 * columns, 3.1 * rows) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for panel, group in zip(panels, groups, strict=False):
            _draw_panel(panel, group, titles)
            name = title_of(group["dataset"][0], titles)
            panel.set_title(f"{name}\n{group['backbone'][0]}" if several else name, fontsize=11)
        for panel in panels[len(groups) :]:
            panel.set_visible(False)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(8, len(labels)))


@contextmanager
def drawing(destination: str | Path, width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure; once the block has ended well, write it as .svg and .png.

    It needs no display, and the same figure gives the same bytes. Dollar signs in names, such as
    `ke$ha`, do not make them mathematics.

    Args:
        destination: the path to write to, without a suffix.
        width, height: in inches.
    """
    with mpl.rc_context({"text.parse_math": False, "svg.hashsalt": "vtclip"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
            with atomic_write(Path(destination).with_suffix(suffix)) as temporary:
                figure.savefig(temporary, format=suffix[1:], dpi=150, metadata=metadata)


def title_of(name: str, titles: Mapping[str, str]) -> str:
    """The name to show of a dataset or a method."""
    return "Mean over datasets" if name == MEAN else one_line(titles.get(name, name))


def _draw_panel(panel: Axes, table: pl.DataFrame, titles: Mapping[str, str]) -> None:
    shots = sorted(k for k in table["shots"].unique() if k > 0)
    methods = table["method"].unique(maintain_order=True).to_list()
    for number, method in enumerate(methods):
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
        known = lines.filter(pl.col("published").is_not_null())
        panel.plot(known["shots"], known["published"], "--", color=colour, linewidth=0.7)
    _set_shots(panel, shots)
    panel.set_ylabel("accuracy (%)")
    panel.grid(alpha=0.3)


def _set_shots(panel: Axes, shots: Sequence[int]) -> None:
    if shots:
        panel.set_xscale("log", base=2)
        panel.set_xticks([_place(k, shots) for k in shots], [str(format_shots(k)) for k in shots])
        panel.minorticks_off()
    panel.set_xlabel("labelled images per class")


def _place(shots: int, known: Sequence[int]) -> int:
    """Where a number of shots stands among others."""
    return shots if shots != ALL else 2 * max((k for k in known if k != ALL), default=1)


def plot_cost(
    results: str | Path,
    runs: Sequence[tuple[tuple[str, str, str], str | Path]],
    destination: str | Path,
    titles: Mapping[str, str],
) -> None:
    """Draw accuracy against what training costs; a line a method, a point a number of shots.

    Args:
        results: the results table, in Parquet.
        runs: ((backbone, dataset, method), run.json) of all heads.
        destination: the path to write to, without a suffix; .svg and .png are written.
        titles: method -> the name to show.
    """
    table = read_parquet(results).filter(dataset=MEAN)
    groups: dict[tuple[str, str], list[str | Path]] = {}
    for (backbone, _, method), path in runs:
        groups.setdefault((backbone, method), []).append(path)
    several = len({backbone for backbone, _ in groups}) > 1
    with drawing(destination, 6.4, 4.4) as figure:
        panel = figure.subplots()
        for number, ((backbone, method), paths) in enumerate(groups.items()):
            seconds = mean_seconds(paths)
            points = table.filter(backbone=backbone, method=method).sort("shots")
            name = title_of(method, titles) + (f", {backbone}" if several else "")
            _draw_costs(panel, points, [seconds[k] for k in points["shots"]], number, name)
        _set_seconds(panel)
        panel.set_ylabel("accuracy (%), the mean over datasets")
        panel.grid(alpha=0.3)
        columns = 2 if several else 4
        figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def _set_seconds(panel: Axes) -> None:
    panel.set_xscale("log")
    # Plain numbers: the usual powers of ten are mathematics.
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter(LogFormatter())
    panel.set_xlabel("seconds a run: reading, fitting and training, the mean over datasets")


def _draw_costs(
    panel: Axes, points: pl.DataFrame, costs: Sequence[float], number: int, name: str
) -> None:
    panel.plot(costs, points["mean"], STYLES[number % len(STYLES)], color=f"C{number}",
               label=name, markersize=5, linewidth=1)  # fmt: skip
    if len(costs) > 1:
        panel.annotate(
            f"{format_shots(points['shots'][-1])}", (costs[-1], points["mean"][-1]), fontsize=7,
            xytext=(4, 2), textcoords="offset points",
        )  # fmt: skip


def mean_seconds(paths: Sequence[str | Path]) -> dict[int, float]:
    """Shots -> mean seconds of the runs with as many, from their run.json."""
    runs = [read_record(path) for path in paths]
    seconds: dict[int, list[float]] = {}
    for run in runs:
        seconds.setdefault(run["shots"], []).append(run["seconds"])
    return {shots: sum(found) / len(found) for shots, found in seconds.items()}

"""Accuracy against shots, as the paper draws it."""

import math
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import polars as pl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vtclip.files import writing
from vtclip.results.aggregate import MEAN

STYLES = ("o-", "s-", "^-", "D-", "v-", "P-", "X-", "*-")


def plot_accuracy(results: str | Path, destination: str | Path, titles: Mapping[str, str]) -> None:
    """Draw one panel a dataset and one for their mean; a line a method, its spread over seeds.

    Methods that use no shots are dashed horizontal lines.

    Args:
        results: the results table, in Parquet.
        destination: the path to write to, without a suffix; .svg and .png are written.
        titles: dataset -> the panel's title.
    """
    table = pl.read_parquet(results)
    datasets = table["dataset"].unique(maintain_order=True).to_list()
    columns = min(4, len(datasets))
    rows = math.ceil(len(datasets) / columns)
    figure = new_figure(3.6 * columns, 3.1 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, dataset in zip(panels, datasets, strict=False):
        _draw_panel(panel, table.filter(dataset=dataset))
        panel.set_title(title_of(dataset, titles), fontsize=11)
    for panel in panels[len(datasets) :]:
        panel.set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(8, len(labels)))
    save_figure(figure, destination)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, destination: str | Path) -> None:
    """Write .svg and .png; the same figure gives the same bytes."""
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
        with (
            writing(Path(destination).with_suffix(suffix)) as temporary,
            mpl.rc_context({"svg.hashsalt": "vtclip"}),
        ):
            figure.savefig(temporary, format=suffix[1:], dpi=150, metadata=metadata)


def title_of(dataset: str, titles: Mapping[str, str]) -> str:
    """A panel's title."""
    return "Mean over datasets" if dataset == MEAN else titles[dataset]


def _draw_panel(panel: Axes, table: pl.DataFrame) -> None:
    shots = sorted(k for k in table["shots"].unique() if k > 0)
    methods = table["method"].unique(maintain_order=True).to_list()
    for number, method in enumerate(methods):
        colour, style = f"C{number}", STYLES[number % len(STYLES)]
        lines = table.filter(method=method).sort("shots")
        if lines["shots"].to_list() == [0]:
            panel.axhline(lines["mean"][0], color=colour, linestyle="--", label=method)
            continue
        mean, std = lines["mean"], lines["std"].fill_null(0)
        panel.plot(lines["shots"], mean, style, color=colour, label=method, markersize=4)
        panel.fill_between(lines["shots"], mean - std, mean + std, color=colour, alpha=0.15, lw=0)
    if shots:
        panel.set_xscale("log", base=2)
        panel.set_xticks(shots, [str(k) for k in shots])
        panel.minorticks_off()
    panel.set_xlabel("labelled images a class")
    panel.set_ylabel("accuracy (%)")
    panel.grid(alpha=0.3)

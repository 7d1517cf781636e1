"""The ablation's table and figure: what each variant gains over the method as it is configured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from matplotlib.axes import Axes

from vtclip.files import read_record, write_text
from vtclip.parquet import read_parquet
from vtclip.results.few_shot import write_table
from vtclip.results.figures import drawing, title_of
from vtclip.results.tables import MEAN, align, name_shots, read_accuracies

CONFIGURED = "as configured"
VALIDATION, TEST = "validation", "test"


class Trial(NamedTuple):
    """One run of one variant."""

    backbone: str
    dataset: str
    variant: str
    """its label, or CONFIGURED"""
    shots: int
    seed: int
    predictions: str | Path
    run: str | Path
    """its run.json"""


def aggregate_ablation(
    trials: Sequence[Trial], destination: str | Path, *, notes: Sequence[str] = ()
) -> pl.DataFrame:
    """Write the ablation table as Parquet, CSV and Markdown.

    Args:
        trials: all runs, in the table's order, those of the method as configured among them.
        destination: the path to write to, without a suffix.
        notes: footnotes of the Markdown table.

    Returns:
        backbone, dataset, variant, images (validation or test), shots, mean, gain, gain_std, seeds;
        in percent. Gains are over the method as configured, on the same shots, seed by seed. The
        dataset `mean` is the mean over datasets.
    """
    runs = pl.concat([_read_validation(trials), _read_test(trials)])
    table = _compare(runs)
    destination = Path(destination)
    write_table(table, destination)
    write_text(destination.with_suffix(".md"), _render(table, notes))
    return table


def plot_ablation(table: str | Path, destination: str | Path, titles: dict[str, str]) -> None:
    """Draw each variant's gain on the test images.

    A panel a dataset and backbone, a marker a number of shots.

    Args:
        table: the ablation table, in Parquet.
        destination: the path to write to, without a suffix; .svg and .png are written.
        titles: dataset -> the panel's title.
    """
    gains = read_parquet(table).filter(pl.col("variant") != CONFIGURED, images=TEST)
    groups = gains.partition_by("backbone", "dataset", maintain_order=True)
    several = gains["backbone"].n_unique() > 1
    variants = gains["variant"].unique(maintain_order=True).to_list()
    with drawing(destination, 2 + 2.8 * len(groups), 1.2 + 0.3 * len(variants)) as figure:
        panels = figure.subplots(1, len(groups), squeeze=False, sharey=True)[0]
        for panel, group in zip(panels, groups, strict=True):
            _draw_gains(panel, group, variants)
            name = title_of(group["dataset"][0], titles)
            panel.set_title(f"{name}\n{group['backbone'][0]}" if several else name, fontsize=11)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))


def _read_validation(trials: Sequence[Trial]) -> pl.DataFrame:
    rows = []
    for trial in trials:
        accuracy = read_record(trial.run)["val_accuracy"]
        rows.append((*trial[:5], VALIDATION, None if accuracy is None else 100 * accuracy))
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def _read_test(trials: Sequence[Trial]) -> pl.DataFrame:
    accuracies = {}
    for path in {trial.predictions for trial in trials}:
        for shots, seed, accuracy in read_accuracies(path).iter_rows():
            accuracies[path, shots, seed] = accuracy
    rows = [
        (*trial[:5], TEST, accuracies[trial.predictions, trial.shots, trial.seed])
        for trial in trials
    ]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


_SCHEMA = {
    "backbone": pl.String, "dataset": pl.String, "variant": pl.String, "shots": pl.Int32,
    "seed": pl.Int32, "images": pl.String, "accuracy": pl.Float64,
}  # fmt: skip


def _compare(runs: pl.DataFrame) -> pl.DataFrame:
    run = ["shots", "seed", "images"]
    over = ["backbone", "variant", *run]
    mean = runs.group_by(over, maintain_order=True).agg(pl.col("accuracy").mean())
    mean = mean.with_columns(dataset=pl.lit(MEAN)).select(runs.columns)
    runs = pl.concat([runs, mean])
    configured = runs.filter(variant=CONFIGURED).drop("variant")
    on = ["backbone", "dataset", *run]
    return (
        runs.join(configured, on=on, suffix="_configured", maintain_order="left")
        .with_columns(gain=pl.col("accuracy") - pl.col("accuracy_configured"))
        .group_by("backbone", "dataset", "variant", "images", "shots", maintain_order=True)
        .agg(
            pl.col("accuracy").mean().alias("mean"),
            pl.col("gain").mean(),
            pl.col("gain").std().alias("gain_std"),
            pl.len().cast(pl.Int32).alias("seeds"),
        )
    )


def _render(table: pl.DataFrame, notes: Sequence[str]) -> str:
    """One Markdown table for the validation shots and one for the test images."""
    parts = []
    for images in (VALIDATION, TEST):
        shots = sorted(table["shots"].unique())
        several = table["backbone"].n_unique() > 1
        keys = ["dataset", *(["backbone"] if several else []), "variant"]
        rows = [[*keys, *(name_shots(k) for k in shots)]]
        chosen = table.filter(images=images)
        for group in chosen.partition_by("dataset", "backbone", "variant", maintain_order=True):
            cells = {row["shots"]: _cell(row) for row in group.to_dicts()}
            rows.append([*(group[key][0] for key in keys), *(cells[k] for k in shots)])
        title = {VALIDATION: "the validation shots", TEST: "the test images"}[images]
        parts.append(f"Accuracy on {title} in percent.\n\n{align(rows)}\n")
    seeds = max(table["seeds"].to_list())
    note = (
        "In brackets: what is gained over the method as configured, on the same shots, mean and "
        f"standard deviation over {seeds} seeds. Choose by the validation shots alone."
    )
    return "\n".join([*parts, f"{' '.join([note, *notes])}\n"])


def _cell(row: dict[str, Any]) -> str:
    if row["mean"] is None:
        return ""
    if row["gain_std"] is None:
        return f"{row['mean']:.1f} ({row['gain']:+.1f})"
    return f"{row['mean']:.1f} ({row['gain']:+.1f} ± {row['gain_std']:.1f})"


def _draw_gains(panel: Axes, gains: pl.DataFrame, variants: Sequence[str]) -> None:
    shots = sorted(gains["shots"].unique())
    places = {variant: -number for number, variant in enumerate(variants)}
    for number, k in enumerate(shots):
        rows = gains.filter(shots=k)
        offset = 0.25 * (number / max(1, len(shots) - 1) - 0.5)
        heights = [places[variant] - offset for variant in rows["variant"]]
        panel.errorbar(
            rows["gain"], heights, xerr=rows["gain_std"].fill_null(0),
            fmt="o", markersize=4, color=f"C{number}", elinewidth=1, label=name_shots(k),
        )  # fmt: skip
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_yticks(list(places.values()), list(places))
    panel.set_xlabel("gain in accuracy (points)")
    panel.grid(alpha=0.3)

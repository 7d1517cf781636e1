"""The ablation's table and figure: the gain of each variant over the method as configured."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.axes import Axes

from vtclip.files import read_record
from vtclip.parquet import read_parquet
from vtclip.paths import Run, Sample, distinct, name_shots
from vtclip.results import tables
from vtclip.results.figures import draw_panels, draw_rows
from vtclip.results.footnotes import describe_used

CONFIGURED = "as configured"  # the label of the method itself
VALIDATION, TEST = "validation", "test"
SCHEMA = {
    "backbone": pl.String, "dataset": pl.String, "variant": pl.String, "shots": pl.Int32,
    "seed": pl.Int32, "images": pl.String, "accuracy": pl.Float64,
}  # fmt: skip


def aggregate_ablation(
    runs: Sequence[Run],  # of all variants, in the table's order; the label names the variant
    destination: str | Path,  # its suffix is replaced
    *,
    titles: Mapping[str, str] = {},  # dataset -> the name to show in footnotes
    notes: Sequence[str] = (),
    samples: Sequence[Sample] = (),  # the images of one seed for each dataset and number of shots
) -> pl.DataFrame:
    """Write the ablation table as Parquet, CSV and Markdown.

    Returns:
        backbone, dataset, variant, images (validation or test), shots, mean, gain, gain_std, seeds;
        in percent. Gains are over the method as configured, on the same shots, seed by seed. The
        dataset `mean` is the mean over datasets.
    """
    found = _read_runs(runs)
    over_datasets = tables.mean_over(found, "dataset", found["dataset"].n_unique(), "accuracy")
    table = _compare(pl.concat([found, over_datasets]))
    notes = [*notes, *describe_used(runs, samples, titles)]
    tables.write_table(table, destination, md=_render(table, notes))
    return table


def _read_runs(runs: Sequence[Run]) -> pl.DataFrame:
    """Accuracy in percent of each run on its validation shots, and then on the test images."""
    tested = {
        (path, shots, seed): accuracy
        for path in distinct(runs, "predictions")
        for shots, seed, accuracy in tables.read_accuracies(path).iter_rows()
    }
    validation, test = [], []
    for run in runs:
        place = (run.backbone, run.dataset, run.label, run.shots, run.seed)
        found = read_record(run.record)["val_accuracy"]
        validation.append((*place, VALIDATION, None if found is None else 100 * found))
        test.append((*place, TEST, tested[run.predictions, run.shots, run.seed]))
    return pl.DataFrame(validation + test, schema=SCHEMA, orient="row")


def _compare(runs: pl.DataFrame) -> pl.DataFrame:
    same = ["backbone", "dataset", "shots", "seed", "images"]
    configured = pl.col("accuracy").filter(variant=CONFIGURED).first().over(same)
    gains = runs.with_columns(gain=pl.col("accuracy") - configured)
    key = ["backbone", "dataset", "variant", "images", "shots"]
    table = tables.mean_and_deviation(gains, key, "accuracy", "gain").drop("accuracy_std")
    return table.rename({"accuracy": "mean"})


def _render(table: pl.DataFrame, notes: Sequence[str]) -> str:
    """One Markdown table for the validation shots and one for the test images."""
    parts = []
    table = tables.drop_lone_mean(table)
    for images, title in ((VALIDATION, "the validation shots"), (TEST, "the test images")):
        key = ["dataset", *tables.backbone_column(table), "variant"]
        rows = tables.pivot(table.filter(images=images), key, "shots", _cell)
        parts.append(f"Accuracy on {title} in percent.\n\n{tables.align(rows)}\n")
    note = (
        "In brackets: what is gained over the method as configured, on the same shots, "
        f"{tables.describe_mean(table)}. Choose by the validation shots alone."
    )
    return "\n".join([*parts, f"{' '.join([note, *notes])}\n"])


def _cell(row: dict[str, Any]) -> str:
    if row["mean"] is None:
        return ""
    deviation = "" if row["gain_std"] is None else f" ± {row['gain_std']:.1f}"
    return f"{row['mean']:.1f} ({row['gain']:+.1f}{deviation})"


def plot_ablation(table: str | Path, destination: str | Path, titles: Mapping[str, str]) -> None:
    """Draw each variant's gain on the test images, as .svg and .png.

    A panel per dataset and backbone, a marker per number of shots.
    """
    gains = tables.drop_lone_mean(read_parquet(table)).filter(
        pl.col("variant") != CONFIGURED, images=TEST
    )
    variants = gains["variant"].unique(maintain_order=True).to_list()
    draw_panels(
        destination, gains, partial(_draw_gains, variants=variants), titles,
        columns=gains.select("backbone", "dataset").n_unique(), margins=(2, 1.2),
        panel_size=(2.8, 0.3 * len(variants)), legend_columns=len(gains), share_y=True,
    )  # fmt: skip


def _draw_gains(panel: Axes, gains: pl.DataFrame, variants: Sequence[str]) -> None:
    series = [
        (name_shots(k), "o", gains.filter(shots=k).select("variant", "gain", "gain_std"))
        for k in sorted(gains["shots"].unique())
    ]
    draw_rows(panel, series, {variant: variant for variant in variants}, spread=0.25)
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_xlabel("gain in accuracy (points)")

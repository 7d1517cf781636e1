"""Gains of a method over itself as configured: as a variant of the ablation, or by other choices.

The optimism table is that of the choices: on more images, and on the test images.
"""

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
from vtclip.results.differences import CONFIDENCE, bootstrap_interval
from vtclip.results.figures import draw_panels, draw_rows
from vtclip.results.footnotes import describe_used
from vtclip.tensors import MARKED, WATERMARK

CONFIGURED = "as configured"  # the label of the method itself
VALIDATION, TEST = "validation", "test"
VARIANTS = {
    "backbone": pl.String, "dataset": pl.String, "variant": pl.String, "shots": pl.Int32,
    "seed": pl.Int32, "images": pl.String, "accuracy": pl.Float64,
}  # fmt: skip

ORACLE = "oracle"
CHOICES = {
    "none": "nothing",
    "validation": "min(shots, 4)",
    "all": "all validation images",
    ORACLE: "ORACLE: test images, no result",
}
RUN = ["backbone", "dataset", "method", "shots", "seed"]
KEY = ["backbone", "method", "shots", "chosen_on"]
OPTIMISM = {
    **dict.fromkeys(KEY, pl.String), "shots": pl.Int32,
    **dict.fromkeys(("mean", "gain", "low", "high"), pl.Float64),
    "runs": pl.Int32, "watermark": pl.String,
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
    found = _read_variants(runs)
    over_datasets = tables.mean_over(found, "dataset", found["dataset"].n_unique(), "accuracy")
    table = _compare_variants(pl.concat([found, over_datasets]))
    notes = [*notes, *describe_used(runs, samples, titles)]
    tables.write_table(table, destination, md=_render_variants(table, notes))
    return table


def _read_variants(runs: Sequence[Run]) -> pl.DataFrame:
    """Accuracy in percent of each run on its validation shots, and then on the test images."""
    tested = {
        (path, shots, seed): accuracy
        for path in distinct(runs, "predictions")
        for shots, seed, accuracy in tables.read_accuracies(path)
        .select("shots", "seed", "accuracy")
        .iter_rows()
    }
    validation, test = [], []
    for run in runs:
        place = (run.backbone, run.dataset, run.label, run.shots, run.seed)
        found = read_record(run.record)["val_accuracy"]
        validation.append((*place, VALIDATION, None if found is None else 100 * found))
        test.append((*place, TEST, tested[run.predictions, run.shots, run.seed]))
    return pl.DataFrame(validation + test, schema=VARIANTS, orient="row")


def _compare_variants(runs: pl.DataFrame) -> pl.DataFrame:
    same = ["backbone", "dataset", "shots", "seed", "images"]
    configured = pl.col("accuracy").filter(variant=CONFIGURED).first().over(same)
    gains = runs.with_columns(gain=pl.col("accuracy") - configured)
    key = ["backbone", "dataset", "variant", "images", "shots"]
    table = tables.mean_and_deviation(gains, key, "accuracy", "gain").drop("accuracy_std")
    return table.rename({"accuracy": "mean"})


def _render_variants(table: pl.DataFrame, notes: Sequence[str]) -> str:
    """One Markdown table for the validation images, if there are any, and one for the test ones."""
    parts, advice = [], []
    table = tables.drop_lone_mean(table)
    for images in (VALIDATION, TEST):
        key = ["dataset", *tables.backbone_column(table), "variant"]
        found = table.filter(images=images)
        if found["mean"].is_null().all():
            continue  # without validation images
        rows = tables.pivot(found, key, "shots", _show_variant)
        parts.append(f"Accuracy on the {images} images in percent.\n\n{tables.align(rows)}\n")
        advice += ["Choose by the validation images alone."] * (images == VALIDATION)
    note = (
        "In brackets: what is gained over the method as configured, on the same shots, "
        f"{tables.describe_mean(table)}."
    )
    return "\n".join([*parts, f"{' '.join([note, *advice, *notes])}\n"])


def _show_variant(row: dict[str, Any]) -> str:
    if row["mean"] is None:
        return ""
    deviation = "" if row["gain_std"] is None else f" ± {row['gain_std']:.1f}"
    return f"{row['mean']:.1f} ({row['gain']:+z.1f}{deviation})"


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


def aggregate_optimism(
    runs: Sequence[Run],  # fair heads; the label of each is what it has chosen on, of CHOICES
    # RUN of each head that has chosen on the test images, and its predictions.
    oracles: Sequence[tuple[str, str, str, int, int, str]],
    destination: str | Path,  # its suffix is replaced
    *,
    titles: Mapping[str, str] = {},  # method -> the name to show
) -> pl.DataFrame:
    """Write the accuracy of each method under each choice, as Parquet, CSV and Markdown.

    Returns:
        backbone, method, shots, chosen_on, mean (accuracy in percent over datasets and seeds), gain
        (over min(shots, 4), run by run), low, high (its 95% bootstrap interval), runs, watermark
        (of an oracle's rows).
    """
    found = _read_choices(runs, oracles)
    plain = pl.col("accuracy").filter(chosen_on="validation").first().over(RUN)
    gains = found.with_columns(difference=pl.col("accuracy") - plain)
    groups = gains.group_by(*KEY, maintain_order=True)
    rows = [(*key, *_describe_choice(group, key[-1])) for key, group in groups]
    table = pl.DataFrame(rows, OPTIMISM, orient="row")
    tables.write_table(table, destination, md=_render_choices(table, titles))
    return table


def _read_choices(runs: Sequence[Run], oracles: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
    """The accuracy in percent of each run under each choice: RUN, chosen_on, accuracy."""
    fair = pl.concat(
        tables.name_rows(tables.read_accuracies(run.predictions), run).select(
            *RUN, "accuracy", chosen_on=pl.lit(run.label)
        )
        for run in tables.by_file(runs)
    )
    unfair = [(*run, _read_oracle(predictions), ORACLE) for *run, predictions in oracles]
    return pl.concat([fair, pl.DataFrame(unfair, fair.schema, orient="row")])


def _describe_choice(group: pl.DataFrame, chosen_on: object) -> tuple[Any, ...]:
    """The columns of OPTIMISM behind the key, of the runs of a method under a choice."""
    known = group.drop_nulls("difference")
    low, high, _ = bootstrap_interval(known) if known.height else (None, None, None)
    mark = WATERMARK if chosen_on == ORACLE else None
    gain = known["difference"].mean()
    return group["accuracy"].mean(), gain, low, high, group.height, mark


def _read_oracle(path: str | Path) -> float:
    """The accuracy in percent of an oracle's predictions."""
    found = read_parquet(path, "label", f"{MARKED}prediction")
    return float((found["label"] == found[f"{MARKED}prediction"]).mean() or 0) * 100  # type: ignore[arg-type]


def _render_choices(table: pl.DataFrame, titles: Mapping[str, str]) -> str:
    key = [*tables.backbone_column(table), "method", "shots"]
    names = {"chosen_on": CHOICES.__getitem__}
    rows = tables.pivot(
        table, key, "chosen_on", _show_choice, titles=titles, names=names, order=list(CHOICES)
    )
    return (
        f"{WATERMARK}\n\n{tables.align(rows)}\n\nAccuracy on the test images in percent by what a "
        "method chooses on, the mean over datasets and seeds; then the points over min(shots, 4) "
        f"validation images per class, run against run, and in brackets their {CONFIDENCE:.0%} "
        "bootstrap interval, as in differences.md. Methods without constants choose on something. "
        f"The last column is an upper bound that nobody can reach fairly. {WATERMARK}\n"
    )


def _show_choice(row: dict[str, Any]) -> str:
    mean = f"{row['mean']:.1f}" + (" (oracle)" if row["watermark"] else "")
    if row["chosen_on"] == "validation" or row["gain"] is None:
        return mean
    if row["low"] is None:
        return f"{mean}, {row['gain']:+z.1f}"
    return f"{mean}, {row['gain']:+z.1f} ({row['low']:+z.1f} to {row['high']:+z.1f})"

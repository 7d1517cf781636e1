"""Macro F1, calibration, accuracy by class, and the mistakes of a method."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score, recall_score

from vtclip.config.dataset import ClassSplit
from vtclip.parquet import read_parquet
from vtclip.paths import Run
from vtclip.results.tables import KEY, by_file, mean_and_deviation, write_table

BINS = 15  # of confidence, as is usual for the expected calibration error (Guo et al., 2017)


def aggregate_metrics(
    runs: Sequence[Run], metrics: str | Path, classes: str | Path
) -> pl.DataFrame:
    """Write macro F1 and calibration error of each run's predictions, and accuracy by class.

    Returns:
        backbone, dataset, method, shots, macro_f1, macro_f1_std, calibration_error,
        calibration_error_std, macro_accuracy (the mean over classes), macro_accuracy_std, seeds; in
        percent. The table of classes: backbone, dataset, method, shots, label, class_name, accuracy
        (percent, the mean over seeds), images.
    """
    measured, by_class = [], []
    for run in by_file(runs):
        names = read_parquet(run.texts, "label", "class_name")
        labels = ClassSplit.parse(run.dataset).labels(names.height)
        names = names.slice(labels.start, len(labels))
        table = read_parquet(run.predictions, "shots", "seed", "label", "prediction", "confidence")
        for (shots, seed), found in table.group_by("shots", "seed", maintain_order=True):
            key = (run.backbone, run.dataset, run.method, shots)
            cell = dict(zip(KEY, key, strict=True)) | {"seed": seed}
            measured.append(cell | measure(found))
            named = {name: pl.lit(value) for name, value in cell.items()}
            by_class.append(_measure_classes(found, names).with_columns(**named))
    table = mean_and_deviation(
        pl.DataFrame(measured), KEY, "macro_f1", "calibration_error", "macro_accuracy"
    )
    write_table(table, metrics)
    over_seeds = pl.concat(by_class).group_by(*KEY, "label", "class_name", maintain_order=True)
    write_table(over_seeds.agg(pl.col("accuracy").mean(), pl.col("images").first()), classes)
    return table


def measure(run: pl.DataFrame) -> dict[str, float]:
    """Macro F1 and expected calibration error, in percent, of the predictions of one run."""
    labels, found = run["label"].to_numpy(), run["prediction"].to_numpy()
    f1 = f1_score(labels, found, average="macro", zero_division=0.0)
    error = calibration_error(found == labels, run["confidence"].to_numpy())
    by_class = recall_score(labels, found, labels=np.unique(labels), average="macro")
    return {
        "macro_f1": 100 * float(f1),
        "calibration_error": 100 * error,
        "macro_accuracy": 100 * float(by_class),
    }


def calibration_error(hits: np.ndarray, confidence: np.ndarray) -> float:
    """The gap between accuracy and mean confidence in equal bins of it, weighted by size."""
    accuracy, mean = measure_reliability(hits, confidence)
    edges = np.linspace(0, 1, BINS + 1)  # as calibration_curve has them
    sizes = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=BINS)
    return float(np.abs(accuracy - mean) @ sizes[sizes > 0] / len(hits))


def measure_reliability(hits: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and mean confidence, each 0 .. 1, in bins of confidence that are not empty."""
    # A softmax in float32 may exceed 1 by rounding.
    return calibration_curve(hits, confidence.clip(0, 1), n_bins=BINS)


def _measure_classes(run: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    labels = names["label"].to_list()
    true, found = run["label"].to_numpy(), run["prediction"].to_numpy()
    accuracy = recall_score(true, found, labels=labels, average=None, zero_division=np.nan)
    images = np.bincount(true, minlength=len(labels))
    return names.with_columns(
        accuracy=pl.Series(100 * accuracy).fill_nan(None), images=pl.Series(images)
    )


def find_confusions(run: pl.DataFrame, *, number: int, examples: int) -> pl.DataFrame:
    """The pairs of classes that are confused most often, over all seeds of one number of shots.

    As label, prediction, share (of the class's images, in percent, the mean over seeds), images
    (as many as `examples`, the most confident first).
    """
    sizes = dict(run.group_by("label").len().iter_rows())
    return (
        _sort_mistakes(run)
        .group_by("label", "prediction")
        .agg(pl.len(), pl.col("image").unique(maintain_order=True).head(examples).alias("images"))
        .with_columns(share=100 * pl.col("len") / pl.col("label").replace_strict(sizes))
        .sort("len", "share", "label", "prediction", descending=[True, True, False, False])
        .head(number)
        .select("label", "prediction", "share", "images")
    )


def find_mistakes(run: pl.DataFrame, *, number: int) -> pl.DataFrame:
    """The most confident mistakes (image, label, prediction, confidence); each image comes once."""
    first = _sort_mistakes(run).unique("image", keep="first", maintain_order=True)
    return first.select("image", "label", "prediction", "confidence").head(number)


def _sort_mistakes(run: pl.DataFrame) -> pl.DataFrame:
    wrong = run.filter(pl.col("prediction") != pl.col("label"))
    return wrong.sort("confidence", "image", "seed", descending=[True, False, False])

"""Macro F1, calibration, and accuracy by class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.calibration import calibration_curve
from sklearn.metrics import f1_score, recall_score

from vtclip.config.dataset import ClassSplit
from vtclip.parquet import read_parquet
from vtclip.paths import Run
from vtclip.results.tables import KEY, mean_and_deviation, write_table

BINS = 15  # of confidence, as is usual for the expected calibration error (Guo et al., 2017)


def aggregate_metrics(
    runs: Sequence[Run], metrics: str | Path, classes: str | Path
) -> pl.DataFrame:
    """Write macro F1 and calibration error of each run's predictions, and accuracy by class.

    Args:
        runs: all heads on their own test sets; their texts have the class names.
        metrics, classes: the paths to write to, without a suffix, as Parquet and CSV.

    Returns:
        backbone, dataset, method, shots, macro_f1, macro_f1_std, calibration_error,
        calibration_error_std, seeds; in percent. The table of classes: backbone, dataset, method,
        shots, label, class_name, accuracy (percent, the mean over seeds), images.
    """
    measured, by_class = [], []
    for backbone, dataset, method, predictions, texts in dict.fromkeys(
        (run.backbone, run.dataset, run.method, run.predictions, run.texts) for run in runs
    ):
        names = read_parquet(texts, "label", "class_name")
        labels = ClassSplit.parse(dataset).labels(names.height)
        names = names.slice(labels.start, len(labels))
        table = read_parquet(predictions, "shots", "seed", "label", "prediction", "confidence")
        for (shots, seed), found in table.group_by("shots", "seed", maintain_order=True):
            run = dict(zip(KEY, (backbone, dataset, method, shots), strict=True)) | {"seed": seed}
            measured.append(run | measure(found))
            named = {name: pl.lit(value) for name, value in run.items()}
            by_class.append(_measure_classes(found, names).with_columns(**named))
    table = mean_and_deviation(pl.DataFrame(measured), KEY, "macro_f1", "calibration_error")
    write_table(table, metrics)
    over_seeds = pl.concat(by_class).group_by(*KEY, "label", "class_name", maintain_order=True)
    write_table(over_seeds.agg(pl.col("accuracy").mean(), pl.col("images").first()), classes)
    return table


def measure(run: pl.DataFrame) -> dict[str, float]:
    """Macro F1 and expected calibration error of one run, in percent.

    Args:
        run: label, prediction, confidence (0 .. 1); a row per image.
    """
    labels, found = run["label"].to_numpy(), run["prediction"].to_numpy()
    f1 = f1_score(labels, found, average="macro", zero_division=0.0)
    error = calibration_error(found == labels, run["confidence"].to_numpy())
    return {"macro_f1": 100 * float(f1), "calibration_error": 100 * error}


def calibration_error(hits: np.ndarray, confidence: np.ndarray) -> float:
    """The gap between accuracy and mean confidence in equal bins of confidence, weighted by size.

    Args:
        hits: (M,) bool, true for a right prediction.
        confidence: (M,) in 0 .. 1.
    """
    confidence = confidence.clip(0, 1)  # a softmax in float32 may exceed 1 by rounding
    accuracy, mean = calibration_curve(hits, confidence, n_bins=BINS)
    # The bins of calibration_curve, which leaves out the empty ones.
    edges = np.linspace(0, 1, BINS + 1)
    sizes = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=BINS)
    return float(np.abs(accuracy - mean) @ sizes[sizes > 0] / len(hits))


def _measure_classes(run: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    labels = names["label"].to_list()
    accuracy = recall_score(
        run["label"].to_numpy(), run["prediction"].to_numpy(), labels=labels, average=None,
        zero_division=np.nan,
    )  # fmt: skip
    images = np.bincount(run["label"].to_numpy(), minlength=len(labels))
    return names.with_columns(
        accuracy=pl.Series(100 * accuracy).fill_nan(None), images=pl.Series(images)
    )

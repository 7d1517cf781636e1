"""Mistakes of a method: pairs of classes that it confuses, and single images."""

import numpy as np
import polars as pl
from sklearn.calibration import calibration_curve

from vtclip.results.metrics import BINS

COLUMNS = ("shots", "seed", "image", "label", "prediction", "confidence")


def find_confusions(run: pl.DataFrame, *, number: int, examples: int) -> pl.DataFrame:
    """The pairs of classes that are confused most often.

    Args:
        run: COLUMNS, of one number of shots; all seeds.
        number: of pairs at most.
        examples: images per pair.

    Returns:
        label, prediction, share (of the class's images, in percent, the mean over seeds), images
        (the most confident first).
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
    """The most confident mistakes as image, label, prediction, confidence; each image comes once.

    Args:
        run: COLUMNS, of one number of shots; all seeds.
        number: of images at most.
    """
    first = _sort_mistakes(run).unique("image", keep="first", maintain_order=True)
    return first.select("image", "label", "prediction", "confidence").head(number)


def measure_reliability(run: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and mean confidence, each 0 .. 1, in bins of confidence that are not empty."""
    hits = (run["prediction"] == run["label"]).to_numpy()
    return calibration_curve(hits, run["confidence"].to_numpy().clip(0, 1), n_bins=BINS)


def _sort_mistakes(run: pl.DataFrame) -> pl.DataFrame:
    wrong = run.filter(pl.col("prediction") != pl.col("label"))
    return wrong.sort("confidence", "image", "seed", descending=[True, False, False])

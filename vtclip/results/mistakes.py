"""Mistakes of a method: pairs of classes that it confuses, and single images."""

from typing import NamedTuple

import numpy as np
import polars as pl
from sklearn.calibration import calibration_curve

from vtclip.results.metrics import BINS

COLUMNS = ("shots", "seed", "image", "label", "prediction", "confidence")


class Confusion(NamedTuple):
    """A class whose images are classified as another's."""

    label: int
    prediction: int
    share: float  # of the class's images, in percent, the mean over seeds
    images: list[str]  # examples, the most confident first


class Mistake(NamedTuple):
    """An image that is classified wrongly."""

    image: str
    label: int
    prediction: int
    confidence: float


def find_confusions(run: pl.DataFrame, *, number: int, examples: int) -> list[Confusion]:
    """The pairs of classes that are confused most often.

    Args:
        run: COLUMNS, of one number of shots; all seeds.
        number: of pairs at most.
        examples: images per pair.
    """
    sizes = dict(run.group_by("label").len().iter_rows())
    pairs = (
        _wrong(run)
        .group_by("label", "prediction")
        .agg(pl.len(), pl.col("image").unique(maintain_order=True).head(examples))
        .with_columns(share=100 * pl.col("len") / pl.col("label").replace_strict(sizes))
        .sort("len", "share", "label", "prediction", descending=[True, True, False, False])
        .head(number)
    )
    columns = ("label", "prediction", "share", "image")
    return [Confusion(*row) for row in pairs.select(columns).iter_rows()]


def find_mistakes(run: pl.DataFrame, *, number: int) -> list[Mistake]:
    """The most confident mistakes; each image comes once.

    Args:
        run: COLUMNS, of one number of shots; all seeds.
        number: of images at most.
    """
    rows = _wrong(run).unique("image", keep="first", maintain_order=True).head(number)
    return [Mistake(*row) for row in rows.select(Mistake._fields).iter_rows()]


def measure_reliability(run: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy and mean confidence, each 0 .. 1, in bins of confidence that are not empty."""
    hits = (run["prediction"] == run["label"]).to_numpy()
    return calibration_curve(hits, run["confidence"].to_numpy().clip(0, 1), n_bins=BINS)


def _wrong(run: pl.DataFrame) -> pl.DataFrame:
    wrong = run.filter(pl.col("prediction") != pl.col("label"))
    return wrong.sort("confidence", "image", "seed", descending=[True, False, False])

"""What a method gets wrong: pairs of classes, and single images."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from PIL import Image
from sklearn.calibration import calibration_curve

from vtclip.data.images import PictureError, open_picture
from vtclip.results.metrics import BINS

SIDES = (1200, 900, 700, 500, 350, 240, 160, 96, 64)  # pixels of the longer side that are tried


def embed_svg(path: str | Path) -> str:
    """A figure, as it is."""
    return _address("image/svg+xml", Path(path).read_bytes())


def embed_picture(path: str | Path, *, limit: int, side: int = SIDES[0]) -> str | None:
    """A picture as JPEG.

    Args:
        path: the image file.
        limit: bytes; the picture is made smaller until it has as few, or is 64 pixels large.
        side: pixels of the longer side at most.

    Returns:
        None for a file that cannot be read: a page without it says as much as before.
    """
    try:
        picture = open_picture(path)
    except PictureError:
        return None
    content = b""
    for size in (size for size in SIDES if size <= side):
        picture.thumbnail((size, size), Image.Resampling.LANCZOS)
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=82)
        content = written.getvalue()
        if len(content) <= limit:
            break
    return _address("image/jpeg", content)


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


COLUMNS = ("shots", "seed", "image", "label", "prediction", "confidence")


class Confusion(NamedTuple):
    """A class whose images are taken for another's."""

    label: int
    prediction: int
    share: float
    """of the class's images, in percent, the mean over seeds"""
    images: list[str]
    """examples, the most confident first"""


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
        number: how many pairs.
        examples: images a pair.
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
        number: how many.
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

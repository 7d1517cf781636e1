"""Near-duplicates: images of one picture that was re-compressed, resized, cropped or mirrored."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagehash
import numpy as np
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from vtclip.config.dataset import Exif
from vtclip.data.images import PictureError, open_picture
from vtclip.runtime.job import progress

DECODERS = 4  # threads
ROWS = 1024  # images that are compared with all others at a time
SIDE = 16  # of a hash; with 8, the library's default, any two aeroplanes on white are alike
MAX_BITS = 16  # of the 256 that differ between copies
# Cosines of copies differ from backbone to backbone, and cropping moves features far, so that the
# distances of the image's other neighbours say what is near. 1 - cosine of a pair is below half of
# that to the third neighbour, and below that of most images to their nearest.
NEIGHBOURS = 3
NEAR, TYPICAL = 0.5, 0.7
SAME = 0.999  # cosine of features that differ by rounding
PAIRS = pl.Schema({"row": pl.Int64, "other_row": pl.Int64, "cosine": pl.Float64, "bits": pl.Int16})


def hash_images(images: Sequence[str], folder: str | Path, *, exif: Exif = "ignore") -> np.ndarray:
    """Compute the perceptual hash of each image.

    Args:
        images: files below the folder.
        folder: the folder that the image paths start from.
        exif: of the dataset; "upright" to turn images as their EXIF orientation says.

    Returns:
        (M, 256) of 0 and 1, float32; a row of NaN for an image that cannot be read.
    """

    def hash_one(image: str) -> np.ndarray:
        try:
            picture = open_picture(Path(folder, image), exif=exif)
        except PictureError:
            return np.full(SIDE**2, np.nan)
        return imagehash.phash(picture, SIDE).hash.ravel()

    with ThreadPoolExecutor(DECODERS) as decoders:
        hashes = progress(decoders.map(hash_one, images), what="images hashed", total=len(images))
        return np.array(list(hashes), np.float32).reshape(-1, SIDE**2)


def find_near_duplicates(
    images: pl.DataFrame,
    *,
    features: np.ndarray | None = None,
    hashes: np.ndarray | None = None,
) -> pl.DataFrame:
    """Find the pairs of images that show one picture, by features, by hashes, or by either.

    Args:
        images: a table with a row for each image, of any columns, such as image, label and split.
        features: (M, D), of any length.
        hashes: (M, 256), of `hash_images`.

    Returns:
        row and other_row, the places of two images in the table, row < other_row; cosine and bits
        (of the hashes that differ), null without features or hashes; and the table's columns for
        both, those of the second with `other_` before the name. By row.
    """
    unit = None if features is None else unit_rows(features.astype(np.float32))
    found = np.zeros((0, 2), np.int64)
    if unit is not None:
        found = np.concatenate([found, _find_by_features(unit)])
    if hashes is not None:
        found = np.concatenate([found, _find_by_hashes(hashes)])
    row, other = np.unique(np.sort(found, axis=1), axis=0).T
    pairs = pl.DataFrame(
        {
            "row": row,
            "other_row": other,
            "cosine": None if unit is None else (unit[row] * unit[other]).sum(axis=1),
            "bits": None if hashes is None else np.abs(hashes[row] - hashes[other]).sum(axis=1),
        },
        PAIRS,
        strict=False,
    )
    second = images.rename(lambda name: f"other_{name}")[other]
    return pl.concat([pairs, images[row], second], how="horizontal")


def group_near_duplicates(pairs: pl.DataFrame, images: int) -> np.ndarray:
    """Number the groups of images that pairs link.

    Args:
        pairs: row and other_row, of `find_near_duplicates`.
        images: the number of images.

    Returns:
        (M,), the number of each image's group; an image without a pair is a group by itself.
    """
    rows = pairs["row"].to_numpy(), pairs["other_row"].to_numpy()
    links = coo_array((np.ones(pairs.height), rows), shape=(images, images))
    return connected_components(links, directed=False)[1]


def _find_by_hashes(hashes: np.ndarray) -> np.ndarray:
    """Pairs of rows (P, 2) whose hashes differ in few bits."""
    parts = []
    for first in range(0, len(hashes), ROWS):
        some, others = hashes[first : first + ROWS], hashes[first:]
        bits = some.sum(axis=1)[:, None] + others.sum(axis=1) - 2 * some @ others.T
        parts.append(first + np.argwhere(np.triu(bits <= MAX_BITS, k=1)))
    return np.concatenate([np.zeros((0, 2), np.int64), *parts])


def _find_by_features(unit: np.ndarray) -> np.ndarray:
    """Pairs of rows (P, 2) that are near for this set of images, or the same but for rounding."""
    nearest, distance = _find_nearest(unit)
    rows = np.arange(len(unit))
    limit = np.full(len(unit), -np.inf)
    if nearest.shape[1] == NEIGHBOURS:
        limit = np.minimum(NEAR * distance[:, -1], TYPICAL * np.median(distance[:, 0]))
    parts = [np.zeros((0, 2), np.int64)]
    for other, away in zip(nearest.T, distance.T, strict=True):
        is_mutual = (nearest[other, :-1] == rows[:, None]).any(axis=1)
        is_near = is_mutual & (away < np.minimum(limit, limit[other]))
        parts.append(np.stack([rows, other], axis=1)[is_near | (away <= 1 - SAME)])
    return np.concatenate(parts)


def _find_nearest(unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The three nearest other rows of each, or all where there are fewer, and 1 - cosine."""
    number = max(0, min(NEIGHBOURS, len(unit) - 1))
    nearest, distance = [np.zeros((0, number), int)], [np.zeros((0, number))]
    for first in range(0, len(unit), ROWS):
        away = 1 - unit[first : first + ROWS] @ unit.T
        rows = np.arange(len(away))
        away[rows, first + rows] = np.inf
        some = np.argpartition(away, number, axis=1)[:, :number]
        ranks = np.argsort(np.take_along_axis(away, some, axis=1), axis=1)
        nearest.append(np.take_along_axis(some, ranks, axis=1))
        distance.append(np.take_along_axis(away, nearest[-1], axis=1))
    return np.concatenate(nearest), np.concatenate(distance)


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Scale rows to unit length; zeros stay zeros."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)

"""Near-duplicates: images of one picture that was re-compressed, resized, cropped or mirrored."""

from collections.abc import Callable, Sequence
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
    """The perceptual hash of each image below a folder: (M, 256) of 0 and 1, float32.

    The row of an image that cannot be read is NaN.
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
    images: pl.DataFrame,  # of any columns, such as image, label and split
    *,
    features: np.ndarray | None = None,  # (M, D), of any length
    hashes: np.ndarray | None = None,  # (M, 256), of `hash_images`
) -> pl.DataFrame:
    """Find the pairs of images that show one picture, by features, by hashes, or by either.

    Of both images the pairs have the row (row < other_row) and the table's columns, those of the
    second with `other_` before the name; and cosine and bits (of the hashes that differ), null
    without features or hashes.
    """
    unit = None if features is None else unit_rows(features.astype(np.float32))
    found = [np.zeros((0, 2), np.int64)]
    if unit is not None:
        found.append(_find_by_features(*_find_nearest(unit)))
    if hashes is not None:
        found.append(_find_by_hashes(hashes))
    return _describe_pairs(images, np.concatenate(found), unit, hashes)


def find_copies(
    images: pl.DataFrame,
    first: int,  # the number of images that are compared with the others
    *,
    features: np.ndarray,  # (M, D), of any length
    hash_some: Callable[[Sequence[str]], np.ndarray],  # N images -> (N, 256)
) -> pl.DataFrame:
    """Find the near-duplicates of which one is among the first images, and hash few of all.

    A copy that differs in few bits of the hash has near features too. So only these images are
    hashed: of two that are among each other's nearest, if they are nearer to each other than most
    images are to any. The pairs are as of `find_near_duplicates`.
    """
    unit = unit_rows(features.astype(np.float32))
    nearest, distance = _find_nearest(unit)
    limit = np.full(len(unit), np.median(distance[:, :1]))
    near, close = _find_by_features(nearest, distance), _find_mutual(nearest, distance, limit)
    near, close = (pairs[(pairs < first).sum(axis=1) == 1] for pairs in (near, close))
    rows = np.unique(np.concatenate([near, close]))
    hashes = np.full((len(unit), SIDE**2), np.nan, np.float32)
    hashes[rows] = hash_some(images["image"][rows].to_list())
    alike = close[_count_bits(hashes, close) <= MAX_BITS]
    return _describe_pairs(images, np.concatenate([near, alike]), unit, hashes)


def _describe_pairs(
    images: pl.DataFrame, found: np.ndarray, unit: np.ndarray | None, hashes: np.ndarray | None
) -> pl.DataFrame:
    """The table of pairs (P, 2), each once."""
    found = np.unique(np.sort(found, axis=1), axis=0)
    row, other = found.T
    pairs = pl.DataFrame(
        {
            "row": row,
            "other_row": other,
            "cosine": None if unit is None else (unit[row] * unit[other]).sum(axis=1),
            "bits": None if hashes is None else _count_bits(hashes, found),
        },
        PAIRS,
        strict=False,
    )
    second = images.rename(lambda name: f"other_{name}")[other]
    return pl.concat([pairs, images[row], second], how="horizontal")


def group_near_duplicates(pairs: pl.DataFrame, images: int) -> np.ndarray:
    """Number the groups that pairs of so many images link: (M,), the group of each image."""
    rows = pairs["row"].to_numpy(), pairs["other_row"].to_numpy()
    links = coo_array((np.ones(pairs.height), rows), shape=(images, images))
    return connected_components(links, directed=False)[1]


def _count_bits(hashes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return np.abs(hashes[pairs[:, 0]] - hashes[pairs[:, 1]]).sum(axis=1)


def _find_by_hashes(hashes: np.ndarray) -> np.ndarray:
    """Pairs of rows (P, 2) whose hashes differ in few bits."""
    parts = []
    for first in range(0, len(hashes), ROWS):
        some, others = hashes[first : first + ROWS], hashes[first:]
        bits = some.sum(axis=1)[:, None] + others.sum(axis=1) - 2 * some @ others.T
        parts.append(first + np.argwhere(np.triu(bits <= MAX_BITS, k=1)))
    return np.concatenate([np.zeros((0, 2), np.int64), *parts])


def _find_by_features(nearest: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Pairs of rows (P, 2) that are near for this set of images, or the same but for rounding."""
    limit = np.full(len(nearest), -np.inf)
    if nearest.shape[1] == NEIGHBOURS:
        limit = np.minimum(NEAR * distance[:, -1], TYPICAL * np.median(distance[:, 0]))
    return _find_mutual(nearest, distance, limit)


def _find_mutual(nearest: np.ndarray, distance: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Pairs of rows (P, 2) nearer than the limit of both, or the same but for rounding."""
    rows = np.arange(len(nearest))
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

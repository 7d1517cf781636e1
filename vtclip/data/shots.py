"""The images of runs: those that CoOp picks, in the same order, or those that a list picks."""

import hashlib
import json
import logging
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.data.pick_lists import (
    TRAIN,
    VAL_SHOTS,
    Pick,
    PicksError,
    count_validation,
    index_rows,
    match_rows,
    read_picks,
)
from vtclip.files import write_text
from vtclip.parquet import read_metadata_key, read_parquet, write_parquet
from vtclip.wording import count, did_you_mean

logger = logging.getLogger(__name__)

IMAGES = b"images_sha256"  # key of the metadata: checksum of the images


def write_shots(
    manifest: str | Path,
    destination: str | Path,
    *,
    shots: int,
    seed: int,
    without: str = "",
    uneven: Mapping[str, Any] | None = None,
) -> pl.DataFrame:
    """Sample from a manifest as `sample_shots` does, and write the sample to a Parquet file.

    With `uneven`, the fields of `UnevenShots`, each class keeps the first few of its images.

    The images' checksum is copied into its metadata: if images change under the same names, the
    file changes too.
    """
    images = read_metadata_key(manifest, IMAGES)
    sample = sample_shots(read_parquet(manifest), shots=shots, seed=seed, without=without)
    if uneven is not None:
        sample = keep_uneven(sample, **uneven)
    counts = sample.group_by("label", "split").len().group_by("split")
    found = counts.agg(smallest=pl.min("len"), largest=pl.max("len"))
    logger.info("Images per class, smallest and largest: %s", found.to_dicts())
    write_parquet(destination, sample, None if images is None else {IMAGES: images})
    return sample


def sample_shots(
    manifest: pl.DataFrame, *, shots: int, seed: int, without: str = ""
) -> pl.DataFrame:
    """Pick `shots` training images and min(shots, 4) validation images per class.

    CoOp's procedure and use of the random generator: group the train rows by label in file order,
    take `random.sample` of each group, then continue with the same generator over the val rows. A
    class with fewer rows gives all of them, in file order.

    Without val rows (ImageNet), validation images come from the train rows that were not picked.
    CoOp takes test images there, which would select on the test set.

    Of a manifest in folds, both come from all folds but `without`. A quarter of a class is to
    validate on, but at least one image and at most min(shots, 4).

    Args:
        manifest: image, label, class_name, split.
        shots: labelled training images per class, 1 or more; `vtclip.paths.ALL` for all of them.
        seed: seed of the generator.
        without: the fold to leave out, such as `fold1`; "" for none.

    Returns:
        The manifest's columns; train rows, then val rows, in sampled order.

    Raises:
        ValueError: shots below 1.
    """
    if shots < 1:
        raise ValueError(f"shots: expected 1 or more, found {shots}.")
    generator = random.Random(seed)
    if manifest["split"].str.starts_with("fold").any():
        return _sample_folds(manifest.filter(pl.col("split") != without), shots, generator)
    train = _sample_classes(manifest.filter(split="train"), shots, generator)
    pool = manifest.filter(split="val")
    if pool.is_empty():
        rest = manifest.filter(split="train").join(
            train, on="image", how="anti", maintain_order="left"
        )
        pool = rest.with_columns(split=pl.lit("val"))
    return pl.concat([train, _sample_classes(pool, min(shots, VAL_SHOTS), generator)])


def keep_uneven(
    sample: pl.DataFrame, *, min: int, max: int, seed: int, classes: Mapping[str, int]
) -> pl.DataFrame:
    """Keep the first n training images of each class, and the first min(n, 4) to validate on.

    n is the class's own number in `classes`, or is drawn evenly from min to max: for all runs of
    the same seed the same numbers, in the order of the labels.

    Raises:
        ValueError: a class name that the dataset does not have.
    """
    names = dict(sample.select("label", "class_name").unique().sort("label").iter_rows())
    if unknown := sorted(set(classes) - set(names.values())):
        hint = did_you_mean(unknown[0], list(names.values()))
        raise ValueError(f"shots: classes: there is no class '{unknown[0]}'.{hint}")
    generator = random.Random(seed)
    drawn = {label: generator.randint(min, max) for label in names}
    numbers = {label: classes.get(name, drawn[label]) for label, name in names.items()}
    most = pl.col("label").replace_strict(numbers)
    most = pl.when(split="val").then(pl.min_horizontal(most, VAL_SHOTS)).otherwise(most)
    return sample.filter(pl.int_range(pl.len()).over("label", "split") < most)


def _sample_folds(rows: pl.DataFrame, shots: int, generator: random.Random) -> pl.DataFrame:
    parts = []
    for group in rows.partition_by("label", maintain_order=True):
        val = count_validation(group.height, shots)
        train = min(shots, group.height - val)
        picked = group[generator.sample(range(group.height), train + val)]
        split = pl.Series(["train"] * train + ["val"] * val)
        parts.append(picked.with_columns(split=split))
    return pl.concat(parts).sort("split", maintain_order=True)


def _sample_classes(rows: pl.DataFrame, number: int, generator: random.Random) -> pl.DataFrame:
    picked: list[int] = []
    numbered = rows.with_row_index("row")
    for group in numbered.partition_by("label", maintain_order=True):
        members = group["row"].to_list()
        picked += generator.sample(members, number) if len(members) >= number else members
    return rows[picked]


def match_picks(
    manifest: str | Path, picks: str | Path, destination: str | Path, *, shots: int
) -> pl.DataFrame:
    """Write the rows of a manifest that a list picks, as `write_shots` writes those that it draws.

    Raises:
        PicksError: as of `match_rows`, or more images of a class than `shots`.
    """
    sample = find_rows(read_parquet(manifest), read_picks(picks), source=picks)
    most = sample.filter(split=TRAIN)["class_name"].value_counts().sort("count")[-1]
    if most["count"][0] > shots:
        raise PicksError(
            f"{picks}: expected {count(shots, 'training image')} of a class at most, found "
            f"{most['count'][0]} of '{most['class_name'][0]}'."
        )
    images = read_metadata_key(manifest, IMAGES)
    write_parquet(destination, sample, None if images is None else {IMAGES: images})
    return sample


def find_rows(manifest: pl.DataFrame, picks: Iterable[Pick], *, source: str | Path) -> pl.DataFrame:
    """Find the manifest's rows of some picks, in the picks' order, those to train with first."""
    known = index_rows(manifest.to_dicts())
    return pl.DataFrame(match_rows(known, picks, source=source), schema=manifest.schema)


def write_picks(sample: pl.DataFrame, destination: str | Path) -> str:
    """Write a run's images as JSON lines; returns the file's SHA-256."""
    write_text(destination, format_picks(sample))
    return checksum_of(sample)


def checksum_of(sample: pl.DataFrame) -> str:
    """The SHA-256 of a run's images, as JSON lines."""
    return hashlib.sha256(format_picks(sample).encode()).hexdigest()


def format_picks(sample: pl.DataFrame) -> str:
    """A run's images as JSON lines: image, label, class_name, split, in the order of training."""
    lines = (json.dumps(row, ensure_ascii=False) for row in sample.to_dicts())
    return "".join(f"{line}\n" for line in lines)

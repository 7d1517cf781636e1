"""K-shot sampling: the images that CoOp picks, in the same order."""

import logging
import random
from pathlib import Path

import polars as pl

from vtclip.parquet import read_metadata_key, read_parquet, write_parquet

logger = logging.getLogger(__name__)

VAL_SHOTS = 4  # CoOp never takes more than four validation images per class.
IMAGES = b"images_sha256"  # key of the metadata: checksum of the images


def write_shots(
    manifest: str | Path, destination: str | Path, *, shots: int, seed: int
) -> pl.DataFrame:
    """Sample from a manifest as `sample_shots` does, and write the sample to a Parquet file.

    The images' checksum is copied into its metadata: if images change under the same names, the
    file changes too.
    """
    images = read_metadata_key(manifest, IMAGES)
    sample = sample_shots(read_parquet(manifest), shots=shots, seed=seed)
    counts = (
        sample.group_by("label", "split")
        .len()
        .group_by("split")
        .agg(pl.min("len").alias("smallest"), pl.max("len").alias("largest"))
    )
    logger.info("Images per class, smallest and largest: %s", counts.to_dicts())
    write_parquet(destination, sample, None if images is None else {IMAGES: images})
    return sample


def sample_shots(manifest: pl.DataFrame, *, shots: int, seed: int) -> pl.DataFrame:
    """Pick `shots` training images and min(shots, 4) validation images per class.

    CoOp's procedure and use of the random generator: group the train rows by label in file order,
    take `random.sample` of each group, then continue with the same generator over the val rows. A
    class with fewer rows gives all of them, in file order.

    Without val rows (ImageNet), validation images come from the train rows that were not picked.
    CoOp takes test images there, which would select on the test set.

    Args:
        manifest: image, label, class_name, split.
        shots: labelled training images per class, 1 or more; `vtclip.paths.ALL` for all of them.
        seed: seed of the generator.

    Returns:
        The manifest's columns; train rows, then val rows, in sampled order.

    Raises:
        ValueError: shots below 1.
    """
    if shots < 1:
        raise ValueError(f"shots: expected 1 or more, found {shots}.")
    generator = random.Random(seed)
    train = _sample_classes(manifest.filter(split="train"), shots, generator)
    pool = manifest.filter(split="val")
    if pool.is_empty():
        rest = manifest.filter(split="train").join(
            train, on="image", how="anti", maintain_order="left"
        )
        pool = rest.with_columns(split=pl.lit("val"))
    return pl.concat([train, _sample_classes(pool, min(shots, VAL_SHOTS), generator)])


def _sample_classes(rows: pl.DataFrame, number: int, generator: random.Random) -> pl.DataFrame:
    picked: list[int] = []
    numbered = rows.with_row_index("row")
    for group in numbered.partition_by("label", maintain_order=True):
        members = group["row"].to_list()
        picked += generator.sample(members, number) if len(members) >= number else members
    return rows[picked]

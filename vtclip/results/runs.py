"""The runs behind the tables: predictions by backbone, dataset and method, and their accuracies."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from vtclip.dataset import MEAN as MEAN  # the row over all datasets, in the dataset column
from vtclip.parquet import read_parquet

ROW = ["backbone", "dataset", "method"]


class Source(NamedTuple):
    """The predictions of all heads of a method on a dataset."""

    backbone: str
    """its features folder"""
    dataset: str
    method: str
    predictions: str | Path


def list_sources(
    keys: Sequence[tuple[str, str, str]], predictions: Sequence[str | Path]
) -> list[Source]:
    """Put keys (backbone, dataset, method) and files together, in their order."""
    return [Source(*key, path) for key, path in zip(keys, predictions, strict=True)]


def read_runs(sources: Sequence[Source]) -> pl.DataFrame:
    """backbone, dataset, method, shots, seed, accuracy in percent: a row a run."""
    return pl.concat(
        [
            read_accuracies(source.predictions).select(
                *(pl.lit(getattr(source, column)).alias(column) for column in ROW), pl.all()
            )
            for source in sources
        ]
    )


def read_accuracies(path: str | Path) -> pl.DataFrame:
    """shots, seed, accuracy in percent: a row a run."""
    hits = pl.col("prediction") == pl.col("label")
    return (
        read_parquet(path, "shots", "seed", "label", "prediction")
        .group_by("shots", "seed")
        .agg((100 * hits.mean()).alias("accuracy"))
        .sort("shots", "seed")
    )

"""Published numbers, to stand beside ours."""

from pathlib import Path

import polars as pl

SCHEMA = {
    "method": pl.String, "dataset": pl.String, "shots": pl.Int32, "accuracy": pl.Float64,
    "backbone": pl.String, "source": pl.String,
}  # fmt: skip
OPENAI = "openai"  # the weights that all published numbers were made with


class PublishedError(ValueError):
    """A file of published numbers that cannot be used."""


def read_published(path: str | Path, backbone: str, pretrained: str) -> pl.DataFrame:
    """The published numbers for a backbone; none for other weights than OpenAI's.

    Args:
        path: a CSV file with method, dataset, shots, accuracy (percent), backbone, source.
        backbone: open_clip's name; `-quickgelu` at its end is no other backbone.
        pretrained: open_clip's tag of the weights.

    Returns:
        method, dataset, shots, published (percent), source.

    Raises:
        PublishedError: a column is missing, or a number is there twice.
    """
    table = pl.read_csv(path, schema_overrides=SCHEMA)
    missing = [column for column in SCHEMA if column not in table.columns]
    if missing:
        raise PublishedError(
            f"{path}: expected the columns {', '.join(SCHEMA)}; missing: {', '.join(missing)}."
        )
    table = table.filter(
        (pl.col("backbone") == backbone.removesuffix("-quickgelu")) & (pl.lit(pretrained) == OPENAI)
    ).select("method", "dataset", "shots", pl.col("accuracy").alias("published"), "source")
    key = ["method", "dataset", "shots"]
    twice = table.filter(table.select(key).is_duplicated())
    if twice.height:
        found = ", ".join(str(value) for value in twice.row(0)[:3])
        raise PublishedError(f"{path}: {found} is there twice. Keep one of the two lines.")
    return table

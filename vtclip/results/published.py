"""Published numbers, to stand beside ours."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

SCHEMA = {
    "method": pl.String, "dataset": pl.String, "shots": pl.Int32, "accuracy": pl.Float64,
    "backbone": pl.String, "chosen_on": pl.String, "source": pl.String,
}  # fmt: skip
# What settings and epoch were chosen on, as the file has it -> in words.
CHOSEN_ON = {
    "nothing": "no image",
    "min(k, 4)": "min(shots, 4) validation images per class",
    "k a class": "as many validation images per class as shots",
    "validation split": "the whole validation split",
    "test set": "the test images",
    "not stated": "images that its authors do not state",
}
OPENAI = "openai"  # the weights that all published numbers were made with
NOTHING_PUBLISHED = pl.DataFrame(schema={
    "backbone": pl.String, "method": pl.String, "dataset": pl.String, "tested": pl.String,
    "shots": pl.Int32, "published": pl.Float64, "chosen_on": pl.String
})  # fmt: skip


class PublishedError(ValueError):
    """A file of published numbers that cannot be used."""


def read_published(
    path: str | Path, backbones: Sequence[tuple[str, str, str]], *, by_test_set: bool = False
) -> pl.DataFrame:
    """The published numbers for some backbones; none for other weights than OpenAI's.

    Args:
        path: a CSV file with method, dataset, shots, accuracy (percent), backbone, chosen_on (of
            CHOSEN_ON), source.
        backbones: (features folder, open_clip's name, its tag of the weights) of each;
            `-quickgelu` at the end of a name makes no other backbone.
        by_test_set: whether the file has a column `tested` too, for the table of test sets.

    Returns:
        backbone (the features folder), method, dataset, shots, published (percent), chosen_on,
        source; and tested, if the file has it.

    Raises:
        PublishedError: a column is missing, something else was chosen on, or a number is there
            twice.
    """
    more = ["tested"] if by_test_set else []
    schema = SCHEMA | dict.fromkeys(more, pl.String)
    table = pl.read_csv(path, schema_overrides=schema)
    missing = [column for column in schema if column not in table.columns]
    if missing:
        raise PublishedError(
            f"{path}: expected the columns {', '.join(schema)}; missing: {', '.join(missing)}."
        )
    strange = table.filter(~pl.col("chosen_on").fill_null("").is_in(list(CHOSEN_ON)))
    if strange.height:
        row = strange.row(0, named=True)
        raise PublishedError(
            f"{path}: {row['method']}, {row['dataset']}, {row['shots']}: chosen_on: found "
            f"{row['chosen_on'] or 'no word'}; expected one of: {'; '.join(CHOSEN_ON)}."
        )
    names = [
        (folder, name.removesuffix("-quickgelu"))
        for folder, name, weights in backbones
        if weights == OPENAI
    ]
    schema = dict.fromkeys(["folder", "backbone"], pl.String)
    table = table.join(pl.DataFrame(names, schema=schema, orient="row"), on="backbone").select(
        pl.col("folder").alias("backbone"), "method", "dataset", "shots",
        pl.col("accuracy").alias("published"), "chosen_on", "source", *more,
    )  # fmt: skip
    key = ["backbone", "method", "dataset", "shots", *more]
    twice = table.filter(table.select(key).is_duplicated()).select(key[1:])
    if twice.height:
        found = ", ".join(str(value) for value in twice.row(0))
        raise PublishedError(f"{path}: {found} is there twice. Keep one of the two lines.")
    return table

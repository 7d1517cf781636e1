"""Rows of the plan's index, which rules, tables, figures and report read."""

from collections.abc import Iterable
from typing import Any, NamedTuple


class Run(NamedTuple):
    """A head tested on a test set."""

    backbone: str  # its features folder, as tables name it
    dataset: str  # that the head is trained on, or a half of its classes
    tested: str  # the test set, or a half of its classes
    method: str
    label: str  # of a variant in the ablation; empty for all other rows
    shots: int
    seed: int
    head: str
    predictions: str  # shared by all heads of the method on the dataset
    record: str  # run.json of the head
    texts: str  # text features of the test set
    reason: str = ""  # why the head cannot be tested there; the paths are then empty


class Example(NamedTuple):
    """A row of the tables whose images the report shows."""

    backbone: str
    dataset: str
    images: str  # the folder that image paths start from
    receipt: str | None  # the file that says that all images are there; None for a user's folder
    predictions: str
    texts: str
    attention: str | None  # the figure of attention, where there is one


def distinct(rows: Iterable[Run | Example], column: str) -> list[Any]:
    """The values of a column, in their order, each once; none of them empty."""
    return [value for value in dict.fromkeys(getattr(row, column) for row in rows) if value]

"""Halves of a dataset's classes: `base`, to train on, and `new`, which a head never saw.

The protocol is CoCoOp's: classes in the order of their labels, the first ceil(K / 2) are the base
ones. A half is called as the dataset and itself, `letters@base`. Files are the dataset's; in the
tensors that a method is given, the labels of a half begin at 0.
"""

HALVES = ("base", "new")


def half_of(dataset: str, half: str) -> str:
    """What a half of a dataset is called: `letters@base`."""
    return f"{dataset}@{half}"


def split_half(name: str) -> tuple[str, str]:
    """The dataset and the half of it; "" for a dataset itself."""
    dataset, at, half = name.rpartition("@")
    return (dataset, half) if at and half in HALVES else (name, "")


def whole_of(name: str) -> str:
    """The dataset of a half, whose files are read; a dataset itself is its own."""
    return split_half(name)[0]


def labels_of(name: str, classes: int) -> range:
    """The labels of a half of K classes; all of them for a dataset itself."""
    middle = -(-classes // 2)
    halves = {"base": range(middle), "new": range(middle, classes)}
    return halves.get(split_half(name)[1], range(classes))

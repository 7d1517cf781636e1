"""Notices before the first job: requests that the data cannot meet, or only in part."""

import json
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vtclip.config.dataset import OWN_LAYOUTS, ClassSplit, Dataset, dataset_name
from vtclip.config.experiment import Experiment
from vtclip.data.inventory import find_tree, images_folder
from vtclip.data.pick_lists import count_validation
from vtclip.data.walk import SPLITS, UNSPLIT, walk
from vtclip.methods import METHODS
from vtclip.methods.base import Recipe
from vtclip.paths import ALL, name_shots
from vtclip.plan.variants import Variant, constant_settings
from vtclip.wording import count, explain_alike, find_alike, inline, list_some

Numbers = Mapping[str, Sequence[float]]  # split -> images of each class


def count_images(name: str, dataset: Dataset) -> Numbers | None:
    """Count the images of a dataset, or of a half of it, as far as that needs no job.

    Where only totals are known, each class counts as the mean. None where nothing is known.
    """
    found = None
    if dataset.layout in OWN_LAYOUTS:
        found = _count_files(dataset)
    elif dataset.split is not None:
        found = _count_rows(images_folder(dataset_name(name), dataset) / dataset.split)
    if found is None and dataset.counts is not None:
        totals = dataset.counts.model_dump()
        classes = totals["classes"]
        found = {split: [totals[split] / classes] * classes for split in SPLITS}
    if found is None:
        return None
    if dataset.folds:
        found = _count_in_folds(found, dataset.folds)
    labels = ClassSplit.parse(name).labels(len(found["train"]))
    return {split: numbers[labels.start : labels.stop] for split, numbers in found.items()}


def _count_in_folds(found: Numbers, folds: int) -> Numbers:
    """Images of each class that a fold's heads learn from, the fewest; and all to predict."""
    whole = [sum(numbers) for numbers in zip(*found.values(), strict=True)]
    rest = [number - -(-number // folds) for number in whole]
    val = [count_validation(number) for number in rest]
    train = [number - kept for number, kept in zip(rest, val, strict=True)]
    return {"train": train, "val": val, "test": whole}


def _count_files(dataset: Dataset) -> Numbers:
    """Count the files in class folders, or a table's; none is opened, some may be no images."""
    tree = find_tree(dataset)
    assert tree is not None
    assert dataset.folder is not None
    left_out, depth = set(dataset.leave_out), next(iter(tree.places)).count("/") + 1
    if dataset.layout == "table":
        files = Counter(tree.places.keys() - left_out)
    else:
        files = Counter(
            "/".join(entry.path.split("/")[:depth])
            for entry in walk(dataset.folder)
            if entry.kind == "file" and entry.path not in left_out
        )
    found = {split: [0] * len(tree.classes) for split in (*SPLITS, UNSPLIT)}
    for folder, (label, split) in tree.places.items():
        found[split][label] += files[folder]
    whole = found.pop(UNSPLIT)
    if not tree.splits:
        divided = [dataset.fractions.divide(max(3, number)) for number in whole]
        found = {split: [sizes[n] for sizes in divided] for n, split in enumerate(SPLITS)}
    return found


def _read_rows(split_file: Path) -> dict[str, list[tuple[str, int, str]]]:
    """Read a split file in CoOp's form; nothing while there is none."""
    try:
        content = json.loads(split_file.read_text(encoding="utf-8"))
        return {
            split: [(i, int(n), str(name)) for i, n, name in content[split]] for split in SPLITS
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}  # the job that makes the manifest says what is wrong


def _count_rows(split_file: Path) -> Numbers | None:
    """Count the rows of a split file; None while there is none."""
    rows = {
        split: Counter(label for _, label, _ in found)
        for split, found in _read_rows(split_file).items()
    }
    if not rows:
        return None
    return {split: [rows[split][label] for label in sorted(rows["train"])] for split in SPLITS}


def list_odd_datasets(datasets: Mapping[str, Dataset]) -> Iterator[str]:
    """Sentences about fractions beside split folders, and class names that read alike."""
    for name, dataset in datasets.items():
        tree = find_tree(dataset) if "fractions" in dataset.model_fields_set else None
        if tree is not None and tree.splits:
            yield f"{name}: `fractions` is not used: {dataset.folder} has train and test folders."
        if groups := find_alike(read_class_names(name, dataset)):
            yield explain_alike(groups, name)


def list_unused_keys(experiment: Experiment, *, optimistic: bool) -> Iterator[str]:
    """Sentences about keys that add nothing; `optimistic`: a method has an optimism table."""
    if experiment.optimism and not optimistic:
        yield "`optimism: true` is not used: no method of the experiment chooses a setting."
    tests = experiment.tests
    if isinstance(tests, str):
        if len(experiment.datasets) == 1:
            yield f"`tests: {tests}` is not used: the experiment has one dataset."
        return
    for name in tests:
        if name in tests[name]:
            yield f"tests: {name}: its heads are tested on {name} in any case."


def list_rows(name: str, dataset: Dataset) -> Iterator[dict[str, Any]]:
    """List image, label, class_name and split of a split file's images, while it is there."""
    split_file = None if dataset.split is None else images_folder(name, dataset) / dataset.split
    for split, rows in _read_rows(split_file).items() if split_file else ():
        for image, label, class_name in rows:
            place = {"image": posixpath.join(dataset.images, image), "split": split}
            yield place | {"label": label, "class_name": class_name}


def read_class_names(name: str, dataset: Dataset) -> list[str]:
    """Read the class names, by label, as far as that needs no job."""
    if (tree := find_tree(dataset)) is not None:
        return [dataset.class_names.get(folder, folder) for folder in tree.classes]
    if dataset.split is None:
        return []
    rows = _read_rows(images_folder(name, dataset) / dataset.split)
    return [*{label: text for split in rows.values() for _, label, text in split}.values()]


def list_unmet_shots(
    experiment: Experiment, images: Mapping[str, Numbers], *, chooses: bool
) -> Iterator[str]:
    """A sentence for each dataset whose classes have fewer images than are requested.

    `chooses`: a method chooses on validation images.
    """
    requested = [shots for shots in experiment.shots if shots != ALL]
    for name, numbers in images.items() if requested else ():
        train, most = numbers["train"], max(requested)
        few = [shots for shots in requested if min(train) < shots]
        if few:
            yield (
                f"{name}: `shots:` requests {list_some(few)} images per class, and its classes "
                f"have {_span(train)} to train on. A class with fewer gives all of them, the same "
                "with every seed."
            )
        val = numbers["val"] if any(numbers["val"]) else [max(0, n - most) for n in train]
        if chooses and min(val) < min(most, 4):
            yield (
                f"{name}: methods choose on {min(most, 4)} validation images per class at "
                f"{name_shots(most)}, and its classes have {_span(val)}."
            )


def _span(numbers: Sequence[float]) -> str:
    low, high = min(numbers), max(numbers)
    if isinstance(low, float):
        return f"{low:.4g} on average"
    return f"{low}" if low == high else f"{low} to {high}"


def list_unmet_settings(
    experiment: Experiment, methods: Mapping[str, Variant], images: Mapping[str, Numbers]
) -> Iterator[str]:
    """A sentence for each setting of the user's that is used in part, or not at all."""
    shots = experiment.shots
    batches = {
        f"{name} at {name_shots(k)}": int(sum(min(k, n) for n in numbers["train"]))
        for name, numbers in images.items()
        for k in shots
    }
    classes = {name: len(numbers["train"]) for name, numbers in images.items()}
    for name, variant in methods.items():
        for key, value in _list_given(variant):
            known = {"batch_size": batches, "train_classes": classes}.get(key, {})
            found = known if isinstance(value, int) else {}
            few = [f"{place} ({n})" for place, n in found.items() if value > n]
            if few:
                yield (
                    f"{name}: `{key}: {value}` is more than there are: {list_some(few)}. All are "
                    "used there."
                )
    if experiment.choose == "none":
        yield from _list_constants(methods, max(shots))
    if "number" in experiment.views.model_fields_set and experiment.views.number:
        yield from _list_unseen_views(experiment, methods)


def _list_given(variant: Variant) -> list[tuple[str, Any]]:
    """List the settings that the user gives a method, or that a variant of it changes."""
    given = variant.changes or variant.settings.model_fields_set
    return [(key, value) for key, value in variant.settings if key in given]


def _list_constants(methods: Mapping[str, Variant], shots: int) -> Iterator[str]:
    for name, variant in methods.items():
        constants = constant_settings(METHODS[variant.method](variant.settings), shots)
        for key, value in _list_given(variant) if constants is not None else ():
            if value != (used := getattr(constants, key)):
                yield (
                    f"{name}: `{key}: {inline(value)}` cannot be chosen from with `choose: none`: "
                    f"the method takes its constant, {inline(used)}."
                )


def _list_unseen_views(experiment: Experiment, methods: Mapping[str, Variant]) -> Iterator[str]:
    number = experiment.views.number
    readers = {name: found for name, found in methods.items() if METHODS[found.method].reads_views}
    if not readers:
        yield f"`views: number: {number}` is not used: no method of the experiment reads them."
    for name, variant in readers.items():
        if isinstance(variant.settings, Recipe):
            epochs = min(variant.settings.epochs_at(shots) for shots in experiment.shots)
            if epochs < 1 + number:
                yield (
                    f"{name}: an image is trained on in one view per epoch, and has "
                    f"{1 + number} views and as few as {count(epochs, 'epoch')}: some are not used."
                )

"""Notices before the first job: requests that the data cannot meet, or only in part."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from vtclip.config.dataset import OWN_LAYOUTS, ClassSplit, Dataset, dataset_name
from vtclip.config.experiment import Experiment
from vtclip.data.descriptions import Sentences
from vtclip.data.folders import SPLITS, UNSPLIT
from vtclip.data.inventory import find_tree, images_folder
from vtclip.data.pick_lists import FORMS, PicksError, count_validation, find_list, read_picks
from vtclip.data.walk import walk
from vtclip.methods import METHODS
from vtclip.methods.base import Recipe
from vtclip.paths import ALL, format_shots, name_shots
from vtclip.plan.variants import Variant, constant_settings
from vtclip.settings import ConfigError, refusal
from vtclip.wording import count, did_you_mean, explain_alike, find_alike, inline, list_some

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


def list_unused_fractions(datasets: Mapping[str, Dataset]) -> Iterator[str]:
    """A sentence for each dataset with fractions beside split folders."""
    for name, dataset in datasets.items():
        tree = find_tree(dataset) if "fractions" in dataset.model_fields_set else None
        if tree is not None and tree.splits:
            yield f"{name}: `fractions` is not used: {dataset.folder} has train and test folders."


def list_alike(datasets: Mapping[str, Dataset]) -> Iterator[str]:
    """A sentence for each dataset with class names that zero-shot cannot keep apart."""
    for name, dataset in datasets.items():
        if groups := find_alike(_read_class_names(name, dataset)):
            yield explain_alike(groups, name)


def check_uneven(experiment: Experiment, datasets: Mapping[str, Dataset], *, source: str) -> None:
    """Refuse numbers of images for classes that a dataset does not have, where its are known."""
    classes = {} if experiment.uneven is None else experiment.uneven.classes
    for name in filter(datasets.__contains__, experiment.datasets):
        known = _read_class_names(name, datasets[name])
        unknown = next((each for each in classes if each not in known), None)
        if known and unknown is not None:
            raise refusal(
                f"{source}: shots: classes", f"{name} has no class '{unknown}'",
                found=f"{unknown}: {classes[unknown]}",
                expected=f"names of its classes.{did_you_mean(unknown, known)}",
            )  # fmt: skip


def _read_class_names(name: str, dataset: Dataset) -> list[str]:
    """Read the class names, by label, as far as that needs no job."""
    if (tree := find_tree(dataset)) is not None:
        return [dataset.class_names.get(folder, folder) for folder in tree.classes]
    if dataset.split is None:
        return []
    rows = _read_rows(images_folder(name, dataset) / dataset.split)
    return [*{label: text for split in rows.values() for _, label, text in split}.values()]


def check_sentences(
    sentences: Mapping[str, Sentences], datasets: Mapping[str, Dataset], longest: int
) -> None:
    """Refuse descriptions that do not fit, as far as their files and the classes are known.

    `longest` is the number of tokens that every text tower reads. A tokenizer, which planning does
    not import, gives a word one token or more: what has more words is certainly too long.
    """
    for name, found in sentences.items():
        if not Path(found.file).is_file():
            continue  # the job that reads it says what is wrong
        texts = found.read(_read_class_names(name, datasets[name]) or None)
        words = max((text for each in texts for text in each), key=lambda text: len(text.split()))
        if len(words.split()) + 2 > longest:
            raise refusal(
                found.file, "a sentence is longer than the text tower reads",
                found=f"{len(words.split())} words: {words}",
                expected=f"at most {longest} tokens, start and end among them: shorten it in a "
                "file of your own",
            )  # fmt: skip


def check_validation(
    experiment: Experiment,
    trained: Sequence[str],  # datasets, or halves of their classes
    datasets: Mapping[str, Dataset],
    methods: Iterable[Variant],
    *,
    source: str,
) -> None:
    """Refuse to choose where none of the images are left to validate on."""
    choosing = [each for each in methods if METHODS[each.method](each.settings).choices()]
    if not choosing or (experiment.choose == "none" and not experiment.optimism):
        return
    on_all = experiment.choose == "all" or experiment.optimism
    key, value, write = ("choose", "all", "validation")
    if experiment.optimism:
        key, value, write = ("optimism", "true", "false")
    reading = [each.method for each in choosing if METHODS[each.method].reads_images]
    if on_all and reading:
        raise refusal(
            f"{source}: {key}",
            f"{reading[0]} reads images, and can choose on the validation shots of a run alone",
            found=f"{key}: {value}, and {reading[0]} chooses",
            expected=f"{reading[0]} with `select: last`, or not to choose on a whole split",
            write=f"{key}: {write}",
        )
    for name in trained:
        dataset = datasets[dataset_name(name)]
        has_split = _has_validation(dataset)
        if on_all and (dataset.folds or not has_split):
            raise refusal(
                f"{source}: {key}", f"{name} has no validation split", found=f"{key}: {value}",
                expected="a dataset with one, or not to choose on a whole split",
                write=f"{key}: {write}",
            )  # fmt: skip
        numbers = None if has_split or experiment.picks else count_images(name, dataset)
        used = [shots for shots in experiment.shots if numbers and _uses_all(numbers, shots)]
        if used:
            given = f"shots: {format_shots(max(used))}"
            raise refusal(
                f"{source}: {given}",
                f"{choosing[0].method} chooses on validation images, and {name} has none beside "
                "those to train on",
                found=given,
                expected=f"a validation split of {name}, fewer shots, or methods that choose "
                "nothing",
                write="choose: none",
            )


def check_picks(
    experiment: Experiment,
    trained: Iterable[str],  # datasets, or halves of their classes
    methods: Iterable[Variant],
    *,
    source: str,
) -> None:
    """Refuse lists of picks that are not there or cannot be used; the manifest is not read."""
    if experiment.picks is None:
        return
    key, given = f"{source}: picks", f"picks: {experiment.picks}"
    runs = list(product(map(dataset_name, trained), experiment.shots, experiment.seeds))
    choosing = [each for each in methods if METHODS[each.method](each.settings).choices()]
    chooses = choosing and (experiment.choose == "validation" or experiment.optimism)
    if Path(experiment.picks).is_file() and len(runs) > 1:
        raise refusal(
            key, f"one list cannot be that of {len(runs)} runs", found=given,
            expected="a folder, or {dataset}, {shots} and {seed} in the path",
        )  # fmt: skip
    for dataset, shots, seed in runs:
        found = find_list(experiment.picks, dataset=dataset, shots=shots, seed=seed)
        if found is None:
            names = f"{dataset}/shot_{format_shots(shots)}-seed_{seed}"
            raise refusal(
                key, f"there is no list of {dataset}, {name_shots(shots)}, seed {seed}",
                found=given, expected=f"in a folder {names} with one of {', '.join(FORMS)}; or "
                "{dataset}, {shots} and {seed} in the path of a file",
            )  # fmt: skip
        try:
            picks = read_picks(found)
        except PicksError as error:
            raise ConfigError(f"{key}: {error}") from None
        if chooses and all(pick.split == "train" for pick in picks):
            raise refusal(
                key, f"{choosing[0].method} chooses on validation images, and the list has none",
                found=str(found), expected="validation images in the list, or methods that choose "
                "nothing", write="choose: none",
            )  # fmt: skip


def _has_validation(dataset: Dataset) -> bool:
    if dataset.folds:
        return True
    if (tree := find_tree(dataset)) is not None:
        return not tree.splits or "val" in tree.splits
    return dataset.counts is None or dataset.counts.val > 0


def _uses_all(numbers: Numbers, shots: int) -> bool:
    """Check that every class certainly gives all of its images; a mean says nothing."""
    exact = all(isinstance(number, int) for number in numbers["train"])
    return shots == ALL or (exact and 0 < max(numbers["train"]) <= shots)


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

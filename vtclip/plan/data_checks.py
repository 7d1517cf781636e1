"""Checks before any job: refuse datasets, test sets and a user's files that cannot be used."""

from collections.abc import Mapping
from itertools import chain, product
from pathlib import Path

from vtclip.config.dataset import (
    MEAN,
    OWN_LAYOUTS,
    ClassSplit,
    Dataset,
    check_known,
    dataset_name,
    read_dataset,
)
from vtclip.config.experiment import Experiment
from vtclip.data import inventory
from vtclip.data.folders import check_folder
from vtclip.data.pick_lists import FORMS, find_list, index_rows, match_rows, read_picks
from vtclip.data.walk import list_folder
from vtclip.methods import METHODS
from vtclip.paths import ALL, DATASETS, format_shots, name_shots
from vtclip.plan.checks import check_length, prefix_errors
from vtclip.plan.contents import Contents, list_tests
from vtclip.settings import refusal
from vtclip.wording import count, did_you_mean


def read_datasets(experiment: Experiment, source: str) -> tuple[dict[str, Dataset], dict[str, str]]:
    """Read and check the datasets of an experiment, also those that heads are only tested on.

    Returns those that are run, and name -> why it is left out of the others.
    """
    keys = dict.fromkeys(experiment.datasets, "datasets")
    for name in chain(*list_tests(experiment).values()):
        keys.setdefault(dataset_name(name), "tests")
    datasets = {}
    for name, key in keys.items():
        check_known([name], source=f"{source}: {key}")
        datasets[name] = read_dataset(name)
        _check_dataset(name, datasets[name])
    _check_tests(experiment, datasets, source)
    _check_mirror(experiment.mirror, datasets, source)
    missing = {}
    for name, dataset in datasets.items():
        reason = inventory.explain_missing(name, dataset, experiment.mirror, source, keys[name])
        if reason:
            missing[name] = reason
    return {name: each for name, each in datasets.items() if name not in missing}, missing


def check_data(plan: Contents, source: str) -> None:
    """Refuse what the images do not allow, as far as that needs no job."""
    _check_picks(plan, source)
    _check_uneven(plan, source)
    _check_sentences(plan)
    _check_validation(plan, source)


def _check_dataset(name: str, dataset: Dataset) -> None:
    file = f"{DATASETS}/{name}.yaml"
    if name == MEAN or set("{}") & set(name) or ClassSplit.parse(name).half:
        raise refusal(
            file, "a dataset cannot be called so", found=name,
            expected=f"a file's name without braces, and not {MEAN}, which tables call the mean "
            "over datasets, or one that ends as those of halves, in @base or @new",
        )  # fmt: skip
    check_length(name, source=file, fix="give the file a shorter name")
    for archive in dataset.archives:
        fix = "give the archive a shorter name"
        check_length(archive.file, source=f"{file}: archives", fix=fix)
    if dataset.folder is None:
        return
    with prefix_errors(f"{file}: folder"):
        list_folder(dataset.folder)
        if dataset.layout == "folders":
            levels, splits = dataset.levels, dataset.split_folders
            check_folder(dataset.folder, dataset.class_names, levels=levels, split_folders=splits)
    if dataset.layout == "table":
        with prefix_errors(f"{file}: table"):
            inventory.find_tree(dataset)
    split = dataset.split if dataset.layout == "coop" else None
    if split is not None and not Path(dataset.folder, split).is_file():
        problem, found = "there is no such file in the folder", f"split: {split}"
        expected = f"a split file in CoOp's form, in {dataset.folder}"
        raise refusal(f"{file}: split", problem, found=found, expected=expected)


def _check_tests(experiment: Experiment, datasets: Mapping[str, Dataset], source: str) -> None:
    """Refuse heads and test sets that do not go together."""
    for name in [] if isinstance(experiment.tests, str) else experiment.tests:
        if name not in experiment.datasets:
            raise refusal(
                f"{source}: tests.{name}", f"no head is trained on {name}", found=f"tests: {name}",
                expected=f"one of the experiment's datasets: {', '.join(experiment.datasets)}",
            )  # fmt: skip
    if experiment.tests and experiment.classes == "base":
        raise refusal(
            f"{source}: tests", "heads of half the classes are tested on the two halves alone",
            found="classes: base, and tests", expected="one of the two keys",
        )  # fmt: skip
    for name in experiment.datasets:
        _check_trained(name, datasets[name], experiment, source)
    for name, dataset in datasets.items():
        _check_family(name, dataset, datasets)


def _check_mirror(mirror: str | None, datasets: Mapping[str, Dataset], source: str) -> None:
    """Refuse a mirror that no archive can be fetched from, where one is still to be fetched."""
    if mirror is None or mirror.startswith(("http://", "https://")):
        return
    missing = any(inventory.list_missing(name, dataset) for name, dataset in datasets.items())
    if missing and not Path(mirror.removeprefix("file://")).is_dir():
        raise refusal(
            f"{source}: mirror", "there is no such folder", found=f"mirror: {mirror}",
            expected="a folder that contains <dataset>/<file>, or an address with http:// or "
            "https://",
        )  # fmt: skip


def _check_trained(name: str, dataset: Dataset, experiment: Experiment, source: str) -> None:
    """Refuse a dataset that heads cannot be trained on as the experiment requests."""
    halves, folds = experiment.classes == "base", f"folds: {dataset.folds}"
    if dataset.folds and halves:
        raise refusal(
            f"{source}: classes: base", f"{name} is divided into folds, and not into halves of "
            "its classes", found=folds, expected="datasets with a test split",
        )  # fmt: skip
    if dataset.folds and experiment.picks is not None:
        raise refusal(
            f"{source}: picks", f"the images of {name} are drawn out of its folds",
            found=f"picks, and {folds}", expected="one of the two keys",
        )  # fmt: skip
    if dataset.counts is not None and not dataset.counts.train:
        trained = dataset.classes_of or "imagenet"
        raise refusal(
            f"{source}: datasets", f"{name} has no image to train on", found=name,
            expected="it as a test set of another dataset",
            write=f"datasets: [{trained}]\ntests: {{{trained}: [{name}]}}",
        )  # fmt: skip
    classes = _count_classes(dataset) if halves else None
    if classes is not None and classes < 4:
        raise refusal(
            f"{source}: classes: base", "each half of a dataset needs two classes",
            found=f"{name}, with {count(classes, 'class', 'classes')}",
            expected="datasets of four classes or more",
        )  # fmt: skip


def _check_family(name: str, dataset: Dataset, datasets: Mapping[str, Dataset]) -> None:
    """Refuse other classes than those of the dataset that the file names, as far as is known."""
    if dataset.classes_of is None:
        return
    source = f"{DATASETS}/{name}.yaml: classes_of"
    check_known([dataset.classes_of], source=source)
    family = datasets.get(dataset.classes_of)
    found, known = _count_classes(dataset), None if family is None else _count_classes(family)
    if found is None or known is None:
        return
    by_label = dataset.layout not in ("imagenet_test", *OWN_LAYOUTS)  # the others go by names
    if found > known or (by_label and found != known):
        problem = f"{name} has other classes than {dataset.classes_of}"
        expected = f"{known}" if by_label else f"{known} at most"
        raise refusal(source, problem, found=count(found, "class", "classes"), expected=expected)


def _count_classes(dataset: Dataset) -> int | None:
    """Number of classes of a dataset; None where only its files show it."""
    if (tree := inventory.find_tree(dataset)) is not None:
        return len(tree.classes)
    return None if dataset.counts is None else dataset.counts.classes


def _check_uneven(plan: Contents, source: str) -> None:
    """Refuse numbers of images for classes that a dataset does not have, where its are known."""
    classes = plan.experiment.uneven.classes if plan.experiment.uneven else {}
    for name in dict.fromkeys(map(dataset_name, plan.trained)):
        known = plan.class_names_of(name) if classes else []
        unknown = next((each for each in classes if each not in known), None)
        if known and unknown is not None:
            raise refusal(
                f"{source}: shots: classes", f"{name} has no class '{unknown}'",
                found=f"{unknown}: {classes[unknown]}",
                expected=f"names of its classes.{did_you_mean(unknown, known)}",
            )  # fmt: skip


def _check_sentences(plan: Contents) -> None:
    """Refuse descriptions that do not fit, as far as their files and the classes are known.

    A tokenizer, which planning does not import, gives a word one token or more: what has more words
    than every text tower reads tokens is certainly too long.
    """
    longest = min(shape.context_length for shape in plan.shapes.values())
    for name, found in plan.sentences.items():
        if not Path(found.file).is_file():
            continue  # the job that reads it says what is wrong
        texts = found.read(plan.class_names_of(name) or None)
        words = max((text.split() for each in texts for text in each), key=len)
        if len(words) + 2 > longest:
            raise refusal(
                found.file, "a sentence is longer than the text tower reads",
                found=f"{len(words)} words: {' '.join(words)}",
                expected=f"at most {longest} tokens, start and end among them: shorten it in a "
                "file of your own",
            )  # fmt: skip


def _list_choosing(plan: Contents) -> list[str]:
    """The methods that choose anything."""
    return [each.method for each in plan.compared.values() if each.make().choices()]


def _check_validation(plan: Contents, source: str) -> None:
    """Refuse to choose where none of the images are left to validate on."""
    experiment, choosing = plan.experiment, _list_choosing(plan)
    optimism, on_all = experiment.optimism, experiment.optimism or experiment.choose == "all"
    if not choosing or (experiment.choose == "none" and not optimism):
        return
    key, value, write = ("choose", "all", "validation")
    if optimism:
        key, value, write = ("optimism", "true", "false")
    reading = [name for name in choosing if METHODS[name].reads_images]
    if on_all and reading:
        raise refusal(
            f"{source}: {key}",
            f"{reading[0]} reads images, and can choose on the validation shots of a run alone",
            found=f"{key}: {value}, and {reading[0]} chooses", write=f"{key}: {write}",
            expected=f"{reading[0]} with `select: last`, or not to choose on a whole split",
        )  # fmt: skip
    for name in plan.trained:
        dataset = plan.datasets[dataset_name(name)]
        has_split = bool(dataset.folds) or plan.counts(name).val > 0
        if on_all and (dataset.folds or not has_split):
            raise refusal(
                f"{source}: {key}", f"{name} has no validation split", found=f"{key}: {value}",
                expected="a dataset with one, or not to choose on a whole split",
                write=f"{key}: {write}",
            )  # fmt: skip
        most = 0 if has_split or experiment.picks else _most_that_use_all(plan, name)
        if most:
            given = f"shots: {format_shots(most)}"
            raise refusal(
                f"{source}: {given}",
                f"{choosing[0]} chooses on validation images, and {name} has none beside those to "
                "train on", found=given, expected=f"a validation split of {name}, fewer shots, or "
                "methods that choose nothing", write="choose: none",
            )  # fmt: skip


def _most_that_use_all(plan: Contents, name: str) -> int:
    """The most shots, if each class certainly gives all its images; else 0: a mean says nothing."""
    numbers, most = plan.images_by_class(name), max(plan.experiment.shots)
    if numbers is None:
        return 0
    exact = all(isinstance(number, int) for number in numbers["train"])
    return most if most == ALL or (exact and 0 < max(numbers["train"]) <= most) else 0


def _check_picks(plan: Contents, source: str) -> None:
    """Refuse lists of picks that are not there or cannot be used, as far as that needs no job."""
    experiment, names = plan.experiment, list(map(dataset_name, plan.trained))
    if experiment.picks is None:
        return
    key, given = f"{source}: picks", f"picks: {experiment.picks}"
    runs = list(product(names, experiment.shots, experiment.seeds))
    chooses = experiment.choose == "validation" or experiment.optimism
    choosing = _list_choosing(plan) if chooses else []
    known = {name: index_rows(inventory.list_rows(name, plan.datasets[name])) for name in names}
    if Path(experiment.picks).is_file() and len(runs) > 1:
        raise refusal(
            key, f"one list cannot be that of {len(runs)} runs", found=given,
            expected="a folder, or {dataset}, {shots} and {seed} in the path",
        )  # fmt: skip
    for dataset, shots, seed in runs:
        found = find_list(experiment.picks, dataset=dataset, shots=shots, seed=seed)
        if found is None:
            name = f"{dataset}/shot_{format_shots(shots)}-seed_{seed}"
            raise refusal(
                key, f"there is no list of {dataset}, {name_shots(shots)}, seed {seed}",
                found=given, expected=f"in a folder {name} with one of {', '.join(FORMS)}; or "
                "{dataset}, {shots} and {seed} in the path of a file",
            )  # fmt: skip
        with prefix_errors(key):
            picks = read_picks(found)
            if known[dataset]:
                match_rows(known[dataset], picks, source=found)
        if choosing and all(pick.split == "train" for pick in picks):
            raise refusal(
                key, f"{choosing[0]} chooses on validation images, and the list has none",
                found=str(found), expected="validation images in the list, or methods that choose "
                "nothing", write="choose: none",
            )  # fmt: skip

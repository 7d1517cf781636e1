"""The test sets of each dataset's heads, and those that they cannot be tested on."""

from collections.abc import Mapping

from vtclip.config.dataset import HALVES, ClassSplit, Dataset, dataset_name, list_datasets
from vtclip.config.experiment import Experiment
from vtclip.data.folders import find_classes, find_splits
from vtclip.methods import METHODS
from vtclip.settings import ConfigError, unknown


def list_tests(experiment: Experiment) -> dict[str, list[str]]:
    """What heads are trained on -> what they are tested on, their own test set first."""
    if experiment.classes == "base":
        halves = {
            name: [str(ClassSplit(name, half)) for half in HALVES] for name in experiment.datasets
        }
        return {tested[0]: tested for tested in halves.values()}
    others = experiment.tests
    if isinstance(others, str):
        others = dict.fromkeys(experiment.datasets, experiment.datasets)
    return {
        name: list(dict.fromkeys([name, *others.get(name, [])])) for name in experiment.datasets
    }


def list_tested(experiment: Experiment) -> list[str]:
    """The datasets that heads are only tested on."""
    tests = list_tests(experiment)
    named = {dataset_name(name): None for tested in tests.values() for name in tested}
    return [name for name in named if name not in experiment.datasets]


def why_not(
    dataset: str,
    tested: str,
    method: str,
    datasets: Mapping[str, Dataset],
    missing: Mapping[str, str],
) -> str:
    """The reason that a method's heads on a dataset cannot be tested on a test set, or nothing.

    Args:
        dataset: that the heads are trained on, or a half of its classes.
        tested: the test set, or a half of its classes.
        method: the method's name.
        datasets: name -> file, of the datasets that are run.
        missing: name -> the reason that a dataset is left out.
    """
    kind = METHODS[method]
    needed = [tested, dataset] if kind.few_shot else [tested]
    for name in map(dataset_name, needed):
        if name in missing:
            return f"{name} is left out"
    if kind.names_new_classes or dataset == tested:
        return ""
    same = dataset_name(dataset) != dataset_name(tested) and (
        family_of(datasets, dataset) == family_of(datasets, tested)
    )
    return "" if same else f"{kind.title} knows only the classes that it was trained on"


def family_of(datasets: Mapping[str, Dataset], name: str) -> str:
    """The dataset whose classes a dataset has."""
    return datasets[name].classes_of or name


def check_tests(experiment: Experiment, datasets: Mapping[str, Dataset], *, source: str) -> None:
    """Refuse heads and test sets that do not go together.

    Args:
        experiment: the configuration.
        datasets: the files of all its datasets, by name.
        source: the configuration's name, for the error.
    """
    if not isinstance(experiment.tests, str):
        for name in experiment.tests:
            _check_trained(name, experiment, source)
    if experiment.tests and experiment.classes == "base":
        raise ConfigError(
            f"{source}: tests: heads of half the classes are tested on the two halves alone.\n"
            f"  found:    classes: base, and tests\n  expected: one of the two keys"
        )
    for name in experiment.datasets:
        counts = datasets[name].counts
        if counts is not None and not counts.train:
            raise ConfigError(
                f"{source}: datasets: {name} has no image to train on.\n  found:    {name}\n"
                f"  expected: it as a test set of another dataset\n  write:\n"
                f"    tests: {{{datasets[name].classes_of or 'imagenet'}: [{name}]}}"
            )
        if experiment.classes == "base" and (count_classes(datasets[name]) or 4) < 4:
            raise ConfigError(
                f"{source}: classes: base: each half of a dataset needs two classes.\n"
                f"  found:    {name}, with {count_classes(datasets[name])} classes\n"
                f"  expected: datasets of four classes or more"
            )
    for name, dataset in datasets.items():
        _check_family(name, dataset, datasets)


def count_classes(dataset: Dataset) -> int | None:
    """How many classes a dataset has; None where only its files tell."""
    if dataset.folder is not None and dataset.layout == "folders":
        return len(find_classes(dataset.folder, find_splits(dataset.folder), ()))
    return None if dataset.counts is None else dataset.counts.classes


def _check_trained(name: str, experiment: Experiment, source: str) -> None:
    if name not in experiment.datasets:
        raise ConfigError(
            f"{source}: tests.{name}: no head is trained on {name}.\n  found:    tests: {name}\n"
            f"  expected: one of the experiment's datasets: {', '.join(experiment.datasets)}"
        )


def _check_family(name: str, dataset: Dataset, datasets: Mapping[str, Dataset]) -> None:
    """Refuse other classes than those of the dataset that the file names, as far as it tells.

    Where a label is all that tells what a class is, the number of classes must be the same.
    """
    if dataset.classes_of is None:
        return
    if dataset.classes_of not in (names := list_datasets()):
        source = f"config/datasets/{name}.yaml: classes_of"
        raise unknown("dataset", dataset.classes_of, names, source=source)
    if (family := datasets.get(dataset.classes_of)) is None:
        return
    found, known = count_classes(dataset), count_classes(family)
    if found is None or known is None:
        return
    by_label = dataset.layout not in ("imagenet_test", "folders")
    if found > known or (by_label and found != known):
        expected = known if by_label else f"{known} at most"
        raise ConfigError(
            f"config/datasets/{name}.yaml: classes_of: {name} has other classes than "
            f"{dataset.classes_of}.\n  found:    {found} classes\n  expected: {expected}"
        )

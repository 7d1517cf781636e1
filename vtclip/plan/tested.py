"""The test sets of each dataset's heads, and those that they cannot be tested on."""

from collections.abc import Mapping

from vtclip.config.dataset import HALVES, ClassSplit, Dataset, check_known, dataset_name
from vtclip.config.experiment import Experiment
from vtclip.data.inventory import find_tree
from vtclip.methods import METHODS
from vtclip.paths import DATASETS
from vtclip.settings import refusal
from vtclip.wording import count


def list_tests(experiment: Experiment) -> dict[str, list[str]]:
    """Training set of heads -> their test sets, its own first."""
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
    dataset: str,  # that the heads are trained on, or a half of its classes
    tested: str,  # the test set, or a half of its classes
    method: str,
    datasets: Mapping[str, Dataset],
    missing: Mapping[str, str],
) -> str:
    """The reason that a method's heads on a dataset cannot be tested on a test set, or nothing."""
    kind = METHODS[method]
    needed = [tested, dataset] if kind.few_shot else [tested]
    for name in map(dataset_name, needed):
        if name in missing:
            return f"{name} is left out"
    if kind.names_new_classes or dataset == tested:
        return ""
    # Halves of one dataset have no class in common.
    if dataset_name(dataset) != dataset_name(tested):
        families = [datasets[name].classes_of or name for name in (dataset, tested)]
        if families[0] == families[1]:
            return ""
    return f"{kind.title} knows only the classes that it was trained on"


def check_tests(experiment: Experiment, datasets: Mapping[str, Dataset], *, source: str) -> None:
    """Refuse heads and test sets that do not go together."""
    for name in [] if isinstance(experiment.tests, str) else experiment.tests:
        if name not in experiment.datasets:
            expected = f"one of the experiment's datasets: {', '.join(experiment.datasets)}"
            problem = f"no head is trained on {name}"
            raise refusal(
                f"{source}: tests.{name}", problem, found=f"tests: {name}", expected=expected
            )
    if experiment.tests and experiment.classes == "base":
        problem = "heads of half the classes are tested on the two halves alone"
        found, expected = "classes: base, and tests", "one of the two keys"
        raise refusal(f"{source}: tests", problem, found=found, expected=expected)
    for name in experiment.datasets:
        counts = datasets[name].counts
        if counts is not None and not counts.train:
            raise refusal(
                f"{source}: datasets",
                f"{name} has no image to train on",
                found=name,
                expected="it as a test set of another dataset",
                write=_describe_test(name, datasets[name].classes_of or "imagenet"),
            )
        classes = count_classes(datasets[name]) if experiment.classes == "base" else None
        if classes is not None and classes < 4:
            problem = "each half of a dataset needs two classes"
            found = f"{name}, with {count(classes, 'class', 'classes')}"
            expected = "datasets of four classes or more"
            raise refusal(f"{source}: classes: base", problem, found=found, expected=expected)
    for name, dataset in datasets.items():
        _check_family(name, dataset, datasets)


def _describe_test(name: str, trained: str) -> str:
    return f"datasets: [{trained}]\ntests: {{{trained}: [{name}]}}"


def count_classes(dataset: Dataset) -> int | None:
    """Number of classes of a dataset; None where only its files show it."""
    if (tree := find_tree(dataset)) is not None:
        return len(tree.classes)
    return None if dataset.counts is None else dataset.counts.classes


def _check_family(name: str, dataset: Dataset, datasets: Mapping[str, Dataset]) -> None:
    """Refuse other classes than those of the dataset that the file names, as far as is known."""
    if dataset.classes_of is None:
        return
    source = f"{DATASETS}/{name}.yaml: classes_of"
    check_known([dataset.classes_of], source=source)
    family = datasets.get(dataset.classes_of)
    found, known = count_classes(dataset), None if family is None else count_classes(family)
    if found is None or known is None:
        return
    by_label = dataset.layout not in ("imagenet_test", "folders")  # the others go by names
    if found > known or (by_label and found != known):
        problem = f"{name} has other classes than {dataset.classes_of}"
        expected = f"{known}" if by_label else f"{known} at most"
        raise refusal(source, problem, found=count(found, "class", "classes"), expected=expected)

"""Which test sets the heads of each dataset are tested on, and what cannot be asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from vtclip.config.dataset import HALVES, Dataset, dataset_name, half_of, list_datasets, split_half
from vtclip.config.experiment import Experiment
from vtclip.data.folders import find_classes, find_splits
from vtclip.methods import METHODS
from vtclip.settings import ConfigError, unknown

if TYPE_CHECKING:
    from vtclip.plan import Plan


class Question(NamedTuple):
    """A cell of the table of test sets, at every number of shots."""

    backbone: str
    """its features folder"""
    dataset: str
    """that the heads are trained on, or the half of it"""
    tested: str
    method: str
    predictions: str | None
    """None where it cannot be asked"""
    reason: str
    """why, if so"""


def list_tests(experiment: Experiment) -> dict[str, list[str]]:
    """What heads are trained on -> what they are tested on, their own test set first."""
    if experiment.classes == "base":
        halves = {name: [half_of(name, half) for half in HALVES] for name in experiment.datasets}
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


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """Heads on other test sets than their own."""

    plan: Plan

    @cached_property
    def tests(self) -> dict[str, list[str]]:
        """What heads are trained on -> what they are tested on, their own test set first."""
        return list_tests(self.plan.experiment)

    @property
    def halves(self) -> list[str]:
        """The halves of classes, where there are any."""
        named = dict.fromkeys(name for tested in self.tests.values() for name in tested)
        there = self.plan.datasets
        return [name for name in named if split_half(name)[1] and dataset_name(name) in there]

    @property
    def titles(self) -> dict[str, str]:
        """Half -> the name that tables and figures show."""
        datasets = self.plan.datasets
        return {
            name: f"{datasets[dataset_name(name)].title}, {split_half(name)[1]} classes"
            for name in self.halves
        }

    @cached_property
    def questions(self) -> list[Question]:
        """The cells of the table, in its order; none where there are no other test sets."""
        if all(len(tested) == 1 for tested in self.tests.values()):
            return []
        rows = product(self.plan.experiment.all_backbones, self.tests, self.plan.settings)
        return [
            self._ask(backbone.folder, dataset, tested, method)
            for backbone, dataset, method in rows
            for tested in self.tests[dataset]
        ]

    @property
    def predictions(self) -> list[str]:
        """The predictions behind the table, each once."""
        found = (question.predictions for question in self.questions)
        return list(dict.fromkeys(path for path in found if path is not None))

    def targets(self) -> list[str]:
        """What is made for the table, beside what is made of heads on their own test sets."""
        if not self.questions:
            return []
        own = set(self.plan.predictions())
        files = self.plan.paths
        return [
            *(path for path in self.predictions if path not in own),
            *files.table("tests", "parquet", "csv", "md"),
            *files.figure("tests"),
        ]

    def _ask(self, backbone: str, dataset: str, tested: str, method: str) -> Question:
        """A method that learns from no image is asked by its head for the very test set."""
        reason = why_not(self.plan, dataset, tested, method)
        if reason:
            return Question(backbone, dataset, tested, method, None, reason)
        trained = dataset if METHODS[method].few_shot else tested
        job = self.plan.predict_test(backbone, trained, method, tested)
        return Question(backbone, dataset, tested, method, job.predictions, "")


def why_not(plan: Plan, dataset: str, tested: str, method: str) -> str:
    """Why a method's heads on a dataset cannot be asked about a test set; "" where they can."""
    kind = METHODS[method]
    needed = [tested, dataset] if kind.few_shot else [tested]
    for name in map(dataset_name, needed):
        if name in plan.missing:
            return f"{name} is left out"
    if kind.names_new_classes or dataset == tested:
        return ""
    same = dataset_name(dataset) != dataset_name(tested) and (
        family_of(plan.datasets, dataset) == family_of(plan.datasets, tested)
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

    Raises:
        ConfigError: test sets of a dataset that the experiment does not train on, test images
            alone to train on, halves of too few classes, or classes that are not those of the
            dataset that a file names.
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

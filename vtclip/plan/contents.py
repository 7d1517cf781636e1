"""The contents of an experiment: datasets, methods, backbones and their files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from typing import Any

from vtclip import paths
from vtclip.config.backbone_config import GLYPHS, BackboneConfig
from vtclip.config.dataset import HALVES, ClassSplit, Counts, Dataset, dataset_name
from vtclip.config.experiment import Experiment
from vtclip.cost import Shape
from vtclip.data.descriptions import Sentences
from vtclip.data.inventory import (
    Numbers,
    archive_receipt,
    count_by_class,
    find_tree,
    images_folder,
    images_receipt,
    read_class_names,
)
from vtclip.data.pick_lists import find_list
from vtclip.data.walk import SPLITS, Tree
from vtclip.methods import METHODS
from vtclip.paths import ExperimentPaths
from vtclip.plan.variants import Variant, list_choosing
from vtclip.settings import Settings

SHARD = 10_000  # test images per job: two GPUs share a large test set, a killed job loses one part


@dataclass(frozen=True, eq=False)  # one object: the jobs of a plan are cached
class Contents:
    """A checked experiment, and what it consists of."""

    experiment: Experiment
    paths: ExperimentPaths
    datasets: Mapping[str, Dataset]  # those that are run
    missing: Mapping[str, str]  # dataset -> why it is left out
    settings: Mapping[str, Settings]  # of each method, in the tables' order
    left_out: Mapping[str, str]  # method -> why it is left out
    variants: Sequence[Variant]  # the ablation's: the method as configured, then its variants
    backbones: Mapping[str, BackboneConfig]  # by features folder; only variants use the last ones
    shapes: Mapping[str, Shape]  # features folder -> the shape of its features
    sentences: Mapping[str, Sentences]  # dataset -> its descriptions, if the texts are made of them

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.paths.name

    @property
    def gpus(self) -> int:
        """GPUs that a job requests that can use one."""
        return 0 if self.experiment.device == "cpu" else 1

    @cached_property
    def tests(self) -> dict[str, list[str]]:
        """Training set of heads -> their test sets, its own first."""
        return list_tests(self.experiment)

    @property
    def trained(self) -> list[str]:
        """The training sets of heads: datasets, or halves of their classes."""
        return [name for name in self.tests if dataset_name(name) in self.datasets]

    @property
    def halves(self) -> list[ClassSplit]:
        """The halves of classes, where there are any."""
        splits = [ClassSplit.parse(name) for tested in self.tests.values() for name in tested]
        return [split for split in splits if split.half and split.dataset in self.datasets]

    @cached_property
    def variants_by_name(self) -> dict[str, Variant]:
        """Name in paths, such as `vt_clip@heads=1` -> method as configured, or a variant."""
        plain = {
            name: Variant(name, {}, given, as_configured=True)
            for name, given in self.settings.items()
        }
        more = [found for found in self.variants if not found.as_configured]
        more += [found for several in self.optimistic.values() for found in several]
        return plain | {found.name: found for found in more}

    @cached_property
    def optimistic(self) -> dict[str, list[Variant]]:
        """Method of the optimism table -> itself under other choices than the experiment's."""
        return list_choosing(self.experiment, self.settings)

    @property
    def compared(self) -> dict[str, Variant]:
        """The methods and variants of all other tables."""
        every = self.variants_by_name.items()
        return {name: found for name, found in every if found.choose is None}

    def choice_of(self, method: str) -> str:
        """Images that a method or variant chooses on: validation (the shots), all or none."""
        return self.variants_by_name[method].choose or self.experiment.choose

    def runs_of(self, method: str, *, in_ablation: bool = False) -> list[tuple[int, int]]:
        """(shots, seed) of each head of a method, or of a variant of one."""
        variant, ablation = self.variants_by_name[method], self.experiment.ablation
        if not METHODS[variant.method].few_shot:
            return [(0, 0)]
        shots, seeds = self.experiment.shots, self.experiment.seeds
        if ablation is not None and (in_ablation or (variant.changes and variant.choose is None)):
            shots, seeds = ablation.shots or shots, ablation.seeds or seeds
        return list(product(shots, seeds))

    def counts(self, dataset: str) -> Counts:
        """The numbers of a dataset's images and classes; of a half's, those of all classes.

        Of a dataset in folds, all images are learned from, and all are predicted.
        """
        return self._counts_of(dataset_name(dataset))

    @cache
    def _counts_of(self, name: str) -> Counts:
        described = self.datasets[name]
        counts = described.counts
        if counts is None:  # of a user's images
            found = self.images_by_class(name)
            assert found is not None
            train, val, test = (int(sum(found[split])) for split in SPLITS)
            classes = len(found["train"])
            counts = Counts.model_construct(train=train, val=val, test=test, classes=classes)
            whole = test
        else:
            whole = counts.train + counts.val + counts.test
        in_folds = {"train": whole, "test": whole} if described.folds else {}
        return counts.model_copy(update=in_folds)

    @cache
    def tree_of(self, dataset: str) -> Tree | None:
        """The classes of a user's images, and their places; None of other datasets."""
        return find_tree(self.datasets[dataset])

    @cache
    def images_by_class(self, dataset: str) -> Numbers | None:
        """Images of each class of a dataset, or of a half, as far as their number is known."""
        name = dataset_name(dataset)
        return count_by_class(dataset, self.datasets[name], self.tree_of(name))

    def class_names_of(self, dataset: str) -> list[str]:
        """The class names of a dataset, by label, as far as that needs no job."""
        return read_class_names(dataset, self.datasets[dataset], self.tree_of(dataset))

    def parts_of(self, dataset: str) -> list[str]:
        """Files of a dataset's test features: one, or shards of 10,000 images at most."""
        shards = -(-self.counts(dataset).test // SHARD)
        numbers = range(1, shards + 1)
        return [f"test-{shard}of{shards}" for shard in numbers] if shards > 1 else ["test"]

    def folds_of(self, dataset: str) -> list[str]:
        """The folds of a dataset, by name; none where it has a test split."""
        folds = self.datasets[dataset_name(dataset)].folds or 0
        return [f"fold{number}" for number in range(1, folds + 1)]

    def fold_features(self, backbone: str, dataset: str) -> list[str]:
        """Features of the folds that heads of a dataset learn from: of all, but one left out."""
        split, folds = ClassSplit.parse(dataset), self.folds_of(dataset)
        place = {"backbone": backbone, "dataset": split.dataset, "folds": len(folds)}
        place["views"] = self.experiment.views.folder
        numbers = (number for number, fold in enumerate(folds, start=1) if fold != split.fold)
        return [paths.FOLD_FEATURES.format(fold=number, **place) for number in numbers]

    def test_features(self, backbone: str, dataset: str) -> list[str]:
        """Features of all images of a dataset that are predicted."""
        name = dataset_name(dataset)
        if self.folds_of(name):
            return self.fold_features(backbone, name)
        place = {"backbone": backbone, "dataset": name}
        return [paths.TEST_FEATURES.format(part=part, **place) for part in self.parts_of(name)]

    def images_of(self, dataset: str) -> str:
        """The folder that the image paths of a dataset, or of a half of one, start from."""
        name = dataset_name(dataset)
        return str(images_folder(name, self.datasets[name]))

    def images_receipt(self, dataset: str) -> str | None:
        """The file that says that all images of a dataset are there; None for a user's folder."""
        name = dataset_name(dataset)
        receipt = images_receipt(name, self.datasets[name])
        return None if receipt is None else str(receipt)

    def sample_of(self, dataset: str, shots: int, seed: int) -> str:
        """The images of a run."""
        split = ClassSplit.parse(dataset)._replace(half="")
        return paths.fill(self.paths.samples, dataset=split, shots=shots, seed=seed)

    def shot_features_of(self, backbone: str, dataset: str, shots: int, seed: int) -> str:
        """The features of a run's images."""
        place = {"backbone": backbone, "dataset": dataset_name(dataset), "seed": seed}
        views = self.experiment.views.folder
        return paths.fill(self.paths.shot_features, shots=shots, views=views, **place)

    def picks_of(self, dataset: str, shots: str, seed: str) -> str:
        """The list of a run's images, of an experiment with `picks`."""
        run = {"shots": paths.parse_shots(shots), "seed": int(seed)}
        return str(find_list(self.experiment.picks or "", dataset=dataset, **run))

    def texts_of(self, backbone: str, dataset: str) -> str:
        """The text features of a dataset, or of the one that a half belongs to."""
        texts = self.experiment.texts_name
        return paths.TEXTS.format(backbone=backbone, dataset=dataset_name(dataset), texts=texts)

    def weights_of(self, backbone: str) -> str:
        """The weights of a backbone, where the workflow keeps them."""
        return paths.WEIGHTS.format(weights=self.backbones[backbone].weights)

    def head_of(self, backbone: str, dataset: str, method: str, shots: int, seed: int) -> str:
        """Path of a head."""
        place = {"backbone": backbone, "dataset": dataset, "method": method}
        return paths.fill(self.paths.head, shots=shots, seed=seed, **place)

    def predictions_of(self, backbone: str, dataset: str, method: str, tested: str) -> str:
        """Predictions of all heads of a method on a dataset, for a test set."""
        place = {"backbone": backbone, "dataset": dataset, "method": method}
        return self.paths.predictions.format(tested=tested, **place)

    @property
    def unpacked(self) -> list[str]:
        """The datasets that come in archives."""
        return [name for name, dataset in self.datasets.items() if dataset.archives]

    @property
    def drawn(self) -> list[str]:
        """The datasets that the workflow draws itself."""
        return [name for name, dataset in self.datasets.items() if dataset.drawn]

    @property
    def archives(self) -> list[str]:
        """The receipts of all archives, and of all files of descriptions that are fetched."""
        files = [
            (name, each.file) for name in self.datasets for each in self.datasets[name].archives
        ]
        fetched = [found.receipt for found in self.sentences.values() if found.receipt]
        return [*(str(archive_receipt(*file)) for file in files), *fetched]

    @property
    def made_weights(self) -> list[str]:
        """Names of weights that the workflow makes itself."""
        made = (each.weights for each in self.backbones.values() if each.pretrained == GLYPHS)
        return list(dict.fromkeys(made))

    @property
    def fetched_weights(self) -> list[str]:
        """Names of weights that are downloaded, or copied from a user's file."""
        names = dict.fromkeys(each.weights for each in self.backbones.values())
        return [name for name in names if name not in self.made_weights]

    def outputs(self) -> list[str]:
        """Files and whole folders that the workflow writes."""
        names = [*self.unpacked, *self.drawn]
        weights = list(dict.fromkeys(map(self.weights_of, self.backbones)))
        return [
            *weights,
            *map(paths.receipt_of, weights),
            *self.archives,
            *(self.images_of(name) for name in names),
            *(paths.IMAGES_RECEIPT.format(dataset=name) for name in names),
            self.paths.folder,
            *(f"results/{name}" for name in paths.SHARED),
        ]

    @property
    def wildcards(self) -> dict[str, str]:
        """Wildcard of the paths -> a pattern of its values here: other targets have no rule."""
        runs = [run for method in self.variants_by_name for run in self.runs_of(method)]
        folds = (ClassSplit(n, fold=fold) for n in self.datasets for fold in self.folds_of(n))
        known: dict[str, Iterable[Any]] = {
            "backbone": self.backbones,
            "dataset": [*self.datasets, *self.halves, *folds],
            "tested": [*self.datasets, *self.halves],
            "method": self.variants_by_name,
            "views": [self.experiment.views.folder],
            "shots": {paths.format_shots(shots) for shots, _ in runs},
            "seed": {seed for _, seed in runs},
        }
        return {wildcard: any_of(values) for wildcard, values in known.items()}


def any_of(names: Iterable[Any]) -> str:
    """A pattern that matches these names or numbers, and nothing else."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


def list_tests(experiment: Experiment) -> dict[str, list[str]]:
    """Training set of heads -> their test sets, its own first."""
    names, others = experiment.datasets, experiment.tests
    if experiment.classes == "base":
        pairs = ([str(ClassSplit(name, half)) for half in HALVES] for name in names)
        return {tested[0]: tested for tested in pairs}
    if isinstance(others, str):
        others = dict.fromkeys(names, names)
    return {name: list(dict.fromkeys([name, *others.get(name, [])])) for name in names}

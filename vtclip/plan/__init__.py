"""The plan: a configuration turned into plain records, before any job has run.

What can be known to be wrong before the first job is refused here, with one error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, product
from pathlib import Path
from typing import Any

from vtclip import paths
from vtclip.backbones.shapes import read_shape
from vtclip.config.backbone_config import BackboneConfig, with_spatial
from vtclip.config.dataset import dataset_name
from vtclip.config.experiment import read_experiment
from vtclip.data.descriptions import find_all
from vtclip.data.inventory import explain_missing
from vtclip.methods import METHODS
from vtclip.paths import Example, ExperimentPaths, Run, distinct
from vtclip.plan import checks, data_checks, notices
from vtclip.plan.contents import Contents, list_tested, why_not
from vtclip.plan.variants import (
    Variant,
    describe_changes,
    describe_choices,
    describe_texts,
    explain_choice,
    list_kinds,
    list_variants,
    methods_left_out,
)
from vtclip.settings import ConfigError

CHECKED, SCORES = 16, 10_000_000  # shots, and scores of them, whose labels the report checks


@dataclass(frozen=True, eq=False)  # one object: functions of a plan are cached
class Plan(Contents):
    """A checked experiment, and an index of everything that is trained and tested."""

    @classmethod
    def read(cls, config: Mapping[str, Any], *, source: str | Sequence[str]) -> Plan:
        """Check a configuration, and plan it.

        Args:
            config: the merged configuration files.
            source: the path of the configuration file, or of each of several.

        Raises:
            ConfigError: with what is wrong, what was expected and the lines to write.
        """
        files = [source] if isinstance(source, str) else list(source)
        source = ", ".join(files)
        checks.check_files(files)
        experiment = read_experiment(config, source=files)
        settings = checks.check_settings(experiment, source=source)
        variants = list_variants(experiment, source=source)
        left_out = methods_left_out(experiment, settings, variants, source=source)
        datasets = data_checks.check_datasets(experiment.datasets, source=f"{source}: datasets")
        datasets |= data_checks.check_datasets(list_tested(experiment), source=f"{source}: tests")
        data_checks.check_tests(experiment, datasets, source=source)
        data_checks.check_mirror(experiment.mirror, datasets, source=source)
        missing = {}
        for name, dataset in datasets.items():
            key = "datasets" if name in experiment.datasets else "tests"
            if reason := explain_missing(name, dataset, experiment.mirror, source, key=key):
                missing[name] = reason
        kept = {name: dataset for name, dataset in datasets.items() if name not in missing}
        backbones = {
            backbone.folder: backbone
            for spatial in [None, *list_kinds(settings, variants)]
            for backbone in (with_spatial(found, spatial) for found in experiment.all_backbones)
        }
        plan = cls(
            experiment,
            ExperimentPaths(experiment.name, experiment.draw),
            kept,
            missing,
            {name: given for name, given in settings.items() if name not in left_out},
            left_out,
            variants,
            backbones,
            {folder: read_shape(backbone) for folder, backbone in backbones.items()},
            find_all(experiment.texts, kept, source=source),
        )
        if not any(run.predictions for run in plan.index()):
            raise ConfigError("\n".join([*missing.values(), "No dataset is left."]))
        data_checks.check_picks(plan, source=source)
        data_checks.check_uneven(plan, source=source)
        checks.check_places(experiment, plan.datasets, plan.outputs(), files)
        data_checks.check_sentences(plan)
        data_checks.check_validation(plan, source=source)
        return plan

    # The index.

    @cache  # noqa: B019  a process has one plan
    def index(self) -> tuple[Run, ...]:
        """A row for each head and test set, in the tables' order; the ablation's come last."""
        backbones = self.experiment.all_backbones
        rows = [
            self._rows(backbone, dataset, tested, self.methods[method])
            for backbone, dataset, method in product(backbones, self.tests, self.settings)
            for tested in self.tests[dataset]
        ]
        rows += [
            self._rows(backbone, dataset, dataset, variant, variant.label)
            for backbone, dataset, variant in product(backbones, self.trained, self.variants)
        ]
        return tuple(chain(*rows))

    def _rows(
        self,
        backbone: BackboneConfig,
        dataset: str,
        tested: str,
        found: Variant,
        label: str = "",
    ) -> Iterable[Run]:
        """The rows of a method's heads of all runs, or of a variant's, which has a label."""
        place, kind = (backbone.folder, dataset, tested), METHODS[found.method]
        if reason := why_not(dataset, tested, found.method, self.datasets, self.missing):
            yield Run(*place, found.name, label, 0, 0, "", "", "", "", reason)
            return
        folder = with_spatial(backbone, found.spatial or kind.spatial_kind).folder
        # A method that learns from no image has a head for each test set.
        trained = dataset if kind.few_shot else tested
        predictions = self.predictions_of(folder, trained, found.name, tested)
        for run in self.runs_of(found.name, in_ablation=bool(label)):
            head = self.head_of(folder, trained, found.name, *run)
            files = head, predictions, paths.record_of(head), self.texts_of(folder, tested)
            yield Run(*place, found.name, label, *run, *files)

    @cached_property
    def own_runs(self) -> list[Run]:
        """Heads on their own test sets: the rows of the results table."""
        runs = [run for run in self.index() if not run.label and not run.reason]
        return [run for run in runs if run.tested == run.dataset]

    @cached_property
    def in_folds(self) -> list[str]:
        """The datasets in folds that heads are trained on."""
        return [name for name in distinct(self.own_runs, "dataset") if self.folds_of(name)]

    @cached_property
    def test_runs(self) -> list[Run]:
        """The rows of the table of test sets; none where heads are tested on their own alone."""
        if all(len(tested) == 1 for tested in self.tests.values()):
            return []
        return [run for run in self.index() if not run.label]

    @cached_property
    def ablation_runs(self) -> list[Run]:
        """The rows of the ablation's table."""
        return [run for run in self.index() if run.label]

    @property
    def heads(self) -> dict[str, Run]:
        """Path of each head on its own test set, and of the ablation -> a row about it."""
        heads: dict[str, Run] = {}
        for run in (*self.own_runs, *self.ablation_runs):
            heads.setdefault(run.head, run)
        return heads

    # What is made.

    def targets(self) -> list[str]:
        """Everything that the experiment makes, for the rule `all`."""
        # Heads and predictions too: without them a deleted one would not be made again.
        runs = [*self.own_runs, *self.test_runs]
        page = [self.paths.report, self.paths.best] if self.own_runs else []
        return [
            *page, *self.heads, *distinct(runs, "predictions"), *self._tables(), *self._figures(),
            self.paths.config,
        ]  # fmt: skip

    def _tables(self) -> list[str]:
        tables = (
            (self.own_runs, "results", ("parquet", "csv", "md", "tex", "txt")),
            (self.own_runs, "differences", ("parquet", "csv", "md")),
            (self.own_runs, "ranks", ("parquet", "csv")),
            (self.own_runs, "metrics", ("parquet", "csv")),
            (self.own_runs, "classes", ("parquet", "csv")),
            (self.own_runs, "estimates", ("parquet", "csv", "md")),
            (self.own_runs, "confusions", ("parquet", "csv")),
            (self.ablation_runs, "ablation", ("parquet", "csv", "md")),
            (self.test_runs, "tests", ("parquet", "csv", "md")),
            (self.optimistic, "optimism", ("parquet", "csv", "md")),
        )
        made = [(name, kinds) for runs, name, kinds in tables if runs]
        copied = distinct(self.examples, "copies")
        made += [(f"copies/{Path(file).stem}", ("parquet", "csv")) for file in copied]
        return [file for name, kinds in made for file in self.paths.table(name, *kinds)]

    def _figures(self) -> list[str]:
        names = ["accuracy", "cost", "ranks"] if self.own_runs else []
        names += [f"attention/{backbone}/{dataset}" for backbone, dataset in self.drawn_attention]
        names += ["ablation"] * bool(self.ablation_runs) + ["tests"] * bool(self.test_runs)
        return [file for name in names for file in self.paths.figure(name)]

    @cached_property
    def drawn_attention(self) -> list[tuple[str, str]]:
        """(backbone, dataset) that get pictures of VT-CLIP's attention: those of all classes."""
        pairs = ((run.backbone, run.dataset) for run in self.own_runs if run.method == "vt_clip")
        return [pair for pair in dict.fromkeys(pairs) if pair[1] in self.datasets]

    # Requests that cannot be met.

    @cached_property
    def images(self) -> dict[str, notices.Numbers]:
        """Training set of heads -> images of each class, where their number is known."""
        kinds = {name: self.datasets[dataset_name(name)] for name in self.trained}
        counted = {name: notices.count_images(name, dataset) for name, dataset in kinds.items()}
        return {name: numbers for name, numbers in counted.items() if numbers is not None}

    @property
    def unmet_settings(self) -> list[str]:
        """Settings that are used in part, or not at all: footnotes of the tables too."""
        return list(notices.list_unmet_settings(self.experiment, self.compared, self.images))

    @property
    def unmet(self) -> list[str]:
        """All requests that cannot be met, to show before the first job."""
        methods = [METHODS[each.method](each.settings) for each in self.compared.values()]
        learn = [method for method in methods if method.few_shot]
        chooses = self.experiment.choose == "validation" and any(each.choices() for each in learn)
        images = self.images if learn else {}
        shots = notices.list_unmet_shots(self.experiment, images, chooses=chooses)
        keys = notices.list_unused_keys(self.experiment, optimistic=bool(self.optimistic))
        datasets = notices.list_odd_datasets(self.datasets)
        return [*shots, *self.unmet_settings, *keys, *datasets]

    # What tables, figures and report show beside the index.

    @property
    def titles(self) -> dict[str, str]:
        """Method, dataset or half -> the name that tables and figures show."""
        titles = {name: METHODS[name].title for name in self.settings}
        titles |= {name: dataset.title for name, dataset in self.datasets.items()}
        for split in self.halves:
            titles[str(split)] = f"{titles[split.dataset]}, {split.half} classes"
        return titles

    @property
    def notes(self) -> list[str]:
        """Footnotes of all tables: what was chosen on what, and which settings were changed."""
        methods = [(METHODS[n].title, METHODS[n](each)) for n, each in self.settings.items()]
        left_out = [METHODS[name].title for name in self.left_out]
        choices = describe_choices(methods, choose=self.experiment.choose, left_out=left_out)
        text = "every image is a test image, of the heads of a fold that have not seen it."
        folds = [f"{each.title}: {text}" for each in self.datasets.values() if each.folds]
        texts = describe_texts(self.experiment, self.sentences)
        return [choices, *folds, *describe_changes(methods), *texts]

    @property
    def ablation_notes(self) -> list[str]:
        """Footnotes of the ablation: what each variant has chosen."""
        methods = [(found.label, METHODS[found.method](found.settings)) for found in self.variants]
        return [describe_choices(methods, choose=self.experiment.choose)]

    @property
    def backbone_names(self) -> list[tuple[str, str, str]]:
        """(features folder, name, weights) of each backbone, to find published numbers by."""
        return [(each.folder, each.name, each.pretrained) for each in self.experiment.all_backbones]

    @property
    def reference(self) -> str:
        """The method that the table of differences compares with all others."""
        return "vt_clip" if "vt_clip" in self.settings else [*self.settings][-1]

    @property
    def examples(self) -> list[Example]:
        """The datasets and backbones whose images the report shows."""
        rows = (self._example(run) for run in self.own_runs if run.method == self.reference)
        return list(dict.fromkeys(rows))

    def _example(self, run: Run) -> Example:
        pair = run.backbone, run.dataset
        is_drawn = pair in self.drawn_attention
        return Example(
            *pair,
            images=self.images_of(run.dataset),
            receipt=self.images_receipt(run.dataset),
            texts=run.texts,
            attention=self.paths.figure("attention/{}/{}".format(*pair))[1] if is_drawn else None,
            others=self.others_of(*pair) if run.shots else None,
            learned=self.learned_of(*pair) if run.shots else (),
            copies=self.copies_of(run.dataset),
        )

    def learned_of(self, backbone: str, dataset: str) -> tuple[str, ...]:
        """Features of images whose labels the report checks: of all folds, or of one seed's shots.

        The shots are as many as take little memory: each image gets a score for each class.
        """
        if self.folds_of(dataset):
            return tuple(self.fold_features(backbone, dataset_name(dataset)))
        classes, seed = self.counts(dataset).classes, self.experiment.seeds[0]
        shots = [n for n in self.experiment.shots if n <= CHECKED and n * classes**2 <= SCORES]
        return (self.shot_features_of(backbone, dataset, max(shots), seed),) if shots else ()

    def others_of(self, backbone: str, dataset: str) -> str | None:
        """Features of the next dataset's shots: images of no class of this one."""
        names = list(dict.fromkeys(map(dataset_name, self.trained)))
        other = names[(names.index(dataset_name(dataset)) + 1) % len(names)]
        if other == dataset_name(dataset):
            return None
        shots, seed = max(self.experiment.shots), self.experiment.seeds[0]
        return self.shot_features_of(backbone, other, shots, seed)

    def copies_of(self, dataset: str) -> str | None:
        """The table of a dataset's test images that are near-duplicates of images drawn."""
        is_drawn = any(METHODS[name].few_shot for name in self.settings)
        if self.folds_of(dataset) or not is_drawn:
            return None
        return self.paths.copies.format(dataset=dataset_name(dataset))

    @property
    def picks(self) -> dict[str, str]:
        """Name of each run's list, as `vtclip picks` writes it -> the file of the run's images."""
        runs = dict.fromkeys((run.dataset, run.shots, run.seed) for run in self.own_runs)
        return {
            paths.fill(self.paths.picks, dataset=dataset_name(dataset), shots=shots, seed=seed):
            self.sample_of(dataset, shots, seed)
            for dataset, shots, seed in runs
            if shots
        }  # fmt: skip

    @property
    def choices(self) -> dict[str, str]:
        """Title of a method -> what it chooses in a run, and on which images."""
        return {
            METHODS[name].title: explain_choice(name, each, self.experiment.choose)
            for name, each in self.settings.items()
        }

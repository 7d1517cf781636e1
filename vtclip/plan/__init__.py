"""The plan: a configuration turned into plain records, before any job has run.

What can be known to be wrong before the first job is refused here, with one error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain, product
from typing import Any

from vtclip import paths
from vtclip.backbones.shapes import read_shape
from vtclip.config.backbone_config import BackboneConfig, with_spatial
from vtclip.config.dataset import ClassSplit, dataset_name
from vtclip.config.experiment import read_experiment
from vtclip.data.descriptions import find_all
from vtclip.methods import METHODS
from vtclip.paths import ExperimentPaths, Run, Sample, distinct
from vtclip.plan import checks, data_checks
from vtclip.plan.contents import Contents
from vtclip.plan.variants import Variant, list_kinds, list_variants, methods_left_out
from vtclip.settings import ConfigError


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
        datasets, missing = data_checks.read_datasets(experiment, source)
        backbones = {
            backbone.folder: backbone
            for spatial in [None, *list_kinds(settings, variants)]
            for backbone in (with_spatial(found, spatial) for found in experiment.all_backbones)
        }
        plan = cls(
            experiment,
            ExperimentPaths(experiment.name, experiment.draw),
            datasets,
            missing,
            {name: given for name, given in settings.items() if name not in left_out},
            left_out,
            variants,
            backbones,
            {folder: read_shape(backbone) for folder, backbone in backbones.items()},
            find_all(experiment.texts, datasets, source=source),
        )
        if not any(run.predictions for run in plan.index()):
            raise ConfigError("\n".join([*missing.values(), "No dataset is left."]))
        checks.check_places(experiment, datasets, plan.outputs(), files)
        data_checks.check_data(plan, source)
        return plan

    # The index.

    @cache
    def index(self) -> tuple[Run, ...]:
        """A row for each head and test set, in the tables' order; the ablation's come last."""
        backbones = self.experiment.all_backbones
        rows = [
            self._rows(backbone, dataset, tested, self.variants_by_name[method])
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
        if reason := self._why_not(dataset, tested, found.method):
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

    def _why_not(self, dataset: str, tested: str, method: str) -> str:
        """The reason that a method's heads on a dataset cannot be tested on a test set, or ""."""
        kind = METHODS[method]
        for name in map(dataset_name, [tested, dataset] if kind.few_shot else [tested]):
            if name in self.missing:
                return f"{name} is left out"
        if kind.names_new_classes or dataset == tested:
            return ""
        # Halves of one dataset have no class in common.
        if dataset_name(dataset) != dataset_name(tested):
            families = [self.datasets[name].classes_of or name for name in (dataset, tested)]
            if families[0] == families[1]:
                return ""
        return f"{kind.title} knows only the classes that it was trained on"

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
        copied = filter(self.copies_of, map(dataset_name, distinct(self.own_runs, "dataset")))
        made += [(f"copies/{name}", ("parquet", "csv")) for name in dict.fromkeys(copied)]
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

    # What rules read beside the index.

    def samples_of(self, runs: Iterable[Run]) -> list[Sample]:
        """The images of one seed for each dataset and number of shots of some heads.

        Of a dataset in folds they are those of each fold's heads, which the tables are of.
        """
        trained = (run for run in runs if run.head and run.shots)
        last = {(run.dataset, run.shots): run.seed for run in trained}
        return [
            Sample(dataset, shots, self.sample_of(str(ClassSplit(dataset, fold=fold)), shots, seed))
            for (dataset, shots), seed in last.items()
            for fold in self.folds_of(dataset) or [""]
        ]

    def histories_of(self, runs: Iterable[Run]) -> list[str]:
        """The histories of heads whose training may end early."""
        heads = dict.fromkeys(run.head for run in runs if run.head)
        found = {head: self.variants_by_name[paths.place_of(head)[2]].settings for head in heads}
        early = (head for head in heads if getattr(found[head], "stop_at_loss", None) is not None)
        return list(map(paths.history_of, early))

    @property
    def backbone_names(self) -> list[tuple[str, str, str]]:
        """(features folder, name, weights) of each backbone, to find published numbers by."""
        return [(each.folder, each.name, each.pretrained) for each in self.experiment.all_backbones]

    @property
    def reference(self) -> str:
        """The method that the table of differences compares with all others."""
        return "vt_clip" if "vt_clip" in self.settings else [*self.settings][-1]

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

"""The plan: what an experiment runs, from what, with what. No job has run when it is made.

What can be known to be wrong before the first job is refused here, with one error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from vtclip import paths
from vtclip.backbones.shapes import read_shape
from vtclip.config.dataset import dataset_name
from vtclip.config.experiment import BackboneConfig
from vtclip.methods import METHODS
from vtclip.paths import ExperimentPaths
from vtclip.plan.ablation import Variant, list_variants
from vtclip.plan.checks import check_datasets, find_missing, read_checked
from vtclip.plan.choosing import check_validation, leave_out, tell_choices
from vtclip.plan.heads import MethodJob, PlotAttention, PredictTest, TrainHead
from vtclip.plan.inputs import check_inputs
from vtclip.plan.jobs import ExtractShots, ExtractTest, ExtractTexts
from vtclip.plan.materials import Materials
from vtclip.plan.report import Report
from vtclip.plan.test_cells import Elsewhere, check_tests, list_tested, list_tests
from vtclip.settings import ConfigError


class Key(NamedTuple):
    """What a row of a table is about, besides the number of shots."""

    backbone: str
    """its features folder"""
    dataset: str
    method: str


@dataclass(frozen=True, eq=False)
class Plan(Materials):
    """A checked experiment, and everything that the rules ask about it.

    The jobs of the rules are methods of the same names: given the wildcards of a path they tell
    what the job reads, what it is told and what it asks for.
    """

    @classmethod
    def read(cls, config: Mapping[str, Any], *, source: str) -> Plan:
        """Check a configuration, and plan it.

        Args:
            config: the merged configuration files.
            source: their names, separated by commas.

        Raises:
            ConfigError: with what is wrong, what was expected and the lines to write.
        """
        experiment, settings = read_checked(config, source=source)
        variants = list_variants(experiment, source=source)
        left_out = leave_out(experiment, settings, variants, source=source)
        described = check_datasets(experiment.datasets, source=f"{source}: datasets")
        described |= check_datasets(list_tested(experiment), source=f"{source}: tests")
        check_tests(experiment, described, source=source)
        missing = find_missing(experiment, described, source=source)
        backbones = {
            backbone.folder: backbone
            for spatial in [None, *dict.fromkeys(variant.spatial for variant in variants)]
            for backbone in (_with(found, spatial) for found in experiment.all_backbones)
        }
        plan = cls(
            experiment,
            ExperimentPaths(experiment.name),
            {name: dataset for name, dataset in described.items() if name not in missing},
            missing,
            {name: given for name, given in settings.items() if name not in left_out},
            left_out,
            variants,
            backbones,
            {folder: read_shape(backbone) for folder, backbone in backbones.items()},
        )
        if not plan.keys and not plan.elsewhere.predictions:
            raise ConfigError("\n".join([*missing.values(), "No dataset is left."]))
        check_inputs(plan, source=source)
        check_validation(plan, source=source)
        return plan

    def targets(self) -> list[str]:
        """Everything that the experiment makes, for the rule `all`."""
        return [self.paths.config, *self._own_targets(), *self.elsewhere.targets()]

    def _own_targets(self) -> list[str]:
        """What is made of heads on their own test sets."""
        if not self.keys:
            return []
        # Heads and predictions too: without them a deleted one would not be made again.
        tables = [
            *self.paths.table("results", "parquet", "csv", "md", "tex", "txt"),
            *self.paths.table("differences", "parquet", "csv", "md"),
            *self.paths.table("metrics", "parquet", "csv"),
            *self.paths.table("classes", "parquet", "csv"),
        ]
        names = ["accuracy", "cost"]
        names += [f"attention/{key.backbone}/{key.dataset}" for key in self.drawn_attention()]
        if self.experiment.ablation is not None:
            tables += self.paths.table("ablation", "parquet", "csv", "md")
            names.append("ablation")
        figures = [figure for name in names for figure in self.paths.figure(name)]
        heads = [training.head for training in self.trainings() + self.ablation_trainings()]
        return [self.paths.report, *heads, *self.predictions(), *tables, *figures]

    # What there is.

    @property
    def keys(self) -> list[Key]:
        """The rows of the tables, in their order."""
        used = [backbone.folder for backbone in self.experiment.all_backbones]
        return [Key(*key) for key in product(used, self.trained, self.settings)]

    @property
    def trained(self) -> list[str]:
        """What heads are trained on: datasets, or the halves of their classes."""
        return [name for name in list_tests(self.experiment) if dataset_name(name) in self.datasets]

    @property
    def titles(self) -> dict[str, str]:
        """Method or dataset -> the name that tables and figures show."""
        methods = {name: METHODS[name].title for name in self.settings}
        titles = methods | {name: dataset.title for name, dataset in self.datasets.items()}
        return titles | self.elsewhere.titles

    @cached_property
    def elsewhere(self) -> Elsewhere:
        """The test sets that heads are not trained on."""
        return Elsewhere(self)

    def variant(self, method: str) -> Variant | None:
        """The variant of this name, such as `vt_clip@heads=1`; None for a method itself."""
        return next(
            (found for found in self.variants if found.name == method != found.method), None
        )

    def runs_of(self, method: str) -> list[tuple[int, int]]:
        """(shots, seed) of every head of a method, or of a variant of one."""
        if self.variant(method) is not None:
            return self._ablation_runs()
        if not METHODS[method].few_shot:
            return [(0, 0)]
        return list(product(self.experiment.shots, self.experiment.seeds))

    def trainings(self) -> list[TrainHead]:
        """Every training, in the tables' order."""
        return [
            self.train_head(*key, shots=shots, seed=seed)
            for key in self.keys
            for shots, seed in self.runs_of(key.method)
        ]

    def predictions(self) -> list[str]:
        """The predictions of every method on every dataset's own test set, in the tables' order."""
        return [self.predict_test(*key, tested=key.dataset).predictions for key in self.keys]

    @property
    def wildcards(self) -> dict[str, str]:
        """Wildcard of the paths -> a pattern of its values here: other targets have no rule."""
        methods = [*self.settings, *(variant.name for variant in self.variants)]
        runs = [run for method in methods for run in self.runs_of(method)]
        known: dict[str, Iterable[Any]] = {
            "backbone": self.backbones,
            "dataset": [*self.datasets, *self.elsewhere.halves],
            "tested": [*self.datasets, *self.elsewhere.halves],
            "method": methods,
            "views": [self.experiment.views.folder],
            "shots": {paths.format_shots(shots) for shots, _ in runs},
            "seed": {seed for _, seed in runs},
        }
        return {wildcard: matching(values) for wildcard, values in known.items()}

    # What tables and figures are told.

    @property
    def records(self) -> list[str]:
        """The record of every training."""
        return [paths.record_of(training.head) for training in self.trainings()]

    @property
    def keys_of_records(self) -> list[Key]:
        """Whose record each of them is."""
        return [Key(run.backbone, run.dataset, run.method) for run in self.trainings()]

    def all_texts(self) -> list[str]:
        """The text features behind each row of the tables, in their order."""
        return [self.texts_of(key.backbone, key.dataset) for key in self.keys]

    @property
    def notes(self) -> list[str]:
        """Footnotes of all tables: what was chosen on what."""
        kinds = [(METHODS[name], given) for name, given in self.settings.items()]
        methods = [(kind.title, kind(given)) for kind, given in kinds]
        left_out = [METHODS[name].title for name in self.left_out]
        return [tell_choices(methods, choose=self.experiment.choose, left_out=left_out)]

    @property
    def published_backbones(self) -> list[tuple[str, str, str]]:
        """(features folder, name, weights) of each backbone, to find published numbers by."""
        found = self.experiment.all_backbones
        return [(backbone.folder, backbone.name, backbone.pretrained) for backbone in found]

    @property
    def reference(self) -> str:
        """The method that the table of differences compares with all others."""
        return "vt_clip" if "vt_clip" in self.settings else [*self.settings][-1]

    @property
    def report(self) -> Report:
        """The job that writes the report."""
        return Report(self)

    def drawn_attention(self) -> list[Key]:
        """The rows that get pictures of attention: VT-CLIP's, trained on all classes."""
        found = [key for key in self.keys if key.method == "vt_clip"]
        return [key for key in found if key.dataset in self.datasets]

    # The ablation.

    @property
    def trials(self) -> list[tuple[str, str, str, int, int, str, str]]:
        """(backbone, dataset, label, shots, seed, predictions, record) of every run compared."""
        return [
            (
                backbone, run.dataset, variant.label, run.shots, run.seed,
                self._predictions_of(run), paths.record_of(run.head),
            )
            for backbone, variant, run in self._trials()
        ]  # fmt: skip

    @property
    def ablation_notes(self) -> list[str]:
        """The same of the ablation: what each variant has chosen."""
        methods = [(found.label, METHODS[found.method](found.settings)) for found in self.variants]
        return [tell_choices(methods, choose=self.experiment.choose)]

    @property
    def ablation_predictions(self) -> list[str]:
        """The predictions that the ablation compares."""
        return list(dict.fromkeys(self._predictions_of(run) for _, _, run in self._trials()))

    @property
    def ablation_records(self) -> list[str]:
        """The records of the runs that the ablation compares."""
        return [paths.record_of(run.head) for run in self.ablation_trainings()]

    def ablation_trainings(self) -> list[TrainHead]:
        """The trainings that the ablation compares."""
        return list(dict.fromkeys(run for _, _, run in self._trials()))

    def _trials(self) -> list[tuple[str, Variant, TrainHead]]:
        return [
            (backbone.folder, variant, self.train_head(folder, dataset, variant.name, shots, seed))
            for backbone in self.experiment.all_backbones
            for dataset in self.trained
            for variant in self.variants
            for folder in [_with(backbone, variant.spatial).folder]
            for shots, seed in self._ablation_runs()
        ]

    def _predictions_of(self, run: TrainHead) -> str:
        return self.predict_test(run.backbone, run.dataset, run.method, run.dataset).predictions

    def _ablation_runs(self) -> list[tuple[int, int]]:
        experiment, ablation = self.experiment, self.experiment.ablation
        assert ablation is not None
        if not METHODS[ablation.method].few_shot:
            return [(0, 0)]
        return list(product(ablation.shots or experiment.shots, ablation.seeds or experiment.seeds))

    # Jobs, by the wildcards in their paths.

    def extract_texts(self, backbone: str, dataset: str) -> ExtractTexts:
        """The job that reads a dataset's class names."""
        return ExtractTexts(self, dataset, backbone)

    def extract_shots(
        self, backbone: str, dataset: str, views: str, shots: str | int, seed: str | int
    ) -> ExtractShots:
        """The job that extracts the features of one run's images."""
        return ExtractShots(self, dataset, backbone, paths.parse_shots(shots), int(seed))

    def extract_test(self, backbone: str, dataset: str, part: str) -> ExtractTest:
        """The job that extracts the features of test images."""
        return ExtractTest(self, dataset, backbone, part)

    @cache  # noqa: B019 -- there is one plan, and Snakemake asks a dozen times for each training
    def train_head(
        self, backbone: str, dataset: str, method: str, shots: str | int, seed: str | int
    ) -> TrainHead:
        """The job that trains one head."""
        return TrainHead(self, dataset, backbone, method, paths.parse_shots(shots), int(seed))

    def head_of(self, job: MethodJob, shots: int, seed: int) -> str:
        """A head of the same method on the same dataset."""
        return self.train_head(job.backbone, job.dataset, job.method, shots, seed).head

    def predict_test(self, backbone: str, dataset: str, method: str, tested: str) -> PredictTest:
        """The job that predicts a test set with all heads of a method on a dataset."""
        return PredictTest(self, dataset, backbone, method, tested)

    def plot_attention(self, backbone: str, dataset: str) -> PlotAttention:
        """The job that draws where texts look."""
        return PlotAttention(self, dataset, backbone)


def _with(backbone: BackboneConfig, spatial: Any) -> BackboneConfig:
    """A backbone, with another kind of spatial features if one is named."""
    return backbone if spatial is None else backbone.model_copy(update={"spatial": spatial})


def matching(names: Iterable[Any]) -> str:
    """A pattern that matches these names, or numbers, and nothing else."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


def shown(path: str | Path) -> str:
    """A path as a person in the working directory would write it."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

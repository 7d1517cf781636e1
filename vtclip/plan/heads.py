"""What the jobs of methods read, are told and ask for: training, predicting, showing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from vtclip import cost, paths
from vtclip.config.dataset import dataset_name, labels_of
from vtclip.cost import Size, Work
from vtclip.methods import METHODS, method_module
from vtclip.methods.base import Method
from vtclip.plan.choosing import settle
from vtclip.plan.jobs import GUESS, BackboneJob, Inputs


@dataclass(frozen=True)
class MethodJob(BackboneJob):
    """A job of one method, or of a variant of one, on one dataset."""

    method: str

    @property
    def base(self) -> str:
        """The method's own name, without a variant's changes."""
        return self.method.partition("@")[0]

    @property
    def kind(self) -> type[Method]:
        """The method's class."""
        return METHODS[self.base]

    @cached_property
    def configured(self) -> Method:
        """The method with the settings that hold for the dataset."""
        variant = self.plan.variant(self.method)
        settings = variant.settings if variant else self.plan.settings[self.base]
        return self.kind(settings.for_dataset(dataset_name(self.dataset)))

    @property
    def chosen(self) -> Method:
        """The method as the job is told it."""
        return self.configured

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, as plain values."""
        return self.chosen.settings.model_dump(mode="json")

    @property
    def modules(self) -> Sequence[str]:
        prompts = ["vtclip.backbones.prompts"] if self.kind.reads_text_tower else []
        return [method_module(self.base), *prompts]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(shots, seed) of every head of the method."""
        return self.plan.runs_of(self.method)

    def size(self, shots: int) -> Size:
        """What a head of so many shots is made for."""
        classes = len(labels_of(self.dataset, self.counts.classes))
        images = min(shots * classes, self.counts.train)
        return Size(self.shape, classes, shots, images, 1 + self.plan.experiment.views.number)


@dataclass(frozen=True)
class TrainHead(MethodJob):
    """Features to one head."""

    script = "train_head"
    shots: int
    seed: int

    @property
    def run(self) -> dict[str, Any]:
        """The wildcards of its paths."""
        return {
            "backbone": self.backbone, "dataset": self.dataset, "method": self.method,
            "shots": paths.format_shots(self.shots), "seed": self.seed,
        }  # fmt: skip

    @cached_property
    def chosen(self) -> Method:
        """The method as configured, or with constants where nothing may be chosen."""
        if self.validates:
            return self.configured
        settings = settle(self.configured, self.shots)
        assert settings is not None, "a method without constants is left out"
        return self.kind(settings)

    @property
    def validates(self) -> bool:
        """Whether it is given the validation shots."""
        return self.plan.experiment.choose == "validation"

    @property
    def head(self) -> str:
        """What it makes."""
        return self.plan.paths.head.format(**self.run)

    @property
    def log(self) -> str:
        """What it says."""
        return self.plan.paths.training_log.format(**self.run)

    @property
    def large_inputs(self) -> Inputs:
        inputs = {"texts": self.texts}
        if self.kind.reads_text_tower:
            inputs["weights"] = self.weights
        if self.kind.few_shot:
            run = self.run | {"dataset": dataset_name(self.dataset)}
            views = self.plan.experiment.views.folder
            inputs["features"] = paths.SHOT_FEATURES.format(views=views, **run)
        return inputs

    @property
    def told(self) -> dict[str, Any]:
        """What the job is told: in one piece, for Snakemake asks for each piece of each job."""
        return {
            "method": self.base,
            "dataset": self.dataset,
            "settings": self.settings,
            "on_gpu": self.on_gpu,
            "validation": self.validates,
            # The backbone that the text tower is of; None for a method that does not read it.
            "tower": self.building if self.kind.reads_text_tower else None,
        }

    @cached_property
    def work(self) -> Work:
        """The method's own account of its work."""
        return self.chosen.work(self.size(self.shots))

    @property
    def on_gpu(self) -> bool:
        """Whether it computes on a GPU where there is one."""
        return self.kind.on_gpu

    @property
    def gpus(self) -> int:
        """How many GPUs it asks for."""
        return self.plan.gpus if self.on_gpu else 0

    @property
    def threads(self) -> int:
        """Cores."""
        return cost.training_threads(self.work, on_gpu=self.gpus > 0)

    def memory(self, threads: int) -> int:
        """MB."""
        return cost.training_memory(self.size(self.shots), self.work, threads)

    def minutes(self, threads: int) -> int:
        """Minutes."""
        return cost.training_minutes(self.work, threads, on_gpu=self.gpus > 0)

    @property
    def group(self) -> str | None:
        """Short trainings of a kind share a submission to a scheduler; a long one has its own."""
        if not cost.is_short(self.work, on_gpu=self.gpus > 0):
            return None
        return "training" if self.on_gpu else "training_on_cores"

    @property
    def turn(self) -> int:
        """Trainings of one submission run one after another."""
        return int(self.group is not None)


@dataclass(frozen=True)
class PredictTest(MethodJob):
    """The heads of a method on a dataset, and a test set, to predictions."""

    script = "predict_test"
    tested: str

    @property
    def predictions(self) -> str:
        """What it makes."""
        return self.plan.paths.predictions.format(
            backbone=self.backbone, dataset=self.dataset, method=self.method, tested=self.tested
        )

    @property
    def heads(self) -> list[str]:
        """The heads, in the order of `runs`."""
        return [self.plan.head_of(self, shots, seed) for shots, seed in self.runs]

    @property
    def large_inputs(self) -> Inputs:
        whole = dataset_name(self.tested)
        folder = {"backbone": self.backbone, "dataset": whole}
        features = [
            paths.TEST_FEATURES.format(part=part, **folder) for part in self.plan.parts_of(whole)
        ]
        texts = self.plan.texts_of(self.backbone, whole)
        manifest = paths.MANIFEST.format(dataset=whole)
        read = {"texts": texts, "features": features, "heads": self.heads, "manifest": manifest}
        if self.is_elsewhere:
            read |= {"known_texts": self.texts, "known_manifest": self.manifest}
        return read | ({"weights": self.weights} if self.reads_tower else {})

    @property
    def is_elsewhere(self) -> bool:
        """Whether the test set, or the half of it, is another than the heads were trained on."""
        return self.tested != self.dataset

    @property
    def reads_tower(self) -> bool:
        """Whether the heads are given the text tower, for the names of other classes."""
        return self.is_elsewhere and self.kind.reads_text_tower

    @property
    def told(self) -> dict[str, Any]:
        """What the job is told beside method, settings and runs."""
        return {
            "tested": self.tested,
            "trained": self.dataset if self.is_elsewhere else None,
            "tower": self.building if self.reads_tower else None,
        }

    def size(self, shots: int) -> Size:
        """The same, for the classes that are tested."""
        own = super().size(shots)
        tested = self.plan.datasets[dataset_name(self.tested)].counts or GUESS
        classes = len(labels_of(self.tested, tested.classes))
        return own._replace(classes=max(own.classes, classes))

    @property
    def work(self) -> Work:
        """The method's account of its work, at the most shots."""
        return self.chosen.work(self.size(max(shots for shots, _ in self.runs)))

    def memory(self, threads: int) -> int:
        """MB."""
        most = max(shots for shots, _ in self.runs)
        tower = cost.backbone_memory(self.shape) if self.reads_tower else 0
        return tower + cost.prediction_memory(self.size(most), self.work, len(self.runs))

    def minutes(self, threads: int) -> int:
        """Minutes."""
        images = (self.plan.datasets[dataset_name(self.tested)].counts or GUESS).test
        return cost.prediction_minutes(
            self.work, images=images, heads=len(self.runs), on_gpu=self.plan.gpus > 0
        )


@dataclass(frozen=True)
class PlotAttention(BackboneJob):
    """A head and test images to pictures of where texts look."""

    script = "plot_attention"

    @property
    def predicting(self) -> PredictTest:
        """The job whose predictions choose the pictures."""
        return PredictTest(self.plan, self.dataset, self.backbone, "vt_clip", self.dataset)

    @property
    def run(self) -> tuple[int, int]:
        """(shots, seed) of the head: the most shots, the first seed."""
        return max(self.plan.experiment.shots), self.plan.experiment.seeds[0]

    @property
    def inputs(self) -> Inputs:
        return {"images": self.plan.images_receipt(self.dataset) or []}

    @property
    def large_inputs(self) -> Inputs:
        predictions = self.predicting.predictions
        return {
            "weights": self.weights, "texts": self.texts, "head": self.head,
            "predictions": predictions,
        }  # fmt: skip

    @property
    def head(self) -> str:
        """The head."""
        return self.plan.head_of(self.predicting, *self.run)

    @property
    def settings(self) -> dict[str, Any]:
        """VT-CLIP's settings."""
        return self.predicting.settings

    def memory(self, threads: int) -> int:
        """MB."""
        return cost.backbone_memory(self.shape)

"""What each job reads, is told and asks for, by the wildcards in its paths.

A small input counts by its content. A large one, which Snakemake would compare by its time, counts
by the checksum in the receipt beside it. What a job asks for is for its first attempt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vtclip import cost, paths
from vtclip.config.dataset import Counts, Dataset, dataset_name
from vtclip.config.experiment import BackboneConfig
from vtclip.cost import Shape
from vtclip.plan.materials import SHARD, architecture_content, architecture_file
from vtclip.runtime.code_hash import code_hash

if TYPE_CHECKING:
    from vtclip.plan import Plan

Inputs = Mapping[str, str | Sequence[str]]

GUESS = Counts(train=10_000, val=2000, test=10_000, classes=100)  # where a file does not tell


@dataclass(frozen=True)
class Job:
    """What all jobs of one dataset share."""

    script: ClassVar[str]
    plan: Plan
    dataset: str

    @property
    def inputs(self) -> Inputs:
        """Small files that are read."""
        return {}

    @property
    def large_inputs(self) -> Inputs:
        """Large files that are read, each with a receipt."""
        return {}

    @property
    def modules(self) -> Sequence[str]:
        """Modules that the script loads by name."""
        return ()

    @property
    def code(self) -> str:
        """The hash of the code that runs."""
        folder = paths.PROJECT / "workflow" / "scripts"
        return code_hash(folder / f"{self.script}.py", *self.modules)

    @property
    def described(self) -> Dataset:
        """The dataset's file."""
        return self.plan.datasets[dataset_name(self.dataset)]

    @property
    def counts(self) -> Counts:
        """How much the dataset holds; a guess where its file does not tell."""
        return self.described.counts or GUESS

    @property
    def images(self) -> str:
        """The folder that the image paths start from."""
        return self.plan.images_of(self.dataset)

    @property
    def manifest(self) -> str:
        """The manifest of the dataset."""
        return paths.MANIFEST.format(dataset=dataset_name(self.dataset))


@dataclass(frozen=True)
class BackboneJob(Job):
    """A job that uses a backbone, or what was made with it."""

    backbone: str
    """its features folder"""

    @property
    def named(self) -> BackboneConfig:
        """The backbone of the configuration."""
        return self.plan.backbones[self.backbone]

    @property
    def shape(self) -> Shape:
        """The shape of what the backbone gives."""
        return self.plan.shapes[self.backbone]

    @property
    def weights(self) -> str:
        """Its weights, where the workflow keeps them."""
        return paths.WEIGHTS.format(weights=self.named.weights)

    @property
    def building(self) -> dict[str, Any]:
        """What `load_backbone` is told, besides the weights and the device."""
        told = self.named.model_dump(include={"name", "spatial", "precision"})
        return told | {"architecture": architecture_file(self.named)}

    @property
    def architecture(self) -> dict[str, Any] | None:
        """The content of an architecture's file of one's own: what is made with it follows it."""
        return architecture_content(self.named)

    @property
    def texts(self) -> str:
        """The text features of the dataset."""
        return self.plan.texts_of(self.backbone, self.dataset)


@dataclass(frozen=True)
class ExtractTexts(BackboneJob):
    """Class names to text features."""

    script = "extract_texts"

    @property
    def large_inputs(self) -> Inputs:
        return {"weights": self.weights, "manifest": self.manifest}

    @property
    def templates(self) -> list[str]:
        """The prompts that class names are put in."""
        return self.described.templates

    def memory(self, threads: int) -> int:
        """MB."""
        return cost.backbone_memory(self.shape)

    def minutes(self, threads: int) -> int:
        """Minutes, on one core."""
        return cost.text_minutes(self.shape, self.counts.classes * len(self.templates))


@dataclass(frozen=True)
class Extract(BackboneJob):
    """Images to features."""

    @property
    def number(self) -> int:
        """About how many views are encoded."""
        raise NotImplementedError

    @property
    def threads(self) -> int:
        """Cores that decode."""
        return cost.threads_to_decode(self.number)

    def memory(self, threads: int) -> int:
        """MB."""
        return cost.extraction_memory(self.shape, threads - 1)

    def minutes(self, threads: int) -> int:
        """Minutes."""
        on_gpu = self.plan.gpus > 0
        return cost.extraction_minutes(self.shape, self.number, threads, on_gpu=on_gpu)


@dataclass(frozen=True)
class ExtractShots(Extract):
    """The sampled images of one run, to features."""

    script = "extract_shots"
    shots: int
    seed: int

    @property
    def inputs(self) -> Inputs:
        run = {"shots": paths.format_shots(self.shots), "seed": self.seed}
        return {"shots": paths.SHOTS.format(dataset=self.dataset, **run)}

    @property
    def large_inputs(self) -> Inputs:
        return {"weights": self.weights}

    @property
    def number(self) -> int:
        views = 1 + self.plan.experiment.views.number
        return views * min(self.counts.train, self.counts.classes * self.shots)


@dataclass(frozen=True)
class ExtractTest(Extract):
    """The test images, or a part of them, to features."""

    script = "extract_test"
    part: str

    @property
    def large_inputs(self) -> Inputs:
        return {"weights": self.weights, "manifest": self.manifest}

    @property
    def number(self) -> int:
        return min(SHARD, self.counts.test)

    @property
    def shard(self) -> tuple[int, int]:
        """(i, n): the i-th of n parts."""
        found = re.fullmatch(r"test-(\d+)of(\d+)", self.part)
        return (int(found[1]), int(found[2])) if found else (1, 1)

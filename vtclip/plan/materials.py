"""What an experiment is made from: its archives, images and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vtclip import cost, paths
from vtclip.backbones.shapes import read_content
from vtclip.config.dataset import ArchiveFile, Dataset, dataset_name
from vtclip.config.experiment import GLYPHS, BackboneConfig, Experiment, is_hub_name
from vtclip.cost import Shape
from vtclip.data.inventory import (
    archive_path,
    archive_receipt,
    images_folder,
    images_receipt,
    list_contents,
)
from vtclip.paths import ExperimentPaths
from vtclip.plan.ablation import Variant
from vtclip.settings import Settings

SHARD = 10_000  # test images a job: two GPUs share a large test set, a killed job loses one part


@dataclass(frozen=True, eq=False)  # it is one object: jobs that hold it are hashed
class Materials:
    """A checked experiment, and what the rules of data and backbones ask about it.

    Attributes:
        experiment: the configuration.
        paths: where its own files go.
        datasets: name -> file, of the datasets that are run.
        missing: name -> why it is left out, of the others.
        settings: method -> settings, in the tables' order.
        left_out: method -> why it is left out, of the others.
        variants: for the ablation: the method as configured, then its variants.
        backbones: features folder -> backbone; those that only variants use come last.
        shapes: features folder -> the shape of its features.
    """

    experiment: Experiment
    paths: ExperimentPaths
    datasets: Mapping[str, Dataset]
    missing: Mapping[str, str]
    settings: Mapping[str, Settings]
    left_out: Mapping[str, str]
    variants: Sequence[Variant]
    backbones: Mapping[str, BackboneConfig]
    shapes: Mapping[str, Shape]

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.paths.name

    @property
    def gpus(self) -> int:
        """How many GPUs a job asks for that can use one."""
        return 0 if self.experiment.device == "cpu" else 1

    # Archives and images.

    @property
    def archives(self) -> list[str]:
        """The receipts of every archive."""
        return [receipt for name in self.datasets for receipt in self.receipts_of(name)]

    @property
    def unpacked(self) -> list[str]:
        """The datasets that come in archives."""
        return [name for name, dataset in self.datasets.items() if dataset.archives]

    @property
    def drawn(self) -> list[str]:
        """The datasets that the workflow draws itself."""
        return [name for name, dataset in self.datasets.items() if dataset.drawn]

    def receipts_of(self, dataset: str) -> list[str]:
        """The receipts of a dataset's archives."""
        archives = self.datasets[dataset].archives
        return [str(archive_receipt(dataset, archive.file)) for archive in archives]

    def archive_path(self, dataset: str, file: str) -> str:
        """Where an archive lies."""
        return str(archive_path(dataset, file))

    def expected(self, dataset: str, file: str) -> dict[str, Any]:
        """An archive's length and checksums."""
        return self._archive(dataset, file).model_dump(include={"bytes", "sha256", "md5"})

    def unpacking(self, dataset: str) -> dict[str, Any]:
        """All of a dataset's file that decides what is unpacked, and where to."""
        described = self.datasets[dataset]
        found = described.model_dump(include={"layout", "images", "split"})
        parts = {"file", "into", "nested"}
        return found | {"archives": [a.model_dump(include=parts) for a in described.archives]}

    def unpacking_minutes(self, dataset: str) -> int:
        """Minutes of an unpacking job."""
        return cost.unpacking_minutes(sum(a.bytes or 0 for a in self.datasets[dataset].archives))

    def images_of(self, dataset: str) -> str:
        """The folder that the image paths of a dataset, or of a half of one, start from."""
        whole = dataset_name(dataset)
        return str(images_folder(whole, self.datasets[whole]))

    def images_receipt(self, dataset: str) -> str | None:
        """What says that all images are there of a dataset, or of the one that a half is of.

        None for a folder of one's own.
        """
        whole = dataset_name(dataset)
        receipt = images_receipt(whole, self.datasets[whole])
        return None if receipt is None else str(receipt)

    def contents(self, dataset: str) -> str | None:
        """A hash of what lies in a folder of one's own; None for other datasets."""
        return list_contents(self.datasets[dataset])

    def layout(self, dataset: str) -> dict[str, Any]:
        """All of a dataset's file that decides its images, labels and splits."""
        keys = {
            "layout", "images", "split", "fractions", "class_names", "leave_out", "counts",
        }  # fmt: skip
        return self.datasets[dataset].model_dump(mode="json", include=keys)

    def parts_of(self, dataset: str) -> list[str]:
        """The files of a dataset's test features: one, or shards of 10,000 images at most."""
        counts = self.datasets[dataset].counts
        shards = max(1, -(-(0 if counts is None else counts.test) // SHARD))
        if shards == 1:
            return ["test"]
        return [f"test-{shard}of{shards}" for shard in range(1, shards + 1)]

    def _archive(self, dataset: str, file: str) -> ArchiveFile:
        return next(found for found in self.datasets[dataset].archives if found.file == file)

    def texts_of(self, backbone: str, dataset: str) -> str:
        """The text features of a dataset, or of the one that a half is of."""
        return paths.TEXTS.format(backbone=backbone, dataset=dataset_name(dataset))

    # Backbones.

    @property
    def weights(self) -> list[str]:
        """The weights of every backbone."""
        words = [*self.fetched_weights, *self.drawn_weights]
        return [paths.WEIGHTS.format(weights=weights) for weights in words]

    @property
    def fetched_weights(self) -> list[str]:
        """The words for weights that are downloaded, or copied from a file of one's own."""
        return self._words(drawn=False)

    @property
    def drawn_weights(self) -> list[str]:
        """The words for weights that the workflow trains itself."""
        return self._words(drawn=True)

    def _words(self, *, drawn: bool) -> list[str]:
        found = self.backbones.values()
        words = (each.weights for each in found if (each.pretrained == GLYPHS) == drawn)
        return list(dict.fromkeys(words))

    def backbone_of(self, weights: str) -> BackboneConfig:
        """A backbone by the words for its weights."""
        return next(found for found in self.backbones.values() if found.weights == weights)

    def fetching_memory(self, weights: str) -> int:
        """MB of the job that fetches a backbone's weights: it reads them to write them anew."""
        return cost.backbone_memory(self.shapes[self.backbone_of(weights).folder])

    def architecture_file(self, weights: str) -> str | None:
        """The file of a backbone's architecture; None for one of open_clip's."""
        return architecture_file(self.backbone_of(weights))

    def architecture(self, weights: str) -> dict[str, Any] | None:
        """The content of that file: what is made with it follows it."""
        return architecture_content(self.backbone_of(weights))


def architecture_file(backbone: BackboneConfig) -> str | None:
    """The file of an architecture of one's own, as jobs find it."""
    return None if backbone.architecture is None else paths.find_own(backbone.architecture)


def architecture_content(backbone: BackboneConfig) -> dict[str, Any] | None:
    """The content of that file, or of a configuration in the hub's form."""
    own = backbone.architecture is not None or is_hub_name(backbone.name)
    return read_content(backbone) if own else None

"""A job of a rule, the jobs from archives to manifests, and the search for near-duplicates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from vtclip import cost, paths
from vtclip.config.dataset import dataset_name
from vtclip.data.descriptions import list_archives
from vtclip.data.inventory import archive_path, archive_receipt, list_contents
from vtclip.methods import METHODS
from vtclip.plan import Plan

SMALL = ("shots", "images")  # inputs without a receipt


@dataclass(frozen=True)
class Job:
    """A rule's job: its inputs, its params and what it requests."""

    inputs: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)  # plain values
    code: str = ""  # hash of the code that runs, where it depends on the wildcards
    threads: int = 1
    gpus: int = 0
    mem_mb: int = 1000
    runtime: int = 10  # minutes
    group: str | None = None  # jobs of a group share a submission to a scheduler

    @property
    def receipts(self) -> list[str]:
        """The receipts of the inputs that are large files."""
        return paths.receipts_of({k: files for k, files in self.inputs.items() if k not in SMALL})

    @property
    def turn(self) -> int:
        """1 for jobs that run one after another in their submission."""
        return int(self.group is not None)


@cache
def fetch_archive(plan: Plan, *, dataset: str, file: str) -> Job:
    """An archive, downloaded and verified."""
    archives = list_archives(plan.experiment.texts, dataset, plan.datasets[dataset])
    archive = next(each for each in archives if each.file == file)
    expected = archive.model_dump(include={"bytes", "sha256", "md5"})
    expected |= archive.model_dump(include={"git_blob"}, exclude_none=True)
    return Job(params={"destination": str(archive_path(dataset, file)), "expected": expected})


@cache
def unpack_archives(plan: Plan, *, dataset: str) -> Job:
    """A dataset's archives, unpacked; its params are all that decides what is unpacked where."""
    described = plan.datasets[dataset]
    parts = {"file", "into", "nested"}
    unpacked = described.model_dump(include={"layout", "images", "split"})
    unpacked["archives"] = [each.model_dump(include=parts) for each in described.archives]
    receipts = [str(archive_receipt(dataset, each.file)) for each in described.archives]
    size = sum(each.bytes or 0 for each in described.archives)
    return Job(
        inputs={"receipts": receipts},
        params={"dataset": unpacked},
        mem_mb=2000,
        runtime=cost.unpacking_minutes(size),
    )


@cache
def prepare_manifest(plan: Plan, *, dataset: str) -> Job:
    """A dataset's manifest; its params are all that decides images, labels and splits."""
    described = plan.datasets[dataset]
    keys = {"layout", "images", "split", "fractions", "class_names", "leave_out", "counts",
            "folds", "exif"}  # fmt: skip
    keys |= {"levels", "split_folders", "table", "columns"} & described.model_fields_set
    return Job(
        params={
            "images": plan.images_of(dataset),
            "contents": list_contents(described),  # a hash, of a user's folder
            "dataset": described.model_dump(mode="json", include=keys),
        }
    )


@cache
def find_test_copies(plan: Plan, *, dataset: str) -> Job:
    """The test images that are near-duplicates of images drawn for the runs.

    Features are compared too, where a method learns from features: with its backbone.
    """
    runs = [run for run in plan.own_runs if run.shots and dataset_name(run.dataset) == dataset]
    drawn = list(dict.fromkeys((run.shots, run.seed) for run in runs))
    inputs: dict[str, str | list[str]] = {
        "manifest": paths.MANIFEST.format(dataset=dataset),
        "shots": [plan.sample_of(dataset, *run) for run in drawn],
    }
    if receipt := plan.images_receipt(dataset):
        inputs["images"] = receipt
    reading = (run.head for run in runs if not METHODS[run.method].reads_images)
    dim = 0
    if head := next(reading, None):
        backbone = paths.place_of(head)[0]
        dim = plan.shapes[backbone].dim
        inputs["learned"] = [plan.shot_features_of(backbone, dataset, *run) for run in drawn]
        inputs["test"] = plan.test_features(backbone, dataset)
    images = plan.counts(dataset).test + sum(
        min(plan.counts(dataset).train, shots * plan.counts(dataset).classes) for shots, _ in drawn
    )
    return Job(
        inputs=inputs,
        params={"images": plan.images_of(dataset), "exif": plan.datasets[dataset].exif},
        mem_mb=1000 + images // 30,  # each is compared with a thousand at a time
        runtime=cost.copies_minutes(images, dim),
    )

"""The jobs from archives to features: a function for each rule, of the wildcards in its paths.

Memory and minutes are those of a job's first attempt.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any

from vtclip import cost, paths
from vtclip.backbones.known import custom_content
from vtclip.config.backbone_config import BackboneConfig, list_parts
from vtclip.config.dataset import dataset_name
from vtclip.data.descriptions import list_archives
from vtclip.data.inventory import archive_path, archive_receipt, list_contents
from vtclip.methods import METHODS
from vtclip.plan import Plan
from vtclip.plan.contents import SHARD

SMALL = ("shots", "images", "descriptions")  # inputs without a receipt


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
        return paths.receipts_of(*(files for k, files in self.inputs.items() if k not in SMALL))

    @property
    def turn(self) -> int:
        """1 for jobs that run one after another in their submission."""
        return int(self.group is not None)


@cache
def fetch_archive(plan: Plan, *, dataset: str, file: str) -> Job:
    """An archive, downloaded and verified."""
    archives = list_archives(plan.experiment.texts, dataset, plan.datasets[dataset])
    archive = next(each for each in archives if each.file == file)
    place = str(archive_path(dataset, file))
    return Job(params={"destination": place, "expected": archive.expected})


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
def sample_shots(plan: Plan, *, dataset: str, shots: str, seed: str) -> Job:
    """The images that a run learns from, out of a dataset or of all its folds but one."""
    return Job(inputs={"manifest": paths.MANIFEST.format(dataset=dataset_name(dataset))})


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


# Backbones and features.


@cache
def fetch_backbone(plan: Plan, *, weights: str) -> Job:
    """A backbone's weights, downloaded or copied; the job reads them to write them again."""
    folder, backbone = next(
        (folder, each) for folder, each in plan.backbones.items() if each.weights == weights
    )
    file = backbone.weights_file
    parts = [] if file is None else list(map(str, list_parts(file)))
    return Job(
        inputs={"weights_file": [file, *parts] if parts else file} if file else {},
        params={
            "name": backbone.name,
            "pretrained": backbone.pretrained,
            "weights_key": backbone.weights_key,
            "file": backbone.architecture_file,
            "architecture": custom_content(backbone),
        },
        mem_mb=cost.backbone_memory(plan.shapes[folder]),
        runtime=120,
    )


@cache
def extract_texts(plan: Plan, *, backbone: str, dataset: str) -> Job:
    """Text features of a dataset's class names."""
    shape, templates = plan.shapes[backbone], plan.datasets[dataset].templates
    described, classes = plan.sentences.get(dataset), plan.counts(dataset).classes
    files = {"descriptions": described.receipt or described.file} if described else {}
    sentences = classes * cost.SENTENCES if described else 0
    params = _backbone_params(plan, backbone, dataset) | {"templates": templates}
    return Job(
        inputs={
            "weights": plan.weights_of(backbone),
            "manifest": paths.MANIFEST.format(dataset=dataset),
            **files,
        },
        params=params | {"sentences": asdict(described) if described else None},
        mem_mb=cost.text_memory(shape, sentences),
        runtime=cost.text_minutes(shape, classes * len(templates) + sentences),
    )


@cache
def extract_shots(
    plan: Plan, *, backbone: str, dataset: str, views: str, shots: str, seed: str
) -> Job:
    """Features of one run's images."""
    number = count_shot_views(plan, dataset, paths.parse_shots(shots))
    return _extract(plan, backbone, dataset, number)


@cache
def extract_fold(
    plan: Plan, *, backbone: str, dataset: str, views: str, fold: str, folds: str
) -> Job:
    """Features of the images of one fold, which are encoded once for all heads."""
    number = count_shot_views(plan, dataset, paths.ALL) // int(folds)
    return _extract(plan, backbone, dataset, number, whole=True)


@cache
def extract_validation(plan: Plan, *, backbone: str, dataset: str) -> Job:
    """Features of the whole validation split, to choose on."""
    return _extract(plan, backbone, dataset, plan.counts(dataset).val, whole=True)


@cache
def extract_test(plan: Plan, *, backbone: str, dataset: str, part: str) -> Job:
    """Features of test images, or of one part of them."""
    found = re.fullmatch(r"test-(\d+)of(\d+)", part)
    shard = (int(found[1]), int(found[2])) if found else (1, 1)
    job = _extract(plan, backbone, dataset, min(SHARD, plan.counts(dataset).test), whole=True)
    return replace(job, params={**job.params, "shard": shard})


def _extract(plan: Plan, backbone: str, dataset: str, number: int, *, whole: bool = False) -> Job:
    """A job that encodes so many views: of a run's images, or of images that a manifest names."""
    shape, threads = plan.shapes[backbone], cost.threads_to_decode(number)
    manifest = {"manifest": paths.MANIFEST.format(dataset=dataset)} if whole else {}
    return Job(
        inputs={"weights": plan.weights_of(backbone), **manifest},
        params=_backbone_params(plan, backbone, dataset) | {"images": plan.images_of(dataset)},
        threads=threads,
        gpus=plan.gpus,
        mem_mb=cost.extraction_memory(shape, threads - 1),
        runtime=cost.extraction_minutes(shape, number, threads, on_gpu=plan.gpus > 0),
    )


def count_shot_views(plan: Plan, dataset: str, shots: int) -> int:
    """About how many views of a run's images are encoded."""
    counts = plan.counts(dataset)
    return (1 + plan.experiment.views.number) * min(counts.train, counts.classes * shots)


def loading_of(backbone: BackboneConfig) -> dict[str, Any]:
    """Arguments of `load_backbone`, besides the weights and the device."""
    given = backbone.model_dump(include={"name", "spatial", "precision"})
    return given | {"architecture": backbone.architecture_file}


def _backbone_params(plan: Plan, backbone: str, dataset: str) -> dict[str, Any]:
    found, exif = plan.backbones[backbone], plan.datasets[dataset].exif
    return {"backbone": loading_of(found), "architecture": custom_content(found), "exif": exif}

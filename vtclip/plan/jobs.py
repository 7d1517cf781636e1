"""The jobs of the rules: a function for each rule, of the wildcards in its paths.

Memory and minutes are those of a job's first attempt.
"""

import re
from dataclasses import asdict, replace
from functools import cache
from typing import Any

from vtclip import cost, paths
from vtclip.backbones.known import custom_content
from vtclip.config.backbone_config import BackboneConfig, list_parts
from vtclip.config.dataset import ClassSplit, dataset_name
from vtclip.cost import Size, Work
from vtclip.methods import METHODS, method_module
from vtclip.methods.base import Method
from vtclip.paths import Run
from vtclip.plan import Plan
from vtclip.plan.contents import SHARD
from vtclip.plan.data_jobs import Job as Job
from vtclip.plan.data_jobs import fetch_archive as fetch_archive
from vtclip.plan.data_jobs import find_test_copies as find_test_copies
from vtclip.plan.data_jobs import prepare_manifest as prepare_manifest
from vtclip.plan.data_jobs import unpack_archives as unpack_archives
from vtclip.plan.variants import constant_settings
from vtclip.runtime.code_hash import code_hash

# Modules that methods with a text tower, with both towers, or with the image tower's last linear
# map load by name.
TEXT_TOWER, TOWERS = "vtclip.backbones.prompts", "vtclip.nn.towers"
PROJECTION = "vtclip.backbones.checkpoints"


@cache
def sample_shots(plan: Plan, *, dataset: str, shots: str, seed: str) -> Job:
    """The images that a run learns from, out of a dataset or of all its folds but one."""
    return Job(inputs={"manifest": paths.MANIFEST.format(dataset=dataset_name(dataset))})


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
    )


@cache
def extract_texts(plan: Plan, *, backbone: str, dataset: str) -> Job:
    """Text features of a dataset's class names."""
    shape, templates = plan.shapes[backbone], plan.datasets[dataset].templates
    described, classes = plan.sentences.get(dataset), plan.counts(dataset).classes
    sentences = classes * cost.SENTENCES if described else 0
    params = _backbone_params(plan, backbone, dataset) | {"templates": templates}
    return Job(
        inputs={
            "weights": plan.weights_of(backbone),
            "manifest": paths.MANIFEST.format(dataset=dataset),
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


# Heads and predictions.


@cache
def train_head(
    plan: Plan, *, backbone: str, dataset: str, method: str, shots: str, seed: str
) -> Job:
    """One head."""
    name, number = plan.methods[method].method, paths.parse_shots(shots)
    kind, chosen = METHODS[name], chosen_of(plan, method, dataset, number)
    size = size_of(plan, backbone, dataset, number)
    work = chosen.work(size)
    # The head to use of a dataset in folds is fitted twice: it predicts none of their images.
    is_whole = bool(plan.folds_of(dataset)) and not ClassSplit.parse(dataset).fold
    fits_twice = is_whole and kind.few_shot and number == paths.ALL
    if fits_twice:
        work = work._replace(flops=2 * work.flops, longest=2 * work.longest)
    gpus = plan.gpus if kind.on_gpu else 0
    threads = cost.training_threads(work, on_gpu=gpus > 0)
    inputs = _training_inputs(plan, backbone, dataset, chosen, number, int(seed))
    on_all = "features" in inputs and plan.choice_of(method) == "all" and bool(chosen.choices())
    if on_all:
        place = {"backbone": backbone, "dataset": dataset_name(dataset)}
        inputs["validation"] = paths.VAL_FEATURES.format(**place)
    val = plan.counts(dataset).val if on_all else 0
    group = "training" if kind.on_gpu else "training_on_cores"
    return Job(
        inputs=inputs,
        params={
            "method": name,
            "settings": chosen.settings.model_dump(mode="json"),
            "validation": plan.choice_of(method) != "none",
            "on_all": fits_twice,
            "on_gpu": kind.on_gpu,
            "images": _images(plan, dataset, kind),
            "tower": _tower(plan, backbone, kind) if kind.reads_text_tower else None,
            "projection": kind.reads_projection,
        },
        code=method_code("train_head", name),
        threads=threads,
        gpus=gpus,
        mem_mb=cost.training_memory(size, work, threads)
        + cost.features_memory(size.shape, work, val),
        runtime=cost.training_minutes(work, threads, on_gpu=gpus > 0),
        group=group if cost.is_short(work, on_gpu=gpus > 0) else None,
    )


def _training_inputs(
    plan: Plan, backbone: str, dataset: str, method: Method, shots: int, seed: int
) -> dict[str, str | list[str]]:
    inputs: dict[str, str | list[str]] = {"texts": plan.texts_of(backbone, dataset)}
    if method.reads_text_tower or method.reads_projection:
        inputs["weights"] = plan.weights_of(backbone)
    in_folds = method.few_shot and bool(plan.folds_of(dataset))
    if in_folds and not method.reads_images:
        inputs["features"] = plan.fold_features(backbone, dataset)
    elif method.few_shot and not method.reads_images:
        inputs["features"] = plan.shot_features_of(backbone, dataset, shots, seed)
    if in_folds or method.reads_images:
        inputs["shots"] = plan.sample_of(dataset, shots, seed)
    return inputs


@cache
def predict_test(plan: Plan, *, backbone: str, dataset: str, method: str, tested: str) -> Job:
    """The predictions of all heads of a method on a dataset, for one test set."""
    name, other = plan.methods[method].method, tested != dataset
    kind, runs = METHODS[name], plan.runs_of(method)
    configured = _configured(plan, method, dataset)
    folds = plan.folds_of(dataset) if kind.few_shot and not other else []
    heads = [(*run, fold) for run in runs for fold in folds] or runs
    reads_tower = kind.predicts_with_tower or (other and kind.reads_text_tower)
    size = size_of(plan, backbone, dataset, max(shots for shots, _ in runs), tested)
    work, images = configured.work(size), plan.counts(tested).test
    tower_mb = cost.backbone_memory(plan.shapes[backbone]) if reads_tower else 0
    threads = cost.threads_to_decode(images) if kind.reads_images else 1
    head_files = [
        plan.head_of(backbone, str(ClassSplit(dataset, "", *fold)), method, shots, seed)
        for shots, seed, *fold in heads
    ]
    inputs = _prediction_inputs(plan, backbone, dataset, kind, tested) | {"heads": head_files}
    return Job(
        inputs=inputs | ({"weights": plan.weights_of(backbone)} if reads_tower else {}),
        params={
            "method": name,
            "settings": configured.settings.model_dump(mode="json"),
            "runs": heads,  # (shots, seed), and the fold that the head has not seen
            "trained": dataset if other else None,
            "images": _images(plan, tested, kind),
            "tower": _tower(plan, backbone, kind) if reads_tower else None,
        },
        code=method_code("predict_test", name),
        threads=threads,
        gpus=plan.gpus,
        mem_mb=tower_mb + cost.prediction_memory(size, work, len(heads), threads - 1),
        runtime=cost.prediction_minutes(work, images=images, heads=len(runs), on_gpu=plan.gpus > 0),
    )


def _prediction_inputs(
    plan: Plan, backbone: str, dataset: str, kind: type[Method], tested: str
) -> dict[str, str | list[str]]:
    inputs: dict[str, str | list[str]] = {
        "texts": plan.texts_of(backbone, tested),
        "manifest": paths.MANIFEST.format(dataset=dataset_name(tested)),
    }
    if not kind.reads_images:
        inputs["features"] = plan.test_features(backbone, dataset_name(tested))
    elif receipt := plan.images_receipt(tested):
        inputs["images"] = receipt
    if tested != dataset:
        inputs["trained_texts"] = plan.texts_of(backbone, dataset)
        inputs["trained_manifest"] = paths.MANIFEST.format(dataset=dataset_name(dataset))
    return inputs


@cache
def plot_attention(plan: Plan, *, backbone: str, dataset: str) -> Job:
    """Pictures of what texts attend to: VT-CLIP's head of the most shots, the first seed."""
    run = max(plan.experiment.shots), plan.experiment.seeds[0]
    return Job(
        inputs={
            "weights": plan.weights_of(backbone),
            "texts": plan.texts_of(backbone, dataset),
            "head": plan.head_of(backbone, dataset, "vt_clip", *run),
            "predictions": plan.predictions_of(backbone, dataset, "vt_clip", dataset),
        },
        params={
            "backbone": _loading(plan.backbones[backbone]),
            "images": plan.images_of(dataset),
            "settings": _configured(plan, "vt_clip", dataset).settings.model_dump(mode="json"),
            "run": run,
        },
        mem_mb=cost.backbone_memory(plan.shapes[backbone]),
    )


def head_work(plan: Plan, run: Run) -> Work:
    """The work of fitting a head and of predicting with it."""
    backbone, dataset, method = paths.place_of(run.head)
    size = size_of(plan, backbone, dataset, run.shots)
    return chosen_of(plan, method, dataset, run.shots).work(size)


# What several of them share.


def _loading(backbone: BackboneConfig) -> dict[str, Any]:
    """Arguments of `load_backbone`, besides the weights and the device."""
    given = backbone.model_dump(include={"name", "spatial", "precision"})
    return given | {"architecture": backbone.architecture_file}


def _tower(plan: Plan, backbone: str, kind: type[Method]) -> dict[str, Any]:
    """The module that loads a method's towers, and its arguments."""
    module = TOWERS if kind.reads_images else TEXT_TOWER
    return {"module": module, "backbone": _loading(plan.backbones[backbone])}


def _images(plan: Plan, dataset: str, kind: type[Method]) -> str | None:
    """The folder that the image paths start from, for a method that reads images."""
    return plan.images_of(dataset) if kind.reads_images else None


def _backbone_params(plan: Plan, backbone: str, dataset: str) -> dict[str, Any]:
    found, exif = plan.backbones[backbone], plan.datasets[dataset].exif
    return {"backbone": _loading(found), "architecture": custom_content(found), "exif": exif}


@cache
def _configured(plan: Plan, method: str, dataset: str) -> Method:
    """A method, or a variant of one, with its settings for a dataset."""
    variant = plan.methods[method]
    return METHODS[variant.method](variant.settings.for_dataset(dataset_name(dataset)))


@cache
def chosen_of(plan: Plan, method: str, dataset: str, shots: int) -> Method:
    """A configured method, with constants where nothing may be chosen."""
    configured = _configured(plan, method, dataset)
    if plan.choice_of(method) != "none":
        return configured
    settings = constant_settings(configured, shots)
    assert settings is not None, "a method without constants is left out"
    return type(configured)(settings)


def size_of(plan: Plan, backbone: str, dataset: str, shots: int, tested: str | None = None) -> Size:
    """The size of a head's task; of training and test set, the larger number of classes."""
    counts = plan.counts(dataset)
    classes = len(ClassSplit.parse(dataset).labels(counts.classes))
    images = min(shots * classes, counts.train)
    if tested is not None:
        classes = max(classes, len(ClassSplit.parse(tested).labels(plan.counts(tested).classes)))
    shots = min(shots, -(-counts.train // counts.classes))  # `all`: as many as a class has
    return Size(plan.shapes[backbone], classes, shots, images, 1 + plan.experiment.views.number)


@cache
def method_code(script: str, method: str) -> str:
    """The hash of a script and of all that it calls for a method."""
    kind = METHODS[method]
    tower = [TOWERS] if kind.reads_images else [TEXT_TOWER] if kind.reads_text_tower else []
    tower += [PROJECTION] if kind.reads_projection else []
    path = paths.PROJECT / "workflow" / "scripts" / f"{script}.py"
    return code_hash(path, method_module(method), *tower)

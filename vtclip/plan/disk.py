"""What an experiment will still write: bytes, estimated from what is not on disk yet."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path

from vtclip import paths
from vtclip.cost import SINGLE, features_bytes
from vtclip.data.inventory import archive_path
from vtclip.plan import Plan
from vtclip.plan.jobs import count_shot_views, head_work

UNPACKED = 1.1  # bytes of images a byte of archives: they are compressed already


def estimate_bytes(plan: Plan) -> dict[str, int]:
    """Kind of files -> bytes that are still to be written; kinds without any are left out."""
    found = {
        "archives": sum(_archives(plan)),
        "images": sum(_images(plan)),
        "weights": sum(_weights(plan)),
        "features": sum(_features(plan)),
        "heads": sum(_heads(plan)),
    }
    return {kind: round(size) for kind, size in found.items() if size}


def _archives(plan: Plan) -> Iterator[int]:
    for name in plan.unpacked:
        if not Path(paths.IMAGES_RECEIPT.format(dataset=name)).is_file():
            for archive in plan.datasets[name].archives:
                if not Path(archive_path(name, archive.file)).is_file():
                    yield archive.bytes or 0


def _images(plan: Plan) -> Iterator[float]:
    for name in plan.unpacked:
        if not Path(paths.IMAGES_RECEIPT.format(dataset=name)).is_file():
            yield UNPACKED * sum(archive.bytes or 0 for archive in plan.datasets[name].archives)


def _weights(plan: Plan) -> Iterator[int]:
    sizes = {plan.backbones[folder].weights: shape for folder, shape in plan.shapes.items()}
    for weights, shape in sizes.items():
        if not Path(paths.WEIGHTS.format(weights=weights)).is_file():
            yield (shape.image_weights + shape.text_weights) * SINGLE


def _features(plan: Plan) -> Iterator[int]:
    experiment = plan.experiment
    for backbone, dataset in product(plan.backbones, plan.datasets):
        place, shape = {"backbone": backbone, "dataset": dataset}, plan.shapes[backbone]
        parts = plan.parts_of(dataset)
        test = plan.counts(dataset).test
        for part in parts:
            if not Path(paths.TEST_FEATURES.format(part=part, **place)).is_file():
                yield features_bytes(shape, test // len(parts))
        for shots, seed in product(experiment.shots, experiment.seeds):
            run = place | {"views": experiment.views.folder, "shots": paths.format_shots(shots)}
            if not Path(paths.SHOT_FEATURES.format(seed=seed, **run)).is_file():
                yield features_bytes(shape, count_shot_views(plan, dataset, shots))


def _heads(plan: Plan) -> Iterator[float]:
    for head, run in plan.heads.items():
        if not Path(head).is_file():
            yield head_work(plan, run).head_bytes

"""Memory and time that jobs ask for: they follow the dataset and the backbone's shape.

A scheduler kills a job that takes more than it asked for and lets one wait that asks for too much.
These are estimates with room to spare; a job that was killed asks for more in its next attempt.
"""

import json
import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from vtclip.experiment import Backbone, SpatialKind
from vtclip.settings import ConfigError, unknown

HALF, SINGLE, DOUBLE = 2, 4, 8  # bytes of a number
PROCESS = 2000  # MB of a process with PyTorch, and what CUDA adds to it in main memory
DECODER = 400  # MB of a process that decodes images
IMAGES_A_SECOND = 25  # that one GPU or eight cores encode, at the least
ITERATIONS = 300  # of L-BFGS in a fit, at the most in the mean over all strengths
CORE_FLOPS = 2e10  # that one core does in a second
SHORT = 10  # minutes; trainings that may compute for longer are not grouped, and may get more cores
RESERVE = 10  # minutes to start, to read and to write, on a busy node and a slow network disk
SHARED_RESERVE = 2  # minutes; a submission asks for the sum of its trainings
FLOPS = 1e13  # that a GPU of some years ago does in a second


class Shape(NamedTuple):
    """What a backbone gives for an image."""

    tokens: int
    """N spatial tokens"""
    width: int
    """numbers a spatial token"""
    dim: int
    """D, numbers of a pooled feature"""
    prompt_flops: float = 0.0
    """of one prompt through the text tower, forward and back to its words"""
    text_weights: int = 0
    """of the text tower"""


class Work(NamedTuple):
    """What a training does."""

    classes: int
    images: int
    """to learn from"""
    views: int
    """of each image, that are read"""
    batch: int
    """images a step"""
    steps: int
    """by gradient"""
    spatial: bool = False
    """whether spatial features are read"""
    text_tower: bool = False
    """whether every step goes through the text tower"""
    width: float = 10.0
    """D^2 multiplications for an image and a class"""
    fits: int = 0
    """of a logistic regression"""
    iterations: int = 0
    """that one fit may take"""
    on_gpu: bool = True
    """whether a GPU computes, where the method can use one"""


def read_shape(backbone: Backbone, spatial: SpatialKind) -> Shape:
    """A backbone's shape from its configuration, without building it or importing open_clip.

    Raises:
        ConfigError: open_clip has no such model, or the file of the architecture is not there.
    """
    found = json.loads(_find_configuration(backbone).read_text(encoding="utf-8"))
    vision: dict[str, Any] = found["vision_cfg"]
    size, dim = vision.get("image_size", 224), found["embed_dim"]
    if isinstance(vision.get("layers"), list):  # a ResNet: 1/32 of the size, and 32 times the width
        places, width = (size // 32) ** 2, 32 * vision.get("width", 64)
    else:
        places, width = (size // vision.get("patch_size", 16)) ** 2, vision.get("width", 768)
    text: dict[str, Any] = found["text_cfg"]
    weights = 12 * text["width"] ** 2 * text["layers"]
    prompt_flops = 4.0 * weights * text.get("context_length", 77)
    tower = prompt_flops, weights + text.get("vocab_size", 49408) * text["width"]
    if spatial == "raw":
        return Shape(places, width, dim, *tower)
    return Shape(places + 1, dim, dim, *tower)


def features_bytes(shape: Shape, rows: int) -> int:
    """Bytes of the features of some views."""
    return rows * (shape.dim + shape.tokens * shape.width) * HALF


def backbone_memory(shape: Shape) -> int:
    """MB of a job that holds the backbone: its weights, and once more while they are read."""
    towers = 4 * shape.text_weights  # the image tower has up to three times as many
    return PROCESS + 2 * _mb(towers * SINGLE)


def text_minutes(shape: Shape, prompts: int) -> int:
    """Minutes of a job that reads prompts on one core."""
    return RESERVE + math.ceil(prompts * shape.prompt_flops / 2 / CORE_FLOPS / 60)


def extraction_memory(shape: Shape, workers: int) -> int:
    """MB of a job that extracts features: they are written as they come."""
    batches = 2000 + 4 * _mb(features_bytes(shape, 64))
    return backbone_memory(shape) + batches + workers * DECODER


def extraction_minutes(views: int) -> int:
    """Minutes of a job that extracts the features of some views."""
    return RESERVE + math.ceil(views / IMAGES_A_SECOND / 60)


def training_memory(shape: Shape, work: Work, threads: int = 1) -> int:
    """MB of a job that trains a head."""
    read = shape if work.spatial else Shape(0, 0, shape.dim)
    shots = 2 * _mb(features_bytes(read, work.images * work.views))  # half of it to spare
    process = backbone_memory(shape) if work.text_tower else PROCESS
    # A fit keeps twenty pairs of vectors of the weights' size, and two of all probabilities.
    fit = _mb(work.classes * (40 * shape.dim + 2 * work.images) * DOUBLE)
    if not work.spatial:
        return process + shots + min(threads, work.fits) * fit
    pairs = _mb(work.batch * work.classes * (2 + work.width) * shape.dim * SINGLE)
    weights = _mb(6 * (6 + work.width) * shape.dim**2 * SINGLE)  # with AdamW's state
    return process + shots + pairs + weights


def training_threads(shape: Shape, work: Work) -> int:
    """Cores of a job that trains a head: one, or up to four for long logistic regressions."""
    return 1 if is_short(shape, work) else max(1, min(4, work.fits))


def is_short(shape: Shape, work: Work) -> bool:
    """Whether a training is over so soon that it shares a submission with others."""
    return _computing_minutes(shape, work, threads=1) <= SHORT


def training_minutes(shape: Shape, work: Work, threads: int = 1) -> int:
    """Minutes of a job that trains a head."""
    computing = _computing_minutes(shape, work, threads)
    return computing + (SHARED_RESERVE if computing <= SHORT else RESERVE)


def _computing_minutes(shape: Shape, work: Work, threads: int) -> int:
    flops = 0.0
    if work.spatial:  # two operations a multiplication, three times as many in training
        flops += 6 * work.steps * work.batch * work.classes * work.width * shape.dim**2
    if work.text_tower:
        flops += work.steps * work.classes * shape.prompt_flops
    seconds = flops / (FLOPS if work.on_gpu else threads * CORE_FLOPS)
    # A fit takes one core; the longest of them takes as long on any number of cores.
    iterations = max(work.fits * ITERATIONS / threads, min(work.fits, 1) * work.iterations)
    seconds += iterations * 4 * work.images * work.classes * shape.dim / CORE_FLOPS
    return math.ceil(seconds / 60)


def prediction_memory(shape: Shape, *, classes: int, heads: int, spatial: bool) -> int:
    """MB of a job that predicts with several heads: the test features are streamed."""
    read = shape if spatial else Shape(0, 0, shape.dim)
    weights = heads * _mb(16 * shape.dim**2 * SINGLE) if spatial else heads
    pairs = _mb(64 * classes * 12 * shape.dim * SINGLE) if spatial else 0
    return PROCESS + 4 * _mb(features_bytes(read, 64)) + weights + pairs


def prediction_minutes(
    shape: Shape, *, classes: int, images: int, heads: int, spatial: bool, on_gpu: bool = True
) -> int:
    """Minutes of a job that predicts, on a GPU or on one core."""
    flops = prediction_flops(shape, classes=classes, images=images, heads=heads) if spatial else 0
    return RESERVE + math.ceil(flops / (FLOPS if on_gpu else CORE_FLOPS) / 60)


def prediction_flops(shape: Shape, *, classes: int, images: int, heads: int) -> float:
    """Floating-point operations of a job that predicts with VT-CLIP's heads of one block."""
    return heads * images * classes * 20.0 * shape.dim**2


def unpacking_minutes(archive_bytes: int) -> int:
    """Minutes of a job that unpacks archives, at 10 MB/s of a slow network disk."""
    return RESERVE + math.ceil(archive_bytes / 10e6 / 60)


def _find_configuration(backbone: Backbone) -> Path:
    if backbone.architecture is not None:
        path = Path(backbone.architecture)
        if not path.is_file():
            raise ConfigError(f"backbone.architecture: there is no file {path}.")
        return path
    spec = find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "model_configs"
    path = folder / f"{backbone.folder}.json"
    if not path.is_file():
        known = [file.stem for file in folder.glob("*.json")]
        raise unknown("backbone", backbone.name, known, source="backbone.name")
    return path


def _mb(count: float) -> int:
    return math.ceil(count / 1e6)

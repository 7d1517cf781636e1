"""Memory, minutes and threads that jobs request, computed from their work.

A scheduler kills a job that takes more than it requested and lets one wait that requests too much.
These are estimates with room to spare; a job that was killed requests more in its next attempt.
`Method.work` gives a method's operations and bytes: no method is known here.
"""

import math
from typing import NamedTuple

HALF, SINGLE, DOUBLE = 2, 4, 8  # bytes of a number
BATCH = 64  # test images that are predicted at a time, a row group of a feature file
PROCESS = 2000  # MB of a process with PyTorch, and what CUDA adds to it in main memory
DECODER = 400  # MB of a process that decodes images
VIEWS_A_DECODER = 2500  # that are worth starting one: five seconds or more
DECODERS = 16  # at most; Snakemake gives a job no more than its machine has
HASHED = 0.5  # of the images that are compared, at most; of Caltech101's 0.27 to 0.29
SENTENCES = 100  # about a class, of a file that is not there yet; published sets have up to 90
IMAGES_A_SECOND = 25  # that are read, decoded and written, at the least
CORE_FLOPS = 2e10  # that one core does in a second
ENCODING_FLOPS = 5e10  # the same in an image tower, whose products are large
FLOPS = 1e13  # that a GPU of some years ago does in a second
DOUBLE_FLOPS = 2e11  # the same in double precision, if it was not made for that: T4, RTX 20
CORES = 4  # at most, of a training that has parts for them
SHORT = 10  # minutes; trainings that may compute for longer are not grouped, and may get more cores
RESERVE = 10  # minutes to start, to read and to write, on a busy node and a slow network disk
SHARED_RESERVE = 2  # minutes; a submission requests the sum of its trainings
WITHIN_RESERVE = 10  # seconds of computing for which no minute is added


class Shape(NamedTuple):
    """Sizes of a backbone's towers and of what it computes for an image."""

    tokens: int  # N spatial tokens
    width: int  # numbers per spatial token
    dim: int  # D, numbers of a pooled feature
    prompt_flops: float = 0.0  # of one prompt through the text tower, forward and back to its words
    text_weights: int = 0  # of the text tower, and of what writes captions beside it
    context_length: int = 77  # tokens that the text tower reads, start and end among them
    image_flops: float = 0.0  # of one image through the image tower
    image_weights: int = 0  # of the image tower
    image_size: int = 224  # pixels of a side
    image_tokens: int = 0  # in a block of the image tower, the class token among them
    image_width: int = 0  # numbers of each
    image_blocks: int = 0  # blocks whose attention can be reached; 0 of a ResNet
    text_width: int = 0  # numbers of a token of the text tower
    text_blocks: int = 0  # blocks whose attention can be reached


class Size(NamedTuple):
    """Sizes of the task that a head is trained for."""

    shape: Shape
    classes: int  # K
    shots: int  # images per class; 0 for a method that learns from none
    images: int  # to learn from; fewer than classes * shots where a class has not as many
    views: int  # cached of each of these images, the test view among them

    @property
    def val_images(self) -> int:
        """To choose on: as many a class as there are shots, and four at most."""
        return self.classes * min(self.shots, 4)


class Work(NamedTuple):
    """Operations and bytes of main memory of a head; independent parts run on a core each."""

    rows: int = 0  # views whose features are read to fit, those to learn from
    spatial: bool = False  # their spatial features are read, and those of images to predict
    text_tower: bool = False  # the text tower is in memory while fitting
    on_gpu: bool = True  # a GPU fits, where there is one; one predicts in any case
    double: bool = False  # fitting is in double precision, which most GPUs are slow in
    flops: float = 0.0  # floating-point operations of fitting, all parts together
    parts: int = 1  # independent parts of fitting
    longest: float = 0.0  # operations of the longest part: more cores do not make it shorter
    part_bytes: float = 0.0  # that a part takes beside the process and the features
    predict_flops: float = 0.0  # operations of predicting one image with one head
    head_bytes: float = 0.0  # of one head, ready to predict
    batch_bytes: float = 0.0  # that predicting BATCH images takes beside the heads and the features


def features_bytes(shape: Shape, rows: int) -> int:
    """Bytes of the features of some views."""
    return rows * (shape.dim + shape.tokens * shape.width) * HALF


def backbone_memory(shape: Shape) -> int:
    """MB of a job that loads the backbone: its weights, and once more while they are read."""
    return PROCESS + 2 * _mb((shape.image_weights + shape.text_weights) * SINGLE)


def text_memory(shape: Shape, sentences: int) -> int:
    """MB of a job that reads sentences: the backbone, and all their features a few times."""
    return backbone_memory(shape) + 4 * _mb(sentences * shape.dim * SINGLE)


def text_minutes(shape: Shape, prompts: int) -> int:
    """Minutes of a job that reads prompts on one core."""
    return RESERVE + math.ceil(prompts * shape.prompt_flops / 2 / CORE_FLOPS / 60)


def threads_to_decode(views: int) -> int:
    """Threads of a job that decodes views: a small one starts no worker beside itself."""
    return min(DECODERS, 1 + views // VIEWS_A_DECODER)


def extraction_memory(shape: Shape, workers: int) -> int:
    """MB of a job that extracts features: they are written as they come."""
    batches = 2000 + 4 * _mb(features_bytes(shape, 64))
    return backbone_memory(shape) + batches + workers * DECODER


def extraction_minutes(shape: Shape, views: int, threads: int = 1, *, on_gpu: bool) -> int:
    """Minutes of a job that extracts the features of some views, on a GPU or on its cores."""
    encoded = (FLOPS if on_gpu else threads * ENCODING_FLOPS) / (shape.image_flops or 1)
    return RESERVE + math.ceil(views / min(IMAGES_A_SECOND, encoded) / 60)


def copies_minutes(images: int, dim: int) -> int:
    """Minutes of a job that compares images by features of D numbers and hashes some of them.

    Without features, D = 0, it hashes all.
    """
    compared, hashed = 2 * images**2 * dim, images * (HASHED if dim else 1)
    return RESERVE + math.ceil((compared / ENCODING_FLOPS + hashed / IMAGES_A_SECOND) / 60)


def training_memory(size: Size, work: Work, threads: int = 1) -> int:
    """MB of a job that fits a head with as many parts at a time as it has threads."""
    shots = features_memory(size.shape, work, work.rows)
    process = backbone_memory(size.shape) if work.text_tower else PROCESS
    return process + shots + _mb(min(threads, work.parts) * work.part_bytes)


def features_memory(shape: Shape, work: Work, rows: int) -> int:
    """MB of the features of some views, as far as the method reads them; half of it to spare."""
    return 2 * _mb(_read_bytes(shape, work, rows))


def training_threads(work: Work, *, on_gpu: bool) -> int:
    """Cores of a job that fits a head: one, or up to four for long fits of several parts."""
    return 1 if is_short(work, on_gpu=on_gpu) else max(1, min(CORES, work.parts))


def is_short(work: Work, *, on_gpu: bool) -> bool:
    """Check that a fit is so short that it shares a submission with others."""
    return _fitting_minutes(work, threads=1, on_gpu=on_gpu) <= SHORT


def training_minutes(work: Work, threads: int = 1, *, on_gpu: bool) -> int:
    """Minutes of a job that fits a head; its GPU counts only if the method can use one."""
    fitting = _fitting_minutes(work, threads, on_gpu)
    return fitting + (SHARED_RESERVE if fitting <= SHORT else RESERVE)


def prediction_memory(size: Size, work: Work, heads: int, workers: int = 0) -> int:
    """MB of a job that predicts with several heads: test features, or images, are streamed."""
    batch = 4 * _mb(_read_bytes(size.shape, work, BATCH)) + _mb(work.batch_bytes)
    return PROCESS + batch + heads * _mb(work.head_bytes) + workers * DECODER


def prediction_minutes(work: Work, *, images: int, heads: int, on_gpu: bool) -> int:
    """Minutes of a job that predicts images with several heads, on a GPU or on one core."""
    flops = images * heads * work.predict_flops
    return RESERVE + _minutes(flops / (FLOPS if on_gpu else CORE_FLOPS))


def unpacking_minutes(archive_bytes: int) -> int:
    """Minutes of a job that unpacks archives, at 10 MB/s of a slow network disk."""
    return RESERVE + math.ceil(archive_bytes / 10e6 / 60)


def _fitting_minutes(work: Work, threads: int, on_gpu: bool) -> int:
    if on_gpu and work.on_gpu:
        return _minutes(work.flops / (DOUBLE_FLOPS if work.double else FLOPS))
    return _minutes(max(work.flops / threads, work.longest) / CORE_FLOPS)


def _read_bytes(shape: Shape, work: Work, rows: int) -> int:
    """Bytes of some views' features, as far as the method reads them."""
    return features_bytes(shape if work.spatial else shape._replace(tokens=0), rows)


def _minutes(seconds: float) -> int:
    return math.ceil(seconds / 60) if seconds > WITHIN_RESERVE else 0


def _mb(count: float) -> int:
    return math.ceil(count / 1e6)

"""Features of class names, of the sampled images of a run, and of the test images."""

import importlib.metadata
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import torch

from vtclip.features.backbone import Backbone
from vtclip.features.loading import (
    ExtractionError,
    Pictures,
    explaining_workers,
    load_batches,
)
from vtclip.features.store import writing_features
from vtclip.features.texts import write_texts
from vtclip.features.views import Views
from vtclip.files import write_receipt
from vtclip.logs import progress
from vtclip.parquet import read_parquet

logger = logging.getLogger(__name__)


def extract_texts(
    backbone: Backbone, manifest: str | Path, templates: Sequence[str], destination: str | Path
) -> None:
    """Write the text feature of every class of a dataset.

    Args:
        backbone: the frozen CLIP.
        manifest: the dataset's manifest, for the class names by label.
        templates: prompts in which {} stands for the class name.
        destination: the Parquet file to write.
    """
    classes = read_parquet(manifest, "label", "class_name").unique().sort("label")
    names = classes["class_name"].to_list()
    texts, norms = backbone.encode_classes_and_norms(names, templates)
    metadata = describe(backbone) | {"templates": list(templates)}
    write_texts(destination, names, texts, metadata, norms=norms)
    write_receipt(destination)


def extract_shots(
    backbone: Backbone,
    shots: str | Path,
    images: str | Path,
    destination: str | Path,
    *,
    number: int,
    scale: tuple[float, float],
    flip: bool,
    seed: int,
    batch_size: int,
    workers: int,
) -> None:
    """Write the features of the sampled images of one run, in sampled order.

    Training images come in all views, validation images in the test view.

    Args:
        backbone: the frozen CLIP.
        shots: the Parquet file of the sampled images.
        images: the folder that the image paths start from.
        destination: the Parquet file to write.
        number: random views beside the test view.
        scale: smallest and largest share of the image's area in a random view.
        flip: whether half of the random views are mirrored.
        seed: of the random views.
        batch_size: views a forward pass.
        workers: processes that decode images.

    Raises:
        ExtractionError: images that cannot be read, all of them named.
    """
    rows = read_parquet(shots)
    views = pl.DataFrame({"view": range(number + 1)})
    train = rows.filter(split="train").join(views, how="cross", maintain_order="left_right")
    val = rows.filter(split="val").with_columns(view=pl.lit(0, pl.Int64))
    look = Views(backbone.preprocess, backbone.image_size, scale=scale, flip=flip, seed=seed)
    metadata = {"views": number, "scale": list(scale), "flip": flip, "seed": seed}
    _extract(backbone, pl.concat([train, val]), look, images, destination, metadata,
             batch_size=batch_size, workers=workers)  # fmt: skip


def extract_test(
    backbone: Backbone,
    manifest: str | Path,
    images: str | Path,
    destination: str | Path,
    *,
    shard: tuple[int, int] = (1, 1),
    batch_size: int,
    workers: int,
) -> None:
    """Write the features of a dataset's test images, in the test view.

    Args:
        backbone: the frozen CLIP.
        manifest: the dataset's manifest.
        images: the folder that the image paths start from.
        destination: the Parquet file to write.
        shard: (i, n) for the i-th of n parts of nearly the same size, counted from 1.
        batch_size: images a forward pass.
        workers: processes that decode images.

    Raises:
        ExtractionError: images that cannot be read, all of them named.
    """
    rows = read_parquet(manifest).filter(split="test").with_columns(view=pl.lit(0, pl.Int64))
    metadata = {"shard": list(shard)}
    start, end = (rows.height * part // shard[1] for part in (shard[0] - 1, shard[0]))
    look = Views(backbone.preprocess, backbone.image_size, scale=(1.0, 1.0), flip=False, seed=0)
    _extract(backbone, rows[start:end], look, images, destination, metadata,
             batch_size=batch_size, workers=workers)  # fmt: skip


def describe(backbone: Backbone) -> dict[str, Any]:
    """What makes the features of this backbone, for a file's metadata."""
    return {
        "backbone": backbone.name,
        "pretrained": backbone.pretrained,
        "weights_sha256": backbone.weights_sha256,
        "precision": backbone.precision,
        "spatial": backbone.spatial,
        "image_size": backbone.image_size,
        "logit_scale": backbone.logit_scale,
        "logit_bias": backbone.logit_bias,
        "device_kind": backbone.device.type,
        "versions": {
            name: importlib.metadata.version(name) for name in ("torch", "open_clip_torch")
        },
    }


def _extract(
    backbone: Backbone,
    rows: pl.DataFrame,
    look: Views,
    images: str | Path,
    destination: str | Path,
    metadata: dict[str, Any],
    *,
    batch_size: int,
    workers: int,
) -> None:
    """Decode, encode and write batch by batch; a few batches are in memory at any time."""
    # Pinned memory is CUDA's: Apple's GPU shares the CPU's, and a CPU copies nothing.
    pictures, pinned = Pictures(rows, look, Path(images)), backbone.device.type == "cuda"
    batches = load_batches(pictures, batch_size, workers=workers, pin_memory=pinned)
    total = -(-len(pictures) // batch_size)
    started, unreadable = time.perf_counter(), []
    with (
        explaining_workers(),
        writing_features(destination, describe(backbone) | metadata) as writer,
    ):
        for batch, (pixels, bad) in enumerate(progress(batches, what="batches", total=total)):
            unreadable += bad
            if pixels is None or unreadable:
                continue  # nothing will be written, but all bad images are to be named
            part = rows.slice(batch * batch_size, batch_size)
            writer.write(part, *encode_within_memory(backbone, pixels))
        if unreadable:
            raise ExtractionError(
                f"{len(set(unreadable))} images cannot be read:\n  "
                + "\n  ".join(dict.fromkeys(unreadable))
                + "\nMend them, or name them under `leave_out:` in the dataset's file."
            )
    write_receipt(destination)
    rate = rows.height / (time.perf_counter() - started)
    logger.info(
        "%d views of %d images, %.1f a second.", rows.height, rows["image"].n_unique(), rate
    )


def encode_within_memory(
    backbone: Backbone, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode a batch; where the GPU's memory does not hold it, encode it in halves.

    Args:
        backbone: the frozen CLIP.
        pixels: (B, 3, H, W).

    Returns:
        pooled (B, D) and spatial (B, N, width).

    Raises:
        torch.OutOfMemoryError: one image alone is too much.
    """
    try:
        return backbone.encode_images(pixels.to(backbone.device, non_blocking=True))
    except RuntimeError as error:
        if len(pixels) == 1 or not _is_out_of_memory(error):
            raise
    logger.warning("Out of GPU memory with %d images: encoding them in halves.", len(pixels))
    with suppress(AttributeError):  # a CPU keeps nothing back
        getattr(torch, backbone.device.type).empty_cache()
    halves = [encode_within_memory(backbone, half) for half in pixels.tensor_split(2)]
    pooled, spatial = zip(*halves, strict=True)
    return torch.cat(pooled), torch.cat(spatial)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU's memory is full; Apple's has no error of its own for it."""
    return isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error)

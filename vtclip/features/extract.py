"""Features of class names, of the sampled images of a run, and of the test images."""

import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from vtclip.backbones.backbone import Backbone
from vtclip.data.images import PictureError, open_picture
from vtclip.features.store import open_features_writer
from vtclip.features.texts import write_texts
from vtclip.features.views import Views
from vtclip.files import write_receipt
from vtclip.parquet import read_parquet
from vtclip.runtime.job import progress

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- PyTorch's workers pass tensors on through it
SHARING = 4  # jobs that may need room there at the same time
PREFETCHED = 2  # waiting batches per worker
PATIENCE = 600.0  # seconds without a batch

Decoded = torch.Tensor | str  # pixels (3, H, W), or why there are none


class ExtractionError(RuntimeError):
    """Images that cannot be read, all of them named; or workers that are stuck or gone."""


def extract_texts(
    backbone: Backbone, manifest: str | Path, templates: Sequence[str], destination: str | Path
) -> None:
    """Write the text features of the classes of a dataset.

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

    Training images have all views, validation images the test view.

    Args:
        backbone: the frozen CLIP.
        shots: the Parquet file of the sampled images.
        images: the folder that the image paths start from.
        destination: the Parquet file to write.
        number: random views, besides the test view.
        scale: smallest and largest share of the image's area in a random view.
        flip: mirror half of the random views.
        seed: of the random views.
        batch_size: views per forward pass.
        workers: processes that decode images.

    Raises:
        ExtractionError: images that cannot be read, all of them named.
    """
    rows = read_parquet(shots)
    views = pl.DataFrame({"view": range(number + 1)})
    train = rows.filter(split="train").join(views, how="cross", maintain_order="left_right")
    val = rows.filter(split="val").with_columns(view=pl.lit(0, pl.Int64))
    transform = Views(backbone.preprocess, backbone.image_size, scale=scale, flip=flip, seed=seed)
    metadata = {"views": number, "scale": list(scale), "flip": flip, "seed": seed}
    pictures = Pictures(pl.concat([train, val]), transform, Path(images))
    _extract(backbone, pictures, destination, metadata, batch_size=batch_size, workers=workers)


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
        batch_size: images per forward pass.
        workers: processes that decode images.

    Raises:
        ExtractionError: images that cannot be read, all of them named.
    """
    rows = read_parquet(manifest).filter(split="test").with_columns(view=pl.lit(0, pl.Int64))
    start, end = (rows.height * part // shard[1] for part in (shard[0] - 1, shard[0]))
    size = backbone.image_size
    transform = Views(backbone.preprocess, size, scale=(1.0, 1.0), flip=False, seed=0)
    pictures, metadata = Pictures(rows[start:end], transform, Path(images)), {"shard": list(shard)}
    _extract(backbone, pictures, destination, metadata, batch_size=batch_size, workers=workers)


def describe(backbone: Backbone) -> dict[str, Any]:
    """Describe what makes a backbone's features, for a file's metadata."""
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
        "versions": {name: version(name) for name in ("torch", "open_clip_torch")},
    }


class Pictures(Dataset[Decoded]):
    """The pixels of each row's view, or why there are none.

    The views of an image are consecutive rows: it is decoded once for all of them.
    """

    def __init__(self, rows: pl.DataFrame, transform: Views, images: Path) -> None:
        self.rows, self.transform, self.images = rows, transform, images
        self.names, self.views = rows["image"].to_list(), rows["view"].to_list()
        self.decoded: tuple[str, Image.Image] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> Decoded:
        name = self.names[row]
        if self.decoded is None or self.decoded[0] != name:
            try:
                self.decoded = name, open_picture(self.images / name)
            except PictureError as error:
                return f"{self.images / name}: {error}"
        return self.transform(self.decoded[1], name, self.views[row])


def _extract(
    backbone: Backbone,
    pictures: Pictures,
    destination: str | Path,
    metadata: dict[str, Any],
    *,
    batch_size: int,
    workers: int,
) -> None:
    """Decode, encode and write batch by batch; a few batches are in memory at any time."""
    pinned = backbone.device.type == "cuda"  # Apple's GPU shares the CPU's memory
    batches = load_batches(pictures, batch_size, workers=workers, pin_memory=pinned)
    total = -(-len(pictures) // batch_size)
    started, unreadable = time.perf_counter(), []
    with (
        explaining_workers(),
        open_features_writer(destination, describe(backbone) | metadata) as writer,
    ):
        for batch, (pixels, bad) in enumerate(progress(batches, what="batches", total=total)):
            unreadable += bad
            if pixels is None or unreadable:
                continue  # nothing will be written, but the error names all bad images
            rows = pictures.rows.slice(batch * batch_size, batch_size)
            writer.write(rows, *encode_within_memory(backbone, pixels))
        if unreadable:
            raise ExtractionError(
                f"{len(set(unreadable))} images cannot be read:\n  "
                + "\n  ".join(dict.fromkeys(unreadable))
                + "\nRepair them, or list them under `leave_out:` in the dataset's file."
            )
    write_receipt(destination)
    views, rate = len(pictures), len(pictures) / (time.perf_counter() - started)
    logger.info("%d views of %d images, %.1f per second.", views, len(set(pictures.names)), rate)


def encode_within_memory(
    backbone: Backbone, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode pixels (B, 3, H, W), in halves if the GPU's memory is too small for all at once.

    Returns pooled (B, D) and spatial (B, N, width).
    """
    try:
        return backbone.encode_images(pixels.to(backbone.device, non_blocking=True))
    except RuntimeError as error:
        apple = "MPS backend out of memory" in str(error)  # which has no error class
        if len(pixels) == 1 or not (apple or isinstance(error, torch.OutOfMemoryError)):
            raise
    logger.warning("Out of GPU memory with %d images: encoding them in halves.", len(pixels))
    with suppress(AttributeError):  # a CPU has no cache to empty
        getattr(torch, backbone.device.type).empty_cache()
    halves = [encode_within_memory(backbone, half) for half in pixels.tensor_split(2)]
    pooled, spatial = zip(*halves, strict=True)
    return torch.cat(pooled), torch.cat(spatial)


def load_batches(
    pictures: Pictures,
    batch_size: int,
    *,
    workers: int,  # processes that decode images; with 0 this process does
    pin_memory: bool,
) -> Iterator[tuple[torch.Tensor | None, list[str]]]:
    """Yield pixels (B, 3, H, W) in order, or None with reasons if images cannot be read."""
    # Workers pass tensors on in shared memory. If that has too little room (Docker gives 64 MB), a
    # batch would be lost and the job would wait for ever: then arrays go through a pipe.
    size = pictures.transform.image_size
    shares = _has_room(workers, 4 * 3 * size**2 * min(batch_size, len(pictures)))
    loader = DataLoader(
        pictures,
        batch_size,
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        collate_fn=partial(_stack, shares=shares),
        pin_memory=pin_memory and shares,
        timeout=PATIENCE if workers else 0,
        worker_init_fn=_use_one_thread,
    )
    for pixels, bad in loader:
        yield None if bad else torch.as_tensor(pixels), bad


@contextmanager
def explaining_workers() -> Iterator[None]:
    """Explain what to do if PyTorch finds its workers stuck or gone."""
    try:
        yield
    except RuntimeError as error:  # at any time: it is a signal that reports a worker's end
        if not str(error).startswith(("DataLoader", "Pin memory thread")):
            raise
        raise ExtractionError(
            f"The processes that decode images are stuck or gone: {error}\n  Memory may have been "
            f"full, {SHARED_MEMORY} too, or the images' disk away. Run again; if it comes again, "
            "run Snakemake with `--set-threads extract_shots=1 extract_test=1`: then there are no "
            "such processes."
        ) from error


def _has_room(workers: int, batch: int) -> bool:
    """Check that shared memory has room for batches of this size, waiting or in use."""
    if workers == 0 or not SHARED_MEMORY.is_dir():
        return True
    needed = SHARING * (PREFETCHED * workers + 1) * batch
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < needed:
        logger.warning(
            "%s has %d MB free, expected %d MB: decoded images go through pipes, which takes "
            "longer. Give a container more with `--shm-size`.",
            SHARED_MEMORY, free >> 20, -(-needed >> 20),
        )  # fmt: skip
    return free >= needed


def _stack(
    batch: list[Decoded], *, shares: bool
) -> tuple[torch.Tensor | np.ndarray | None, list[str]]:
    """Pixels (B, 3, H, W), or None with the reasons of the images that cannot be read.

    An array is sent through a pipe, a tensor through shared memory.
    """
    bad = [decoded for decoded in batch if isinstance(decoded, str)]
    if bad:
        return None, bad
    pixels = torch.stack(cast("list[torch.Tensor]", batch))
    return (pixels if shares else pixels.numpy()), []


def _use_one_thread(worker: int) -> None:
    """Let a worker use one thread: it shares the cores with the backbone."""
    torch.set_num_threads(1)

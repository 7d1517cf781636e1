"""Decoding of images into batches of pixels, in processes of their own."""

import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from vtclip.config.dataset import Exif
from vtclip.data.images import open_picture, without_size_warnings
from vtclip.features.views import Views

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- PyTorch's workers pass tensors on through it
SHARING = 4  # jobs that may need room there at the same time
PREFETCHED = 2  # waiting batches per worker
PATIENCE = 600.0  # seconds without a batch

Decoded = torch.Tensor | str  # pixels (3, H, W), or why there are none


class ExtractionError(RuntimeError):
    """Images that cannot be read, all of them named; or workers that are stuck or gone."""


class Pictures(Dataset[Decoded]):
    """The pixels of each row's view, or why there are none.

    The views of an image are consecutive rows: it is decoded once for all of them.
    """

    def __init__(
        self, rows: pl.DataFrame, transform: Views, images: Path, *, exif: Exif = "ignore"
    ) -> None:
        self.rows, self.transform, self.images, self.exif = rows, transform, images, exif
        self.names, self.views = rows["image"].to_list(), rows["view"].to_list()
        self.decoded: tuple[str, Image.Image] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> Decoded:
        name = self.names[row]
        try:
            if self.decoded is None or self.decoded[0] != name:
                self.decoded = name, open_picture(self.images / name, exif=self.exif)
            with without_size_warnings():
                return self.transform(self.decoded[1], name, self.views[row])
        except (ValueError, MemoryError) as error:
            return f"{self.images / name}: {str(error) or 'there is too little memory for a view'}"


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
    with _without_script():
        batches = iter(loader)
    for pixels, bad in batches:
        yield None if bad else torch.as_tensor(pixels), bad


@contextmanager
def _without_script() -> Iterator[None]:
    """Start processes that do not run this process's script.

    Where they are not forked (macOS, and Python from 3.14 on), Python runs it in each of them
    first. The script of a job is the whole job: it would wait for its own lease.
    """
    main = sys.modules["__main__"].__dict__
    script = main.pop("__file__", None)
    try:
        yield
    finally:
        if script is not None:
            main["__file__"] = script


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

"""Batches of pixels, decoded by worker processes, and a word where these get stuck."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from vtclip.features.pictures import PictureError, open_picture
from vtclip.features.views import Views

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- where PyTorch's workers put what they hand over
SHARING = 4  # jobs that may need room there at a time
PREFETCHED = 2  # batches of a worker that wait
PATIENCE = 600.0  # seconds without a batch

Decoded = torch.Tensor | str  # pixels (3, H, W), or why there are none


class ExtractionError(RuntimeError):
    """Images that cannot be read, all of them named; or workers that are stuck or gone."""


class Pictures(Dataset[Decoded]):
    """The pixels of each row's view, or why there are none.

    The views of an image stand together: it is decoded for the first and held for the others.
    """

    def __init__(self, rows: pl.DataFrame, look: Views, images: Path) -> None:
        self.names, self.views = rows["image"].to_list(), rows["view"].to_list()
        self.look, self.images = look, images
        self.held: tuple[str, Image.Image] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> Decoded:
        name = self.names[row]
        if self.held is None or self.held[0] != name:
            try:
                self.held = name, open_picture(self.images / name)
            except PictureError as error:
                return f"{self.images / name}: {error}"
        return self.look(self.held[1], name, self.views[row])


def load_batches(
    pictures: Pictures, batch_size: int, *, workers: int, pin_memory: bool
) -> Iterator[tuple[torch.Tensor | None, list[str]]]:
    """Go through the pictures in their order.

    Workers hand tensors over in shared memory. Where that has too little room, as in a container
    with Docker's 64 MB, a batch would be lost and the job would wait for ever: they then send the
    same numbers through a pipe.

    Args:
        pictures: the pixels of each row.
        batch_size: views a batch.
        workers: processes that decode images; with 0 this one does.
        pin_memory: whether the batches go to a GPU.

    Yields:
        Pixels (B, 3, H, W), or None with the reasons of the images that cannot be read.

    Raises:
        ExtractionError: no batch has come for ten minutes, or a worker has been killed.
    """
    size = pictures.look.image_size
    shares = _has_room(workers, 4 * 3 * size**2 * min(batch_size, len(pictures)))
    loader = DataLoader(
        pictures,
        batch_size,
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        collate_fn=_stack if shares else _stack_arrays,
        pin_memory=pin_memory and shares,
        timeout=PATIENCE if workers else 0,
        worker_init_fn=_use_one_thread,
    )
    for pixels, bad in loader:
        yield torch.from_numpy(pixels) if isinstance(pixels, np.ndarray) else pixels, bad


@contextmanager
def explaining_workers() -> Iterator[None]:
    """Say what can be done about workers that PyTorch says are stuck or gone."""
    try:
        yield
    except RuntimeError as error:  # it may come at any time: a signal tells of a worker's end
        if not str(error).startswith(("DataLoader", "Pin memory thread")):
            raise
        raise ExtractionError(
            f"The processes that decode images are stuck or gone: {error}\n  Memory may have been "
            f"full, {SHARED_MEMORY} too, or the images' disk away. Run again; if it comes again, "
            "run Snakemake with `--set-threads extract_shots=1 extract_test=1`: then there are no "
            "such processes."
        ) from error


def _has_room(workers: int, batch: int) -> bool:
    """Whether shared memory holds the batches, of so many bytes each, that wait or are in use."""
    needed = SHARING * (PREFETCHED * workers + 1) * batch
    if workers == 0 or not SHARED_MEMORY.is_dir():
        return True
    free = shutil.disk_usage(SHARED_MEMORY).free
    if free < needed:
        logger.warning(
            "%s has %d MB free, and %d MB should be: decoded images go through pipes, which takes "
            "longer. A container has more with `--shm-size`.",
            SHARED_MEMORY, free >> 20, -(-needed >> 20),
        )  # fmt: skip
    return free >= needed


def _stack(batch: list[Decoded]) -> tuple[torch.Tensor | None, list[str]]:
    """Pixels (B, 3, H, W), or None with the reasons of the images that cannot be read."""
    bad = [decoded for decoded in batch if isinstance(decoded, str)]
    good = [decoded for decoded in batch if not isinstance(decoded, str)]
    return (None if bad else torch.stack(good)), bad


def _stack_arrays(batch: list[Decoded]) -> tuple[np.ndarray | None, list[str]]:
    """The same as an array, which a worker sends through a pipe."""
    pixels, bad = _stack(batch)
    return (None if pixels is None else pixels.numpy()), bad


def _use_one_thread(worker: int) -> None:
    """Workers share the cores with the backbone: one thread each is all they need."""
    torch.set_num_threads(1)

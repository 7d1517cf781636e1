"""Decoding of images into batches of pixels, in processes of their own.

A process decodes an image once and passes its views on as 8-bit pixels. If a device makes the
random views, it passes on the test view and the picture.
"""

import logging
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from vtclip.config.dataset import Exif
from vtclip.data.images import open_picture, without_size_warnings
from vtclip.features.views import KEPT, Crop, Views
from vtclip.runtime.job import progress
from vtclip.wording import count

logger = logging.getLogger(__name__)

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 -- PyTorch's workers pass tensors on through it
SHARING = 4  # jobs that may need room there at the same time
PREFETCHED = 2  # waiting batches per worker
PATIENCE = 600.0  # seconds without a batch
Made = TypeVar("Made")
NOTHING = torch.empty(0, dtype=torch.uint8)


class ExtractionError(RuntimeError):
    """Images that cannot be read, all of them named; or workers that are stuck or gone."""


class Decoded(NamedTuple):
    """An image as a process passes it on."""

    views: torch.Tensor  # (V, H, W, 3) uint8
    picture: torch.Tensor  # (h, w, 3) uint8, or (0,): the device cuts the other views out of it
    crops: list[Crop]  # of the other views


class Pictures(Dataset[Decoded | str]):
    """The views of each image, or why there are none; views of an image are consecutive rows."""

    def __init__(
        self,
        rows: pl.DataFrame,
        transform: Views,
        images: Path,
        *,
        exif: Exif = "ignore",
        device: torch.device | None = None,  # makes the random views; needs the test view's row
    ) -> None:
        self.rows, self.transform, self.images, self.exif = rows, transform, images, exif
        self.device = device
        each = groupby(rows.select("image", "view").iter_rows(), key=itemgetter(0))
        self.views = [(name, [view for _, view in group]) for name, group in each]

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, number: int) -> Decoded | str:
        name, views = self.views[number]
        here = views if self.device is None else views[:1]

        def make(picture: Image.Image) -> Decoded:
            made = torch.stack([self.transform(picture, name, view) for view in here])
            if here == views:
                return Decoded(made, NOTHING, [])
            return Decoded(made, *self.transform.leave(picture, name, views[1:]))

        return _decode(self.images / name, self.exif, make)

    def finish(
        self,
        views: torch.Tensor,
        pixels: torch.Tensor,
        others: Sequence[tuple[torch.Size, list[Crop]]],
    ) -> torch.Tensor:
        """All views (B, H, W, 3) of the images of a batch, given as `_join` passes them on."""
        if self.device is None or not others:
            return views
        parts = pixels.to(self.device).split([shape.numel() for shape, _ in others])
        rows = []
        for test, part, (shape, crops) in zip(views.to(self.device), parts, others, strict=True):
            picture = part.view(shape).movedim(-1, 0) if crops else part
            cut = (self.transform.cut(picture, crop).movedim(0, -1) for crop in crops)
            rows += [test, *cut]
        return torch.stack(rows)


def _decode(path: Path, exif: Exif, make: Callable[[Image.Image], Made]) -> Made | str:
    """Make something of a picture, or say why it cannot be."""
    try:
        with without_size_warnings():
            return make(open_picture(path, exif=exif))
    except (ValueError, MemoryError) as error:
        return str(error) or "there is too little memory for a view"


class KeptPictures:
    """Pictures that are decoded once and stay in memory, 4 bytes a pixel.

    A random view depends on the image's name, the view's number and the seed of `transform`. An
    ExtractionError names all images that cannot be read.
    """

    def __init__(
        self,
        names: Sequence[str],
        transform: Views,
        images: Path,
        device: torch.device,  # of the pixels of a view
        *,
        exif: Exif = "ignore",
        test_only: bool = False,  # keep the test view alone
    ) -> None:
        self.names, self.transform, self.device = names, transform, device
        keep = transform.test if test_only else transform.shrink
        decoded = [_decode(images / name, exif, keep) for name in progress(names, what="images")]
        each = zip(names, decoded, strict=True)
        _refuse([f"{images / name}: {why}" for name, why in each if isinstance(why, str)])
        self.pictures = cast("list[Image.Image]", decoded)

    def views(self, rows: torch.Tensor, view: torch.Tensor | int) -> torch.Tensor:
        """Pixels (B, 3, H, W) of a view of some images, normalised."""
        numbers = [view] * len(rows) if isinstance(view, int) else view.tolist()
        drawn = [
            self.transform(self.pictures[row], self.names[row], number)
            for row, number in zip(rows.tolist(), numbers, strict=True)
        ]
        return self.transform.normalize(torch.stack(drawn).to(self.device))


def load_batches(
    pictures: Pictures,
    batch_size: int,
    *,
    workers: int,  # processes that decode images; with 0 this process does
) -> Iterator[torch.Tensor]:
    """Yield the views (B, H, W, 3) uint8 of all rows, in order; name all unreadable images."""
    waiting: list[torch.Tensor] = []
    unreadable: list[str] = []
    files = (pictures.images / name for name, _ in pictures.views)
    for views, reasons in load_images(pictures, batch_size, workers=workers):
        each = zip(reasons, files, strict=False)  # the files of later batches are left
        unreadable += [f"{file}: {reason}" for reason, file in each if reason]
        if unreadable:
            continue  # nothing will be written, but the error names all bad images
        *full, rest = torch.cat([*waiting, views]).split(batch_size)
        yield from full
        waiting = [rest]
    _refuse(unreadable)
    yield from waiting


def _refuse(reasons: Sequence[str]) -> None:
    if reasons:
        raise ExtractionError(
            f"{count(len(set(reasons)), 'image')} cannot be read:\n  "
            + "\n  ".join(dict.fromkeys(reasons))
            + "\nRepair them, or list them under `leave_out:` in the dataset's file."
        )


def load_images(
    pictures: Pictures, batch_size: int, *, workers: int
) -> Iterator[tuple[torch.Tensor, list[str]]]:
    """Yield the views of those of a few images that can be read, and a reason for each image.

    It is "" for one that can be read. The images are in order, about a batch of views at a time.
    """
    # Workers pass tensors on in shared memory. If that has too little room (Docker gives 64 MB), a
    # batch would be lost and the job would wait for ever: then arrays go through a pipe.
    most = max((len(views) for _, views in pictures.views), default=1)
    images = min(max(1, batch_size // most), max(1, len(pictures)))
    sent = most if pictures.device is None else 1 + 2 * KEPT**2  # in views: pictures are oblong
    shares = _has_room(workers, 3 * pictures.transform.image_size**2 * sent * images)
    loader = DataLoader(
        pictures,
        images,
        num_workers=workers,
        prefetch_factor=PREFETCHED if workers else None,
        collate_fn=partial(_join, shares=shares),
        timeout=PATIENCE if workers else 0,
        worker_init_fn=_use_one_thread,
    )
    with _without_script():
        batches = iter(loader)
    for (views, pixels), others, reasons in batches:
        yield pictures.finish(torch.as_tensor(views), torch.as_tensor(pixels), others), reasons


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
        if not str(error).startswith("DataLoader"):
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


def _join(
    batch: list[Decoded | str], *, shares: bool
) -> tuple[list[torch.Tensor | np.ndarray], list[tuple[torch.Size, list[Crop]]], list[str]]:
    """The views and pictures of the images that can be read, and a reason for each image.

    Pictures are one row of bytes, with their shapes and crops beside it. An array is sent through a
    pipe, a tensor through shared memory.
    """
    good = [each for each in batch if not isinstance(each, str)]
    views = torch.cat([NOTHING, *(each.views for each in good)])
    pixels = torch.cat([NOTHING, *(each.picture.flatten() for each in good)])
    others = [(each.picture.shape, each.crops) for each in good]
    reasons = [each if isinstance(each, str) else "" for each in batch]
    return [each if shares else each.numpy() for each in (views, pixels)], others, reasons


def _use_one_thread(worker: int) -> None:
    """Let a worker use one thread: it shares the cores with the backbone."""
    torch.set_num_threads(1)

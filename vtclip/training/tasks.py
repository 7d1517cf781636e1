"""Reading what a method may see of a run, and no more, and the images that its heads predict."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import polars as pl
import torch
from torch import Tensor

from vtclip.config.dataset import ClassSplit
from vtclip.cost import BATCH
from vtclip.features.store import FeatureError, FeatureSet, check_origin, read_metadata
from vtclip.features.texts import (
    check_labels,
    is_tested,
    read_class_names,
    read_classes,
    read_exif,
)
from vtclip.methods.base import Method
from vtclip.parquet import read_parquet
from vtclip.runtime.devices import free_memory
from vtclip.task import Images, Prompts, Samples, Task, Texts, TextTower, Towers

logger = logging.getLogger(__name__)

TRAIN = ("train",)  # splits of a run to learn from
ALL = ("train", "val")


@dataclass(frozen=True)
class Sources:
    """The files and towers of a run."""

    texts: str | Path  # the dataset's text features
    # Of the run's images, or of several folds; none for a method that learns from no image.
    features: Sequence[str | Path] = ()
    dataset: str = ""  # its name; of a half of one, the classes of that half alone count
    # The sampled images, where the features are those of folds, or the method reads images.
    sample: str | Path | None = None
    images: str | None = None  # the folder that the image paths start from, to read images
    # Features of images to choose on in place of the run's own, and their split.
    choose_on: Sequence[str | Path] = ()
    split: str = "val"
    tower: TextTower | None = None  # both towers for a method that reads images
    projection: tuple[Tensor, Tensor] | None = None  # the image tower's last linear map


def read_task(
    method: Method,
    sources: Sources,
    *,
    seed: int,
    device: torch.device,
    learn_from: Sequence[str] = TRAIN,
) -> Task:
    """Read what the method may see, and no more.

    It learns from the images of some splits of its run, and chooses on those of one: of the run, or
    of all of the files `choose_on`.

    Raises:
        FeatureError: features, texts or labels that do not go together, or sampled images that the
            features do not have.
    """
    labels, texts = read_dataset(sources.texts, sources.dataset, device, sources.tower)
    task = Task(texts, None, None, seed, prompts=texts.made_of)
    if method.reads_projection:
        assert sources.projection is not None
        weight, bias = sources.projection
        task = replace(task, projection=(weight.to(device), bias.to(device)))
    if method.reads_images:
        return _open_images(method, task, sources, labels, learn_from)
    return _read_features(method, task, sources, labels, learn_from) if sources.features else task


def read_dataset(
    file: str | Path, dataset: str, device: torch.device, tower: TextTower | None
) -> tuple[range, Texts]:
    """The labels and texts of a dataset's classes, or of a half's; with prompts for a tower."""
    labels = find_labels(file, dataset)
    texts = read_classes(file, device)[0].part(labels)
    if tower is not None:
        names = read_class_names(file)[labels.start : labels.stop]
        texts = replace(texts, made_of=Prompts(names, tower))
    return labels, texts


def find_labels(texts: str | Path, dataset: str) -> range:
    """The labels of a dataset's classes, or of a half's."""
    return ClassSplit.parse(dataset).labels(len(read_class_names(texts)))


def _read_features(
    method: Method, task: Task, sources: Sources, labels: range, learn_from: Sequence[str]
) -> Task:
    """The task with the features of its images."""
    device = task.texts.features.device
    found = open_features(method, sources.features, sources.texts)
    rows = found.rows.with_row_index("row")
    if sources.sample is not None:
        rows = _find_sample(rows, sources.sample)
    train = _select(found, rows, learn_from, device, labels, views=method.reads_views)
    if sources.choose_on:
        found = open_features(method, sources.choose_on, sources.texts)
        # A list of picks may train on images of the validation split.
        learned = rows.filter(split="train").select("image").unique()
        whole = found.rows.with_row_index("row")
        rows = whole.join(learned, on="image", how="anti", maintain_order="left")
    val = _select(found, rows, [sources.split], device, labels, views=False)
    return replace(task, train=train, val=val)


def open_features(method: Method, files: Sequence[str | Path], texts: str | Path) -> FeatureSet:
    """Open features of the same backbone and classes as the texts."""
    found = FeatureSet(files, spatial=method.reads_spatial)
    check_origin(files[0], found.metadata, texts, read_metadata(texts))
    check_labels(files[0], found.rows, texts, len(read_class_names(texts)))
    return found


def _find_sample(rows: pl.DataFrame, sample: str | Path) -> pl.DataFrame:
    """The rows of the sampled images, in sampled order, each in its split."""
    wanted = read_parquet(sample, "image", "split")
    missing = wanted.join(rows, on="image", how="anti")
    if not missing.is_empty():
        raise FeatureError(
            f"{sample}: there are no features of {missing['image'][0]}. Delete it and run again."
        )
    rows = rows.rename({"split": "fold"})
    return wanted.join(rows, on="image", maintain_order="left_right")


def _select(
    found: FeatureSet,
    rows: pl.DataFrame,  # of `found`, with their numbers
    splits: Sequence[str],
    device: torch.device,
    labels: range,
    *,
    views: bool,
) -> Samples | None:
    """The images of splits with these labels, counted from 0, in sampled order; None if none."""
    wanted = pl.col("label").is_between(labels.start, labels.stop - 1)
    numbered = rows.filter(wanted, pl.col("split").is_in(splits))
    images = numbered.filter(view=0).height
    if not images:
        return None
    taken = numbered if views else numbered.filter(view=0)
    features = found.take(taken["row"].to_list())
    shape = (images, -1)  # the views of an image stand together
    spatial = features.spatial
    return Samples(
        features.pooled.to(device, torch.float32).unflatten(0, shape),
        None if spatial is None else _place(spatial, device).unflatten(0, shape),
        features.labels.unflatten(0, shape)[:, 0].to(device) - labels.start,
        folds=_number_folds(taken, images, device),
    )


def _number_folds(rows: pl.DataFrame, images: int, device: torch.device) -> Tensor | None:
    """A number for the fold of each image; None where they are in none."""
    if "fold" not in rows.columns:
        return None
    numbers = rows["fold"].rank("dense").cast(pl.Int64).to_numpy(writable=True)
    return torch.from_numpy(numbers).view(images, -1)[:, 0].to(device)


def _place(spatial: Tensor, device: torch.device) -> Tensor:
    """Put features on the device if half of its free memory takes them, else in main memory."""
    if spatial.nbytes <= free_memory(device) // 2:
        return spatial.to(device)
    logger.info("Streaming %.1f GB of spatial features from main memory.", spatial.nbytes / 1e9)
    return spatial


def _open_images(
    method: Method, task: Task, sources: Sources, labels: range, learn_from: Sequence[str]
) -> Task:
    """The task with the sampled images themselves."""
    assert sources.sample is not None
    assert sources.images is not None
    label, rows = pl.col("label"), read_parquet(sources.sample)
    check_labels(sources.sample, rows, sources.texts, len(read_class_names(sources.texts)))
    rows = rows.filter(label.is_between(labels.start, labels.stop - 1))
    rows = rows.with_columns(label - labels.start)
    settings: Any = method.settings
    options = {
        "images": sources.images, "scale": settings.crop, "flip": settings.mirror,
        "seed": task.seed, "exif": read_exif(sources.texts),
    }  # fmt: skip
    train, val = (
        _open(cast(Towers, sources.tower), rows.filter(pl.col("split").is_in(splits)), **options,
              test_only=test_only)
        for splits, test_only in ((learn_from, False), (["val"], True))
    )  # fmt: skip
    return replace(task, train=train, val=val)


def _open(towers: Towers, rows: pl.DataFrame, **options: Any) -> Samples | None:
    """The images of some rows of a manifest, in memory; None of no rows."""
    if rows.is_empty():
        return None
    pictures = towers.open_pictures(rows["image"].to_list(), **options)
    labels = torch.from_numpy(rows["label"].cast(pl.Int64).to_numpy(writable=True))
    parts = torch.arange(len(rows)).split(BATCH)
    pooled = torch.cat([towers.encode_frozen(pictures.views(part, 0)) for part in parts])
    return Samples(pooled[:, None], None, labels.to(towers.device), pictures)


Batches = Iterator[tuple[pl.DataFrame, Images]]  # the rows of a manifest, and their images


def read_batches(images: FeatureSet, labels: range, device: torch.device) -> Batches:
    """The batches of a test set in the test view, without the images of other classes."""
    for batch in images:
        label = batch.rows["label"]
        kept = label.is_between(labels.start, labels.stop - 1) & (batch.rows["view"] == 0)
        if kept.any():
            rows, found = take_images(batch.rows, Images(batch.pooled, batch.spatial), kept)
            spatial = None if found.spatial is None else found.spatial.to(device, torch.float32)
            yield rows, Images(found.pooled.to(device, torch.float32), spatial)


def read_test_images(
    towers: Towers,
    texts: str | Path,
    manifest: str | Path,
    labels: range,
    folder: str,
    workers: int,
) -> Batches:
    """The batches of the test images themselves."""
    known = pl.col("label").is_between(labels.start, labels.stop - 1)
    rows = read_parquet(manifest).filter(known, is_tested())
    exif = read_exif(texts)
    batches = towers.read_test(rows, folder, batch_size=BATCH, exif=exif, workers=workers)
    for number, pixels in enumerate(batches):
        pooled = towers.encode_frozen(pixels)
        yield rows.slice(number * BATCH, BATCH), Images(pooled, None, pixels=pixels)


def take_images(rows: pl.DataFrame, images: Images, kept: pl.Series) -> tuple[pl.DataFrame, Images]:
    """Some of the images."""
    if kept.all():
        return rows, images
    places = torch.from_numpy(kept.to_numpy(writable=True)).to(images.pooled.device)
    spatial, pixels = (
        None if part is None else part[places] for part in (images.spatial, images.pixels)
    )
    return rows.filter(kept), Images(images.pooled[places], spatial, pixels=pixels)

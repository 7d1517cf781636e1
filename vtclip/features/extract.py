"""Features of class names, of the shots of a seed, and of the test images."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from vtclip.features.backbone import Backbone
from vtclip.features.store import write_texts, writing_features
from vtclip.features.views import Views
from vtclip.logs import progress

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
    classes = pl.read_parquet(manifest, columns=["label", "class_name"]).unique().sort("label")
    names = classes["class_name"].to_list()
    texts = backbone.encode_classes(names, templates)
    metadata = describe(backbone) | {"templates": list(templates)}
    write_texts(destination, names, texts, metadata)


def extract_shots(
    backbone: Backbone,
    shots: Sequence[str | Path],
    images: str | Path,
    destination: str | Path,
    *,
    views: int,
    scale: tuple[float, float],
    flip: bool,
    seed: int,
    batch_size: int,
    workers: int,
) -> None:
    """Write the features of all images that any number of shots of one seed uses.

    Training images come in all views, validation images in the test view.

    Args:
        backbone: the frozen CLIP.
        shots: the Parquet files of this seed's shots.
        images: the folder that the image paths start from.
        destination: the Parquet file to write.
        views: random views beside the test view.
        scale: smallest and largest share of the image's area in a random view.
        flip: whether half of the random views are mirrored.
        seed: of the random views.
        batch_size: views a forward pass.
        workers: processes that decode images.
    """
    rows = pl.concat([pl.read_parquet(path) for path in shots]).unique(maintain_order=True)
    train = rows.filter(split="train").join(pl.DataFrame({"view": range(views + 1)}), how="cross")
    val = rows.filter(split="val").with_columns(view=pl.lit(0, pl.Int64))
    look = Views(backbone.preprocess, backbone.image_size, scale=scale, flip=flip, seed=seed)
    metadata = {"views": views, "scale": list(scale), "flip": flip, "seed": seed}
    _extract(backbone, pl.concat([train, val]), look, images, destination, metadata,
             batch_size=batch_size, workers=workers)  # fmt: skip


def extract_test(
    backbone: Backbone,
    manifest: str | Path,
    images: str | Path,
    destination: str | Path,
    *,
    batch_size: int,
    workers: int,
) -> None:
    """Write the features of a dataset's test images, in the test view.

    Args:
        backbone: the frozen CLIP.
        manifest: the dataset's manifest.
        images: the folder that the image paths start from.
        destination: the Parquet file to write.
        batch_size: images a forward pass.
        workers: processes that decode images.
    """
    rows = pl.read_parquet(manifest).filter(split="test").with_columns(view=pl.lit(0, pl.Int64))
    look = Views(backbone.preprocess, backbone.image_size, scale=(1.0, 1.0), flip=False, seed=0)
    _extract(backbone, rows, look, images, destination, {}, batch_size=batch_size, workers=workers)


def describe(backbone: Backbone) -> dict[str, Any]:
    """What makes the features of this backbone, for a file's metadata."""
    return {
        "backbone": backbone.name,
        "pretrained": backbone.pretrained,
        "weights_sha256": backbone.weights_sha256,
        "spatial": backbone.spatial,
        "image_size": backbone.image_size,
        "logit_scale": backbone.logit_scale,
    }


class _Pictures(Dataset[torch.Tensor]):
    """The pixels of each row's view."""

    def __init__(self, rows: pl.DataFrame, look: Views, images: Path) -> None:
        self.names, self.views = rows["image"].to_list(), rows["view"].to_list()
        self.look, self.images = look, images

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> torch.Tensor:
        with Image.open(self.images / self.names[row]) as picture:
            return self.look(picture.convert("RGB"), self.names[row], self.views[row])


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
    pictures = _Pictures(rows, look, Path(images))
    loader = DataLoader(
        pictures, batch_size, num_workers=workers, pin_memory=backbone.device.type == "cuda"
    )
    batches: Iterator[torch.Tensor] = progress(loader, what="batches", total=len(loader))
    with writing_features(destination, describe(backbone) | metadata) as writer:
        for batch, pixels in enumerate(batches):
            pooled, spatial = backbone.encode_images(pixels.to(backbone.device))
            writer.write(rows.slice(batch * batch_size, batch_size), pooled, spatial)
    logger.info("%d views of %d images.", rows.height, rows["image"].n_unique())

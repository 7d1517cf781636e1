"""What a folder of one's own holds: classes, counts, damaged images and equal ones."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.data.images import PictureError, open_picture
from vtclip.data.layouts import read_layout
from vtclip.files import sha256_of
from vtclip.runtime.job import progress

DECODERS = 4  # threads


@dataclass(frozen=True)
class Survey:
    """What was found in a folder.

    Attributes:
        manifest: image, label, class_name, split; all images.
        damaged: image -> why it cannot be read.
        equal: groups of images with the same content.
    """

    manifest: pl.DataFrame
    damaged: Mapping[str, str]
    equal: list[list[str]]

    def count(self) -> pl.DataFrame:
        """class_name and the numbers of readable images: train, val, test; by label."""
        good = self.manifest.filter(~pl.col("image").is_in(list(self.damaged)))
        numbers = [
            (pl.col("split") == split).sum().alias(split) for split in ("train", "val", "test")
        ]
        counted = good.group_by("label").agg(*numbers)
        classes = self.manifest.select("label", "class_name").unique().sort("label")
        return classes.join(counted, on="label", how="left").fill_null(0).sort("label")

    def mixed(self) -> list[list[str]]:
        """The groups of equal images that stand in several splits or classes."""
        places = {image: (label, split) for image, label, _, split in self.manifest.iter_rows()}
        return [group for group in self.equal if len({places[image] for image in group}) > 1]


def survey_folder(dataset: Mapping[str, Any], folder: str | Path) -> Survey:
    """Look at all images of a folder of class folders; each is decoded once.

    What is skipped is named on the terminal.

    Args:
        dataset: the dataset's file, as plain values.
        folder: the folder.

    Raises:
        ManifestError: it is no folder of class folders, or could be read in two ways.
    """
    manifest = read_layout(dataset, folder)
    images = manifest["image"].to_list()
    with ThreadPoolExecutor(DECODERS) as decoders:
        reasons = list(
            progress(
                decoders.map(lambda image: _find_damage(Path(folder, image)), images),
                what="images read",
                total=len(images),
            )
        )
    damaged = {image: why for image, why in zip(images, reasons, strict=True) if why}
    return Survey(manifest, damaged, _find_equal(Path(folder), images))


def _find_damage(path: Path) -> str:
    """Why an image cannot be read; "" for one that can."""
    try:
        open_picture(path)
    except PictureError as error:
        return str(error)
    return ""


def _find_equal(folder: Path, images: list[str]) -> list[list[str]]:
    """Groups of images with the same content: only those of the same size are read."""
    by_size: dict[int, list[str]] = {}
    for image in images:
        by_size.setdefault((folder / image).stat().st_size, []).append(image)
    by_content: dict[str, list[str]] = {}
    for alike in by_size.values():
        if len(alike) > 1:
            for image in alike:
                by_content.setdefault(sha256_of(folder / image), []).append(image)
    return [group for group in by_content.values() if len(group) > 1]

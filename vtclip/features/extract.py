"""Features of class names, of the sampled images of a run, and of the test images."""

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NotRequired, TypedDict, Unpack

import polars as pl
import torch

from vtclip.backbones.backbone import Backbone, average_texts, fill_templates
from vtclip.config.dataset import Exif
from vtclip.data.descriptions import Sentences
from vtclip.features.loading import Pictures, explaining_workers, load_batches
from vtclip.features.store import open_features_writer
from vtclip.features.texts import write_texts
from vtclip.features.views import Views
from vtclip.files import sha256_of, write_receipt
from vtclip.parquet import read_parquet
from vtclip.runtime.devices import is_out_of_memory
from vtclip.runtime.job import progress

logger = logging.getLogger(__name__)


class Decoding(TypedDict):
    """The options that decode and encode images."""

    batch_size: int  # views per forward pass
    workers: int  # processes that decode images
    exif: NotRequired[Exif]  # "upright" to turn images as their EXIF orientation says


class RandomViews(Decoding):
    """The cached views of a training image, beside the test view."""

    number: int
    scale: tuple[float, float]  # smallest and largest share of the image's area
    flip: bool  # mirror half of them
    made_on: NotRequired[str]  # "device" to cut and resize them there; otherwise Pillow does


# One more template where a dataset has several, for the methods that start from the mean of raw
# texts: the authors of TaskRes and CLAP add it to ImageNet's seven.
PLAIN = "a photo of a {}."


def extract_texts(
    backbone: Backbone,
    manifest: str | Path,
    templates: Sequence[str],
    destination: str | Path,
    *,
    exif: Exif = "ignore",  # of the dataset, for the record: classifying reads it there
    sentences: Mapping[str, Any] | None = None,  # the fields of `Sentences`
) -> None:
    """Write the text features of a dataset's classes, of templates, descriptions or both.

    Raises:
        ConfigError: as of `Sentences.read`.
        PromptError: a prompt or sentence that is longer than the text tower reads.
    """
    classes = read_parquet(manifest, "label", "class_name").unique().sort("label")
    names = classes["class_name"].to_list()
    metadata = describe(backbone) | {"templates": list(templates), "exif": exif}
    if sentences is None:
        further = [PLAIN] if len(templates) > 1 and PLAIN not in templates else []
        encoded = backbone.encode_prompts(names, [*templates, *further])  # (K, P, D)
        means, prompts = encoded.mean(dim=1), encoded[:, : len(templates)]
        texts = average_texts(prompts)
    else:
        source = Sentences(**sentences)
        texts, means, prompts = _encode_sentences(backbone, names, templates, source)
        metadata["descriptions"] = {**sentences, "sha256": sha256_of(source.file)}
        metadata["probe"] = backbone.encode_classes(names[:1], templates)[0].tolist()
    write_texts(destination, names, texts, metadata, means=means, prompts=prompts)
    write_receipt(destination)


def _encode_sentences(
    backbone: Backbone, names: Sequence[str], templates: Sequence[str], source: Sentences
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Class texts (K, D), means of raw texts (K, D), and the first raw texts of each (K, P, D).

    A template counts as much as a sentence. P is the smallest number of texts of a class.
    """
    filled = fill_templates(templates if source.with_templates else [], names)
    groups = [[*own, *more] for own, more in zip(filled, source.read(names), strict=True)]
    features = backbone.encode_groups(names, groups)  # K of (P, D)
    shortest = min(map(len, features))
    return (
        torch.cat([average_texts(each[None]) for each in features]),
        torch.stack([each.mean(dim=0) for each in features]),
        torch.stack([each[:shortest] for each in features]),
    )


def extract_shots(
    backbone: Backbone,
    shots: str | Path,
    images: str | Path,  # the folder that the image paths start from
    destination: str | Path,
    *,
    seed: int,  # of the random views
    **options: Unpack[RandomViews],
) -> None:
    """Write the features of the sampled images of one run, in sampled order.

    Training images have all views, validation images the test view. An ExtractionError names all
    images that cannot be read.
    """
    rows = read_parquet(shots)
    train = _in_all_views(rows.filter(split="train"), options["number"])
    rows = pl.concat([train, _in_all_views(rows.filter(split="val"))])
    _extract_views(backbone, rows, images, destination, seed, options)


def extract_fold(
    backbone: Backbone,
    manifest: str | Path,
    images: str | Path,
    destination: str | Path,
    *,
    fold: int,  # counted from 1
    **options: Unpack[RandomViews],
) -> None:
    """Write the features of the images of one fold of a manifest, as `extract_shots` does.

    They serve all heads that learn from them, and, in the test view, those that predict them.
    """
    rows = _in_all_views(read_parquet(manifest).filter(split=f"fold{fold}"), options["number"])
    _extract_views(backbone, rows, images, destination, 0, options)


def extract_test(
    backbone: Backbone,
    manifest: str | Path,
    images: str | Path,
    destination: str | Path,
    *,
    shard: tuple[int, int] = (1, 1),  # (i, n): the i-th of n parts of nearly the same size
    **options: Unpack[Decoding],
) -> None:
    """Write the features of a dataset's test images in the test view, as `extract_shots` does."""
    rows = read_parquet(manifest).filter(split="test")
    start, end = (rows.height * part // shard[1] for part in (shard[0] - 1, shard[0]))
    rows, metadata = _in_all_views(rows[start:end]), {"shard": list(shard)}
    _extract(backbone, rows, images, destination, metadata, options)


def extract_validation(
    backbone: Backbone,
    manifest: str | Path,
    images: str | Path,
    destination: str | Path,
    **options: Unpack[Decoding],
) -> None:
    """Write the features of a dataset's whole validation split, as `extract_test` does."""
    rows = _in_all_views(read_parquet(manifest).filter(split="val"))
    _extract(backbone, rows, images, destination, {}, options)


def _in_all_views(rows: pl.DataFrame, number: int = 0) -> pl.DataFrame:
    """Each image in the test view and in so many random ones."""
    views = pl.DataFrame({"view": range(number + 1)})
    return rows.join(views, how="cross", maintain_order="left_right")


def _extract_views(
    backbone: Backbone,
    rows: pl.DataFrame,
    images: str | Path,
    destination: str | Path,
    seed: int,
    options: RandomViews,
) -> None:
    drawn = {"scale": options["scale"], "flip": options["flip"], "seed": seed}
    metadata: dict[str, Any] = {"views": options["number"]} | drawn
    if options.get("made_on") == "device":  # else not recorded: files stay as they were without it
        metadata["made_on"] = "device"
    _extract(backbone, rows, images, destination, metadata, options, **drawn)


def describe(backbone: Backbone) -> dict[str, Any]:
    """Describe what makes a backbone's features, for a file's metadata."""
    return {
        "backbone": backbone.name,
        "pretrained": backbone.pretrained,
        "weights_sha256": backbone.weights_sha256,
        "precision": backbone.precision,
        "spatial": backbone.spatial,
        "has_pooled_token": backbone.has_pooled_token,
        "image_size": backbone.image_size,
        "logit_scale": backbone.logit_scale,
        "logit_bias": backbone.logit_bias,
        "device_kind": backbone.device.type,
        "versions": {name: version(name) for name in ("torch", "open_clip_torch")},
    }


def _extract(
    backbone: Backbone,
    rows: pl.DataFrame,
    images: str | Path,
    destination: str | Path,
    metadata: dict[str, Any],
    options: Decoding,
    **drawn: Any,  # options of `Views`
) -> None:
    """Decode, encode and write batch by batch; a few batches are in memory at any time.

    Encoding a batch overlaps with decoding the next ones and with writing the one before.
    """
    transform = Views(backbone.preprocess, backbone.image_size, **drawn)
    exif, batch_size = options.get("exif", "ignore"), options["batch_size"]
    device = backbone.device if "made_on" in metadata else None
    pictures = Pictures(rows, transform, Path(images), exif=exif, device=device)
    batches = load_batches(pictures, batch_size, workers=options["workers"])
    total = -(-rows.height // batch_size)
    started, encode = time.perf_counter(), Encoder(backbone)
    described = describe(backbone) | {"exif": exif} | metadata
    with (
        explaining_workers(),
        open_features_writer(destination, described) as writer,
        ThreadPoolExecutor(1) as thread,
    ):
        written = thread.submit(lambda: None)
        for batch, decoded in enumerate(progress(batches, what="batches", total=total)):
            encoded = encode(transform.normalize(decoded.to(backbone.device)))
            written.result()
            part = rows.slice(batch * batch_size, batch_size)
            written = thread.submit(writer.write, part, *encoded)
        written.result()
    write_receipt(destination)
    rate = rows.height / (time.perf_counter() - started)
    logger.info("%d views of %d images, %.1f per second.", rows.height, len(pictures), rate)


class Encoder:
    """Encodes images in parts that fit the GPU's memory, and remembers the size that does."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.largest: int | None = None  # images in a pass; None until memory was too small

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode pixels (B, 3, H, W); returns pooled (B, D) and spatial (B, N, width)."""
        encoded = []
        while len(pixels):
            part = pixels[: self.largest]
            try:
                sent = part.to(self.backbone.device, non_blocking=True)
                encoded.append(self.backbone.encode_images(sent))
                pixels = pixels[len(part) :]
                continue
            except RuntimeError as error:
                if len(part) == 1 or not is_out_of_memory(error):
                    raise
            # After the `except`: what it caught refers to the tensors of that pass.
            self.largest = half = -(-len(part) // 2)
            logger.warning("Out of GPU memory with %d images: now %d at a time.", len(part), half)
            with suppress(AttributeError):  # a CPU has no cache to empty
                getattr(torch, self.backbone.device.type).empty_cache()
        pooled, spatial = zip(*encoded, strict=True)
        return torch.cat(pooled), torch.cat(spatial)

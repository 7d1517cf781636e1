"""The attention of VT-CLIP's class texts over test images, as in the paper's figure."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from vtclip.backbones.backbone import Backbone
from vtclip.data.images import open_picture
from vtclip.features.texts import read_class_names, read_classes
from vtclip.inference.classifier import Classifier, Prediction, round_as_stored
from vtclip.methods.vt_clip import VTClip, VTClipSettings
from vtclip.parquet import read_parquet
from vtclip.results.figures import drawing
from vtclip.results.tables import one_line
from vtclip.tensors import read_head

PICTURES = 8  # test images that are drawn


class AttentionMaps(NamedTuple):
    """The attention of two classes' texts over an image."""

    pixels: Tensor  # (H, W, 3) in 0 .. 1, as the backbone sees the image
    label: str  # name of the true class
    other: str  # name of the predicted class or, where the prediction is right, of the second
    right: bool  # true for a right prediction
    of_label: Tensor  # (g, g), times the number of tokens: an even share is 1
    of_other: Tensor  # (g, g)


def plot_attention(
    backbone: Backbone,  # on the CPU
    settings: dict[str, Any],  # VT-CLIP's, as plain values
    texts: str | Path,
    head: str | Path,
    predictions: str | Path,
    images: str | Path,  # the folder that the image paths start from
    destination: str | Path,  # its suffix becomes .svg and .png
    *,
    shots: int,
    seed: int,
) -> None:
    """Draw what the true and the predicted class's text attend to, for some test images.

    Half of the images are classified rightly and half wrongly, where there are as many. Beside a
    right prediction stands the second class.
    """
    run = read_parquet(predictions).filter(shots=shots, seed=seed)
    maps = find_maps(backbone, settings, texts, head, choose_rows(run, PICTURES), images)
    rows = math.ceil(len(maps) / 2)
    with drawing(destination, 9.6, 1.75 * rows + 0.4) as figure:
        _draw_maps(figure.subplots(rows, 6, squeeze=False).reshape(-1, 3), maps)


@torch.inference_mode()
def draw_attention(classifier: Classifier, prediction: Prediction, destination: str | Path) -> None:
    """Draw what the texts of an image's two most probable classes attend to, as .svg and .png."""
    assert prediction.probabilities is not None
    pixels = classifier.decode(prediction.image)
    _, spatial = classifier.encode(pixels[None])
    guide, texts = classifier.guided_head().guide, classifier.texts.features
    maps = _to_maps(guide.attention(texts, round_as_stored(spatial))[0].cpu())  # (K, g, g)
    best, second = prediction.probabilities.topk(2).indices.tolist()
    names = classifier.class_names[best], classifier.class_names[second]
    shown = AttentionMaps(_to_picture(pixels), *names, True, maps[best], maps[second])
    with drawing(destination, 5.4, 2.1) as figure:
        _draw_maps(figure.subplots(1, 3, squeeze=False), [shown])


def choose_rows(run: pl.DataFrame, number: int) -> pl.DataFrame:
    """Rows of a run's predictions, evenly spaced: half of them right, half of them wrong."""
    hit = pl.col("prediction") == pl.col("label")
    parts = []
    for rows, wanted in ((run.filter(hit), number // 2), (run.filter(~hit), number - number // 2)):
        taken = min(wanted, rows.height)
        parts.append(rows[[rows.height * place // taken for place in range(taken)]])
    return pl.concat(parts)


@torch.inference_mode()
def find_maps(
    backbone: Backbone,
    settings: dict[str, Any],
    texts: str | Path,
    head: str | Path,
    rows: pl.DataFrame,  # image, label, top (the best classes, best first)
    images: str | Path,
) -> list[AttentionMaps]:
    """The attention of the true and the predicted class's text, for each of some images."""
    names = read_class_names(texts)
    classes, made = read_classes(texts)
    method = VTClip(VTClipSettings.model_validate(settings))
    classifier = method.classifier(read_head(head), classes).eval()
    exif = made.get("exif", "ignore")
    pixels = [
        backbone.preprocess(open_picture(Path(images, image), exif=exif)) for image in rows["image"]
    ]
    _, spatial = backbone.encode_images(torch.stack(pixels))
    maps = _to_maps(classifier.guide.attention(classes.features, spatial.float()))  # (B, K, g, g)
    found = []
    for place, (label, top) in enumerate(rows.select("label", "top").iter_rows()):
        right = top[0] == label
        other = top[1] if right else top[0]
        picture = _to_picture(pixels[place])
        pair = maps[place, label], maps[place, other]
        found.append(AttentionMaps(picture, names[label], names[other], right, *pair))
    return found


def _to_maps(attention: Tensor) -> Tensor:
    """(..., N) -> (..., g, g): the pooled token, if there is one, is no place in the image."""
    tokens = attention.shape[-1]
    side = math.isqrt(tokens)
    places = attention[..., tokens - side * side :]
    return tokens * places.unflatten(-1, (side, side))


def _to_picture(pixels: Tensor) -> Tensor:
    """Normalised (3, H, W) -> (H, W, 3) in 0 .. 1."""
    low, high = pixels.amin(), pixels.amax()
    return ((pixels - low) / (high - low).clamp_min(1e-6)).permute(1, 2, 0)


def _draw_maps(panels: np.ndarray, maps: Sequence[AttentionMaps]) -> None:
    """Draw each image, and twice in colour where a text attends more than evenly.

    `panels` (images or more, 3) are matplotlib's.
    """
    for panel in panels.flat:
        panel.set_axis_off()
    for row, shown in zip(panels, maps, strict=False):
        colour = "black" if shown.right else "firebrick"
        rank = "second" if shown.right else "predicted"
        label, other = one_line(shown.label), one_line(shown.other)
        titles = (label, f"text “{label}”", f"text “{other}” ({rank})")
        for panel, title in zip(row, titles, strict=True):
            panel.imshow(shown.pixels.mean(dim=-1).numpy(), cmap="gray", vmin=0, vmax=1)
            panel.set_title(title, fontsize=8, color=colour)
        pair = torch.stack([shown.of_label, shown.of_other])
        smooth = F.interpolate(pair[None], shown.pixels.shape[:2], mode="bilinear")[0]
        strongest = max(float(pair.max()) - 1, 1e-6)
        for panel, share in zip(row[1:], ((smooth - 1) / strongest).clamp(0, 1), strict=True):
            panel.imshow(share.numpy(), cmap="autumn", vmin=0, vmax=1, alpha=0.8 * share.numpy())

"""Where texts look: the attention of VT-CLIP over test images, as the paper's figure shows it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor

from vtclip.backbones.backbone import Backbone
from vtclip.data.images import open_picture
from vtclip.features.texts import read_class_names, read_classes
from vtclip.files import read_head
from vtclip.methods.vt_clip import VTClip, VTClipSettings
from vtclip.parquet import read_parquet
from vtclip.results.figures import drawing
from vtclip.results.tables import one_line


@dataclass(frozen=True)
class Look:
    """One image and where two texts look on it.

    Attributes:
        pixels: (H, W, 3) in 0 .. 1, as the backbone sees the image.
        label: the class's name.
        other: the predicted class's name or, where the prediction is right, that of the second.
        right: whether the prediction is right.
        at_label: (g, g), the attention of the class's text, times the number of tokens: 1 is
            what a text that looks everywhere alike gives.
        at_other: (g, g), the same of the other class's text.
    """

    pixels: Tensor
    label: str
    other: str
    right: bool
    at_label: Tensor
    at_other: Tensor


def plot_attention(
    backbone: Backbone,
    settings: dict[str, Any],
    texts: str | Path,
    head: str | Path,
    predictions: str | Path,
    images: str | Path,
    destination: str | Path,
    *,
    shots: int,
    seed: int,
    number: int = 8,
) -> None:
    """Draw what the true and the predicted class's text look at, for some test images.

    Half of the images are classified rightly and half wrongly, where there are as many. Beside a
    right prediction stands the second class.

    Args:
        backbone: the frozen CLIP, on the CPU.
        settings: VT-CLIP's settings, as plain values.
        texts: the dataset's text features.
        head: the head of one run.
        predictions: VT-CLIP's predictions on the dataset.
        images: the folder that the image paths start from.
        destination: the path to write to, without a suffix; .svg and .png are written.
        shots, seed: the run.
        number: how many images.
    """
    run = read_parquet(predictions).filter(shots=shots, seed=seed)
    looks = find_looks(backbone, settings, texts, head, choose_rows(run, number), images)
    rows = math.ceil(len(looks) / 2)
    with drawing(destination, 9.6, 1.75 * rows + 0.4) as figure:
        panels = figure.subplots(rows, 6, squeeze=False)
        for panel in panels.flatten():
            panel.set_axis_off()
        for place, look in enumerate(looks):
            row, side = divmod(place, 2)
            _draw_look(list(panels[row, 3 * side : 3 * side + 3]), look)


def draw_attention(
    pixels: Tensor,
    attention: Tensor,
    top: Sequence[int],
    class_names: Sequence[str],
    destination: str | Path,
) -> None:
    """Draw what the best and the second class's text look at in one image.

    Args:
        pixels: (3, H, W), as the backbone sees the image.
        attention: (K, N), as `VisualGuidedText.attention` gives it.
        top: labels, the most probable first.
        class_names: K names, by label.
        destination: the path to write to, without a suffix; .svg and .png are written.
    """
    maps = _to_maps(attention)
    best, second = top[:2]
    names = class_names[best], class_names[second]
    look = Look(_to_picture(pixels), *names, True, maps[best], maps[second])
    with drawing(destination, 5.4, 2.1) as figure:
        panels = list(figure.subplots(1, 3))
        for panel in panels:
            panel.set_axis_off()
        _draw_look(panels, look)


def choose_rows(run: pl.DataFrame, number: int) -> pl.DataFrame:
    """Rows of a run's predictions, evenly spaced: half of them right, half of them wrong."""
    hit = pl.col("prediction") == pl.col("label")
    parts = []
    for rows, wanted in ((run.filter(hit), number // 2), (run.filter(~hit), number - number // 2)):
        taken = min(wanted, rows.height)
        parts.append(rows[[rows.height * place // taken for place in range(taken)]])
    return pl.concat(parts)


@torch.inference_mode()
def find_looks(
    backbone: Backbone,
    settings: dict[str, Any],
    texts: str | Path,
    head: str | Path,
    rows: pl.DataFrame,
    images: str | Path,
) -> list[Look]:
    """The attention of two texts an image: the true and the predicted class's.

    Args:
        rows: image, label, top (the best classes, best first).
        (the others as in `plot_attention`)
    """
    names = read_class_names(texts)
    classes, _ = read_classes(texts)
    method = VTClip(VTClipSettings.model_validate(settings))
    classifier = method.classifier(read_head(head), classes).eval()
    pixels = torch.stack(
        [backbone.preprocess(open_picture(Path(images) / image)) for image in rows["image"]]
    )
    _, spatial = backbone.encode_images(pixels)
    attention = classifier.guide.attention(classes.features, spatial.float())  # (B, K, N)
    maps = _to_maps(attention)
    looks = []
    for place, (label, top) in enumerate(rows.select("label", "top").iter_rows()):
        right = top[0] == label
        other = top[1] if right else top[0]
        picture = _to_picture(pixels[place])
        at_label, at_other = maps[place, label], maps[place, other]
        looks.append(Look(picture, names[label], names[other], right, at_label, at_other))
    return looks


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


def _draw_look(panels: Sequence[Axes], look: Look) -> None:
    """The image, and the same twice under colour where a text looks more than evenly."""
    colour = "black" if look.right else "firebrick"
    rank = "second" if look.right else "predicted"
    label, other = one_line(look.label), one_line(look.other)
    titles = (label, f"“{label}” looks", f"“{other}” ({rank}) looks")
    strongest = float(torch.stack([look.at_label, look.at_other]).max())
    for panel, title in zip(panels, titles, strict=True):
        panel.imshow(look.pixels.mean(dim=-1).numpy(), cmap="gray", vmin=0, vmax=1)
        panel.set_title(title, fontsize=8, color=colour)
    for panel, attention in zip(panels[1:], (look.at_label, look.at_other), strict=True):
        size = look.pixels.shape[:2]
        smooth = F.interpolate(attention[None, None], size, mode="bilinear")[0, 0]
        share = ((smooth - 1) / max(strongest - 1, 1e-6)).clamp(0, 1).numpy()
        panel.imshow(share, cmap="autumn", vmin=0, vmax=1, alpha=0.8 * share)

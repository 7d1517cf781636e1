"""A small CLIP, pre-trained in about a minute on glyphs and their captions.

    python -m vtclip.demo.pretrain

trains it as the embedded experiment does, and writes the trained weights to TRAINED_GLYPHS.
"""

import json
import logging
import math
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from vtclip.demo.datasets import NAMES, PRETRAINING_FONTS, distort, draw_sheet
from vtclip.files import BLANK, MARK, check_seal, write_receipt
from vtclip.paths import TRAINED_GLYPHS
from vtclip.runtime.job import progress
from vtclip.tensors import write_tensors

logger = logging.getLogger(__name__)

CAPTIONS = ("the {}", "a blurry {}", "a noisy {}", "a bold {}", "a thin {}")
PLAIN, BLURRY, NOISY, BOLD, THIN = range(len(CAPTIONS))
LARGEST_SCALE = 100.0  # CLIP's own bound on exp(logit_scale)

ARCHITECTURE = Path("config/backbones/glyph-clip.json")
RECIPE: dict[str, Any] = {"steps": 1500, "learning_rate": 7e-4, "seed": 0}
# 49,408 rows of which the captions use 80. The frozen others are drawn again from the seed, which
# may differ in the last bit on another processor: so the used ones are in the file too.
EMBEDDING = "token_embedding.weight"
USED, ROWS = "captions.tokens", "captions.embedding"


class GlyphBatches:
    """Batches of every character once, so that no two captions of a batch are the same."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        sheet = draw_sheet(NAMES, PRETRAINING_FONTS)  # (C, fonts, H, W)
        bold = F.max_pool2d(sheet, 3, stride=1, padding=1)
        thin = -F.max_pool2d(-sheet, 3, stride=1, padding=1)
        self.strokes = {PLAIN: sheet, BLURRY: sheet, NOISY: sheet, BOLD: bold, THIN: thin}

    def draw(self) -> tuple[Tensor, Tensor]:
        """Pixels (C, 32, 32) float32 in 0 .. 1, and the number of the caption of each (C,)."""
        size = len(NAMES)
        style = torch.randint(len(CAPTIONS), (size,), generator=self.generator)
        font = torch.randint(len(PRETRAINING_FONTS), (size,), generator=self.generator)
        glyphs = [self.strokes[int(style[row])][row, font[row]] for row in range(size)]  # of (H, W)
        pixels = distort(torch.stack(glyphs), self.generator)
        # Half of the strokes are coarse as well: coarse digits need not be called blurry.
        coarse = torch.rand(size, 1, 1, generator=self.generator) < 0.5
        each = style[:, None, None]  # (C, 1, 1)
        pixels = torch.where(coarse & (each != NOISY), _coarsen(pixels, 12), pixels)
        pixels = torch.where(each == BLURRY, _coarsen(pixels, 8), pixels)
        noise = 0.25 * torch.randn(pixels.shape, generator=self.generator)
        pixels = pixels + noise * (each == NOISY)
        return pixels.clamp(0, 1), style


def pretrain_backbone(
    architecture: str | Path,
    destination: str | Path,
    *,
    trained: str | Path,
    steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Write the weights of a CLIP that was trained from scratch on glyphs.

    Args:
        architecture: the model's configuration, in open_clip's JSON form; images of 32 pixels.
        destination: the safetensors file to write.
        trained: a file of `write_trained`. Its weights are taken if architecture, steps, learning
            rate and seed are the same, and else a new CLIP is trained.
        steps: optimiser steps, each on one batch of every character.
        learning_rate: its largest value; warm-up over a tenth of the steps, then cosine.
        seed: of the initial weights and of the batches.
    """
    recipe = describe_recipe(architecture, steps=steps, learning_rate=learning_rate, seed=seed)
    model = _initial_model(architecture, seed)
    check_seal(trained, "Restore it from the project.")
    with safe_open(trained, "pt") as file:
        is_trained = (file.metadata() or {}).get("recipe") == recipe
    if is_trained:
        logger.info("Taking the weights of %s.", trained)
        weights = load_file(trained)
        embedding = model.state_dict()[EMBEDDING].clone()
        embedding[weights.pop(USED)] = weights.pop(ROWS)
        weights[EMBEDDING] = embedding
    else:
        pretrain(model, Path(architecture).stem, steps, learning_rate, seed)
        weights = model.state_dict()
    write_tensors(destination, weights)
    write_receipt(destination)


def write_trained(weights: dict[str, Tensor], model: str, recipe: str, destination: Path) -> None:
    """Write trained weights without the rows of the token embedding that no caption uses."""
    used = _tokenise(model).unique()
    kept = {name: tensor for name, tensor in weights.items() if name != EMBEDDING}
    kept |= {USED: used, ROWS: weights[EMBEDDING][used]}
    write_tensors(destination, kept, {"recipe": recipe, "seal": MARK + BLANK})


def describe_recipe(architecture: str | Path, **settings: float) -> str:
    """JSON of everything that decides the weights, but for the code and the processor."""
    content = json.loads(Path(architecture).read_text(encoding="utf-8"))
    return json.dumps({"architecture": content, **settings}, sort_keys=True)


def _initial_model(architecture: str | Path, seed: int) -> open_clip.CLIP:
    torch.manual_seed(seed)
    open_clip.add_model_config(Path(architecture))
    return open_clip.create_model(Path(architecture).stem, load_weights=False)


def pretrain(
    model: open_clip.CLIP, name: str, steps: int, learning_rate: float, seed: int
) -> float:
    """Train a CLIP in place with open_clip's loss; returns the mean of the last 50 steps."""
    captions = _tokenise(name)  # (C, styles, context)
    # The rows that captions use are near-orthogonal as they are, and cheaper left alone.
    model.token_embedding.weight.requires_grad_(False)
    optimiser = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=learning_rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, fused=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=steps, pct_start=0.1
    )
    batches, contrast, losses = GlyphBatches(seed), open_clip.ClipLoss(), []
    every = torch.arange(len(NAMES))
    for _ in progress(range(steps), what="pre-training"):
        pixels, style = batches.draw()
        loss = contrast(*model(_normalise(pixels), captions[every, style]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(LARGEST_SCALE))
        losses.append(loss.item())
    final = sum(losses[-50:]) / len(losses[-50:])
    logger.info("Loss %.3f at the start, %.3f over the last 50 steps.", losses[0], final)
    return final


def _tokenise(model: str) -> Tensor:
    """Every caption of every character, (C, captions, context)."""
    tokenizer = open_clip.get_tokenizer(model)
    rows = [tokenizer([caption.format(name) for caption in CAPTIONS]) for name in NAMES.values()]
    return torch.stack(rows)


def _normalise(pixels: Tensor) -> Tensor:
    """Grey (B, H, W) in 0 .. 1 to the three channels that CLIP expects."""
    mean = torch.tensor(OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(OPENAI_DATASET_STD).view(3, 1, 1)
    return (pixels[:, None] - mean) / std  # (B, 3, H, W)


def _coarsen(pixels: Tensor, cells: int) -> Tensor:
    """Sample (B, H, W) down to cells x cells pixels, and up again."""
    small = F.interpolate(pixels[:, None], size=(cells, cells), mode="area")
    return F.interpolate(small, size=pixels.shape[-2:], mode="bicubic")[:, 0].clamp(0, 1)


def main() -> None:
    """Train the CLIP of the embedded experiment, and write it to TRAINED_GLYPHS."""
    torch.set_num_threads(2)  # as the weights in the repository were trained
    model = _initial_model(ARCHITECTURE, RECIPE["seed"])
    pretrain(model, ARCHITECTURE.stem, **RECIPE)
    recipe = describe_recipe(ARCHITECTURE, **RECIPE)
    write_trained(model.state_dict(), ARCHITECTURE.stem, recipe, Path(TRAINED_GLYPHS))


if __name__ == "__main__":
    main()

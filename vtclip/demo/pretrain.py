"""A small CLIP, pre-trained in about a minute on glyphs and their captions."""

import logging
import math
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import save_file

from vtclip.demo.glyphs import NAMES, PRETRAINING_FONTS, distort, draw_sheet
from vtclip.files import write_receipt, writing
from vtclip.logs import progress

logger = logging.getLogger(__name__)

CAPTIONS = ("the {}", "a blurry {}", "a noisy {}", "a bold {}", "a thin {}")
PLAIN, BLURRY, NOISY, BOLD, THIN = range(len(CAPTIONS))
LARGEST_SCALE = 100.0  # CLIP's own bound on exp(logit_scale)


class GlyphBatches:
    """Batches that hold every character once, so that no two captions of a batch are the same."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        sheet = draw_sheet(NAMES, PRETRAINING_FONTS)  # (C, fonts, H, W)
        bold = F.max_pool2d(sheet, 3, stride=1, padding=1)
        thin = -F.max_pool2d(-sheet, 3, stride=1, padding=1)
        self.strokes = {PLAIN: sheet, BLURRY: sheet, NOISY: sheet, BOLD: bold, THIN: thin}

    def draw(self) -> tuple[torch.Tensor, torch.Tensor]:
        """One batch.

        Returns:
            pixels (C, 32, 32) float32 in 0 .. 1, and the number of the caption of each (C,).
        """
        size = len(NAMES)
        style = torch.randint(len(CAPTIONS), (size,), generator=self.generator)
        font = torch.randint(len(PRETRAINING_FONTS), (size,), generator=self.generator)
        glyphs = torch.stack(
            [self.strokes[int(style[row])][row, font[row]] for row in range(size)]
        )  # (C, H, W)
        pixels = distort(glyphs, self.generator)
        # Half of the strokes are coarse as well: coarse digits need not be called blurry.
        coarse = torch.rand(size, generator=self.generator) < 0.5
        pixels = torch.where(_each(coarse & (style != NOISY)), _coarsen(pixels, 12), pixels)
        pixels = torch.where(_each(style == BLURRY), _coarsen(pixels, 8), pixels)
        noise = 0.25 * torch.randn(pixels.shape, generator=self.generator)
        pixels = pixels + noise * _each(style == NOISY)
        return pixels.clamp(0, 1), style


def pretrain_backbone(
    architecture: str | Path,
    destination: str | Path,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
) -> float:
    """Train a CLIP from scratch with open_clip's contrastive loss, and save its weights.

    Args:
        architecture: the model's configuration, in open_clip's JSON form; images of 32 pixels.
        destination: the safetensors file to write.
        steps: optimiser steps, each on one batch of every character.
        learning_rate: its largest value; warm-up over a tenth of the steps, then cosine.
        seed: of the initial weights and of the batches.

    Returns:
        The mean loss of the last 50 steps, in nats.
    """
    torch.manual_seed(seed)
    open_clip.add_model_config(Path(architecture))
    name = Path(architecture).stem
    model = open_clip.create_model(name, load_weights=False)
    captions = _tokenise(name)  # (C, styles, context)
    # 49,408 rows of which 80 are used: near-orthogonal as they are, and cheaper left alone.
    model.token_embedding.weight.requires_grad_(False)
    optimiser = torch.optim.AdamW(
        [weight for weight in model.parameters() if weight.requires_grad],
        lr=learning_rate, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1, fused=True,
    )  # fmt: skip
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=steps, pct_start=0.1
    )
    batches, contrast, losses = GlyphBatches(seed), open_clip.ClipLoss(), []
    everyone = torch.arange(len(NAMES))
    for _ in progress(range(steps), what="pre-training"):
        pixels, style = batches.draw()
        loss = contrast(*model(_normalise(pixels), captions[everyone, style]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(LARGEST_SCALE))
        losses.append(loss.item())
    final = sum(losses[-50:]) / len(losses[-50:])
    logger.info("Loss %.3f at the start, %.3f over the last 50 steps.", losses[0], final)
    with writing(destination) as temporary:
        save_file(model.state_dict(), temporary)
    write_receipt(destination)
    return final


def _tokenise(model: str) -> torch.Tensor:
    tokenizer = open_clip.get_tokenizer(model)
    rows = [tokenizer([caption.format(name) for caption in CAPTIONS]) for name in NAMES.values()]
    return torch.stack(rows)


def _normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Grey (B, H, W) in 0 .. 1 to the three channels that CLIP expects."""
    mean = torch.tensor(OPENAI_DATASET_MEAN).view(3, 1, 1)
    std = torch.tensor(OPENAI_DATASET_STD).view(3, 1, 1)
    return (pixels[:, None] - mean) / std  # (B, 3, H, W)


def _coarsen(pixels: torch.Tensor, cells: int) -> torch.Tensor:
    """What is left of (B, H, W) after a grid of only cells x cells pixels."""
    small = F.interpolate(pixels[:, None], size=(cells, cells), mode="area")
    return F.interpolate(small, size=pixels.shape[-2:], mode="bicubic")[:, 0].clamp(0, 1)


def _each(choice: torch.Tensor) -> torch.Tensor:
    return choice[:, None, None]

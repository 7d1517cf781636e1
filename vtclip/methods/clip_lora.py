"""CLIP-LoRA: low-rank changes to the attention of both towers (CVPRW 2024, arXiv 2405.18541)."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

from pydantic import Field

from vtclip.methods._towers import StepsPerShot, TowerMethod, TowerRecipe, towers_of
from vtclip.methods.base import Head, Task, Tensor
from vtclip.task import Change, Towers

TOWERS: tuple[Literal["image", "text"], ...] = ("image", "text")


class ClipLoraSettings(TowerRecipe):
    """Settings of CLIP-LoRA; the defaults are the authors'."""

    steps_per_shot: StepsPerShot = 500
    rank: int = Field(2, ge=1)
    """rank of the changes, 1 or more"""
    alpha: float = Field(1.0, gt=0)
    """the changes are scaled by alpha / sqrt(rank), above 0"""
    dropout: float = Field(0.25, ge=0, lt=1)
    """share of a change's input that is dropped in training, 0 to below 1"""


class ClipLora(TowerMethod):
    """W x becomes W x + scale * B A drop(x), for query, key and value of every block.

    Each of the three has its own A, B and dropped numbers; output projection and the rest stay.
    """

    title = "CLIP-LoRA"
    settings_type = ClipLoraSettings
    settings: ClipLoraSettings

    @property
    def scale(self) -> float:
        """The factor on the changes: not alpha / rank."""
        return self.settings.alpha / math.sqrt(self.settings.rank)

    def initial_head(self, task: Task) -> Head:
        """A uniform up to 1 / sqrt(width), B zero: training starts from zero-shot.

        `<tower>_a` (blocks, 3, rank, width) and `<tower>_b` (blocks, 3, width, rank).
        """
        import torch

        torch.manual_seed(task.seed)
        head, towers = {}, towers_of(task.texts)
        for tower in TOWERS:
            layers = list(towers.attention[tower].values())
            width = layers[0].in_features
            drawn = torch.rand(len(layers), 3, self.settings.rank, width)
            head[f"{tower}_a"] = (2 * drawn - 1) / math.sqrt(width)
            head[f"{tower}_b"] = torch.zeros(len(layers), 3, width, self.settings.rank)
        return head

    def change(self, head: Head, towers: Towers, *, training: bool) -> Change:
        """To classify, the product of the factors is a part of the weights."""
        weights, added = {}, {}
        for tower in TOWERS:
            factors = zip(head[f"{tower}_a"], head[f"{tower}_b"], strict=True)
            for name, (a, b) in zip(towers.attention[tower], factors, strict=True):
                if training:
                    added[name] = partial(self._add, a, b)
                else:
                    weight = towers.weights[f"{name}.weight"]
                    weights[f"{name}.weight"] = weight + self.scale * (b @ a).flatten(0, 1)
        return Change(weights, added)

    def _add(self, a: Tensor, b: Tensor, tokens: Tensor) -> Tensor:
        """The addition to query, key and value of tokens (B, L, width): (B, L, 3 * width)."""
        from torch.nn.functional import dropout

        copies = tokens.expand(3, *tokens.shape)
        dropped = dropout(copies, self.settings.dropout)  # a mask each
        low = dropped.flatten(1, 2) @ a.mT  # (3, B * L, rank)
        parts = self.scale * low @ b.mT  # (3, B * L, width)
        return parts.movedim(0, 1).reshape(*tokens.shape[:2], -1)

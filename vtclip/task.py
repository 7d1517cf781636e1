"""Inputs and outputs of methods: tensors under names. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

Head = dict[str, "Tensor"]


def unit(features: Tensor) -> Tensor:
    """Features (..., D), scaled to unit length."""
    return features / features.norm(dim=-1, keepdim=True)


@dataclass(frozen=True)
class Samples:
    """The labelled images that a method may learn from.

    Attributes:
        pooled: (M, V, D) float32; V views of M images, view 0 the test view.
        spatial: (M, V, N, width) float16 or float32, or None where the method reads none; in main
            memory where the device has no room for it.
        labels: (M,) int64.
    """

    pooled: Tensor
    spatial: Tensor | None
    labels: Tensor


@dataclass(frozen=True)
class Images:
    """A batch of images to classify.

    Attributes:
        pooled: (B, D) float32.
        spatial: (B, N, width) float32, or None where the method reads none.
        labels: (B,) int64 of images to learn from; None of those to classify.
    """

    pooled: Tensor
    spatial: Tensor | None
    labels: Tensor | None = None


@dataclass(frozen=True)
class Texts:
    """The class names, as CLIP reads them.

    Attributes:
        features: (K, D) float32 of unit length.
        logit_scale: CLIP's frozen factor on the cosine similarities.
        norms: (K,) float32, how long each class's text mean was before it was scaled; None for
            texts that CLIP did not read.
    """

    features: Tensor
    logit_scale: float
    norms: Tensor | None = None

    @property
    def means(self) -> Tensor:
        """The text means, as long as they were, (K, D): where training starts that was published.

        Its learning rates and weights are for vectors of this length, not for unit ones.
        """
        assert self.norms is not None
        return self.norms[:, None] * self.features

    def part(self, labels: range) -> Texts:
        """The texts of some classes."""
        rows = slice(labels.start, labels.stop)
        norms = None if self.norms is None else self.norms[rows]
        return Texts(self.features[rows], self.logit_scale, norms)

    def logits(self, pooled: Tensor) -> Tensor:
        """Zero-shot logits: scale * cos(pooled, features), (B, D) -> (B, K)."""
        return self.logit_scale * unit(pooled) @ self.features.T


class TextTower(Protocol):
    """The frozen text tower, as `vtclip.backbones.prompts.TextTower` has it."""

    width: int

    def embed_words(self, words: str) -> Tensor:
        """The embeddings of some words, (n, width)."""

    def prompt_encoder(self, class_names: Sequence[str], words: int) -> Callable[[Tensor], Tensor]:
        """A function from a context (words, width) to one text feature a class, (K, D)."""


@dataclass(frozen=True)
class Prompts:
    """Prompts are made of class names and the frozen text tower."""

    class_names: Sequence[str]  # K names, by label
    tower: TextTower


@dataclass(frozen=True)
class Task:
    """All that a method may see before it predicts: no test image is in it.

    Attributes:
        texts: the classes.
        train: the shots to learn from; None for a method that needs none.
        val: min(shots, 4) images per class to tune on, in the test view; None where there are none,
            or nothing may be chosen.
        seed: of everything that is drawn at random.
        prompts: what prompts are made of; None for a method that makes none.
    """

    texts: Texts
    train: Samples | None
    val: Samples | None
    seed: int
    prompts: Prompts | None = None

"""Inputs and outputs of methods: tensors under names. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from polars import DataFrame
    from torch import Tensor, device, nn

    from vtclip.config.dataset import Exif

Head = dict[str, "Tensor"]


def unit(features: Tensor) -> Tensor:
    """Features (..., D), scaled to unit length."""
    return features / features.norm(dim=-1, keepdim=True)


class Pictures(Protocol):
    """Images in memory, as `vtclip.features.loading.KeptPictures` has them."""

    def views(self, rows: Tensor, view: Tensor | int) -> Tensor:
        """Pixels (B, 3, H, W) of a view of some images: 0 the test view, others random."""


RANDOM_VIEWS = 1 << 31  # of a picture: no two draws need to be the same


@dataclass(frozen=True)
class Samples:
    """The labelled images that a method may learn from."""

    pooled: Tensor  # (M, V, D) float32: V views of M images, view 0 the test view
    # (M, V, N, width) float16 or float32, None where the method reads none; in main memory where
    # the device has no room for it
    spatial: Tensor | None
    labels: Tensor  # (M,) int64
    pictures: Pictures | None = None  # M images, of a method that reads them
    folds: Tensor | None = None  # (M,) int64, of images in folds whose features are read

    def take(self, rows: Tensor) -> Samples:
        """Some of the images, by their features."""
        spatial = None if self.spatial is None else self.spatial[rows.to(self.spatial.device)]
        return Samples(self.pooled[rows], spatial, self.labels[rows])

    @property
    def views(self) -> int:
        """Number of views of an image."""
        return self.pooled.shape[1] if self.pictures is None else RANDOM_VIEWS


@dataclass(frozen=True)
class Images:
    """A batch of images to classify."""

    pooled: Tensor  # (B, D) float32
    spatial: Tensor | None  # (B, N, width) float32; None where the method reads none
    labels: Tensor | None = None  # (B,) int64 of images to learn from; None of those to classify
    pixels: Tensor | None = None  # (B, 3, H, W) float32, for a method that reads them


Classifier = Callable[[Images], "Tensor"]  # to logits (B, K)


@dataclass(frozen=True)
class Texts:
    """The class names, as CLIP reads them."""

    features: Tensor  # (K, D) float32 of unit length
    logit_scale: float  # CLIP's frozen factor on the cosine similarities
    # Only of the texts that a method is trained with: (K, D), the means of raw texts, as long as
    # CLIP makes them, for published learning rates are for vectors of this length; and (K, P, D),
    # the raw texts of P templates, or of the first P sentences of each class.
    means: Tensor | None = None
    prompts: Tensor | None = None
    has_pooled_token: bool = True  # the first of an image's spatial features is the pooled one
    made_of: Prompts | None = None  # the same classes' prompts, of a method that predicts with them

    def part(self, labels: range) -> Texts:
        """The texts of some classes."""
        rows = slice(labels.start, labels.stop)
        return replace(
            self,
            features=self.features[rows],
            means=None if self.means is None else self.means[rows],
            prompts=None if self.prompts is None else self.prompts[rows],
        )

    def logits(self, pooled: Tensor) -> Tensor:
        """Zero-shot logits: scale * cos(pooled, features), (B, D) -> (B, K)."""
        return self.logit_scale * unit(pooled) @ self.features.T


class TextTower(Protocol):
    """The frozen text tower, as `vtclip.backbones.prompts.TextTower` has it."""

    width: int

    def embed_words(self, words: str) -> Tensor:
        """The embeddings of some words, (n, width)."""

    def encode_classes(self, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
        """One text feature a class, (K, D) of unit length: the mean over templates with `{}`."""

    def prompt_encoder(self, class_names: Sequence[str], words: int) -> Callable[[Tensor], Tensor]:
        """A function from a context (words, width) to one text feature a class, (K, D)."""


@dataclass(frozen=True)
class Change:
    """A change to the towers: gradients reach its tensors."""

    # Name of a weight -> what stands in its place.
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    # Name of a layer -> what is added to its output, a function of its input.
    added: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)


class Towers(TextTower, Protocol):
    """Both towers, as `vtclip.nn.towers.Towers` has them: their weights stay as they are.

    `attention` is tower -> name -> the layer of each block that makes query, key and value: a
    product of width d -> 3 d.
    """

    attention: Mapping[Literal["image", "text"], Mapping[str, nn.Linear]]
    weights: Mapping[str, Tensor]  # all of them, by name
    norms: Set[str]  # names of the layer norms
    device: device

    def open_pictures(
        self, names: Sequence[str], images: str, *, test_only: bool, **views: Any
    ) -> Pictures:
        """Decode images of a folder into memory."""

    def read_test(
        self, rows: DataFrame, images: str, *, batch_size: int, exif: Exif, workers: int
    ) -> Iterator[Tensor]:
        """Pixels (B, 3, H, W) of the test views of some rows of a manifest."""

    def encode_images(self, pixels: Tensor, change: Change) -> Tensor:
        """(B, 3, H, W) -> (B, D) float32, not normalised."""

    def encode_frozen(self, pixels: Tensor) -> Tensor:
        """The backbone's own features (B, D), as they are stored."""

    def encode_prompts(self, class_names: Sequence[str], template: str, change: Change) -> Tensor:
        """Text features of unit length, (K, D) float32."""


@dataclass(frozen=True)
class Prompts:
    """Prompts are made of class names and the frozen text tower."""

    class_names: Sequence[str]  # K names, by label
    tower: TextTower


@dataclass
class Choices:
    """Choices of a fit on validation shots, in their order: places in lists, shares of epochs.

    A fit that is given the choices of an earlier one repeats them, and needs no validation shots.
    """

    earlier: Sequence[float] = ()
    made: list[float] = field(default_factory=list)

    def repeat(self) -> float | None:
        """The next choice of the earlier fit; None where there is none, and it is to be made."""
        if len(self.made) >= len(self.earlier):
            return None
        return self.keep(self.earlier[len(self.made)])

    def keep(self, choice: float) -> float:
        """Note a choice, and return it."""
        self.made.append(choice)
        return choice


@dataclass(frozen=True)
class Task:
    """All that a method may see before it predicts: no test image is in it."""

    texts: Texts
    train: Samples | None  # the shots to learn from; None for a method that needs none
    val: Samples | None  # min(shots, 4) a class, in the test view; None if nothing may be chosen
    seed: int  # of everything that is drawn at random
    prompts: Prompts | None = None  # None for a method that makes none
    # (D, width) and (D,), the image tower's last linear map; None for a method that reads none
    projection: tuple[Tensor, Tensor] | None = None
    choices: Choices = field(default_factory=Choices)

    @property
    def samples(self) -> Samples:
        """`train`, for a method that learns from shots."""
        assert self.train is not None
        return self.train

    @property
    def val_samples(self) -> Samples:
        """`val`, for a method that chooses."""
        assert self.val is not None
        return self.val

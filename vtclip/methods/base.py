"""What a method is: settings, what it starts from, and a classifier. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol, Self

from pydantic import Field

from vtclip.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

Head = dict[str, "Tensor"]


def unit(features: Tensor) -> Tensor:
    """Features (..., D), scaled to unit length."""
    return features / features.norm(dim=-1, keepdim=True)


@dataclass(frozen=True)
class Shots:
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
    """

    pooled: Tensor
    spatial: Tensor | None


@dataclass(frozen=True)
class Texts:
    """The class names, as CLIP reads them.

    Attributes:
        features: (K, D) float32 of unit length.
        logit_scale: CLIP's frozen factor on the cosine similarities.
    """

    features: Tensor
    logit_scale: float

    def logits(self, pooled: Tensor) -> Tensor:
        """Zero-shot logits: scale * cos(pooled, features), (B, D) -> (B, K)."""
        return self.logit_scale * unit(pooled) @ self.features.T


class TextTower(Protocol):
    """The frozen text tower, as `vtclip.features.prompts.TextTower` has it."""

    width: int

    def embed_words(self, words: str) -> Tensor:
        """The embeddings of some words, (n, width)."""

    def prompt_encoder(self, class_names: Sequence[str], words: int) -> Callable[[Tensor], Tensor]:
        """A function from a context (words, width) to one text feature a class, (K, D)."""


@dataclass(frozen=True)
class Prompts:
    """What a method needs that writes prompts of its own.

    Attributes:
        class_names: K names, by label.
        tower: the frozen text tower.
    """

    class_names: Sequence[str]
    tower: TextTower


@dataclass(frozen=True)
class Task:
    """All that a method may see before it predicts: no test image is in it.

    Attributes:
        texts: the classes.
        train: the shots to learn from; None for a method that needs none.
        val: min(shots, 4) images a class to tune on, in the test view; likewise.
        seed: of everything that is drawn at random.
        prompts: what prompts are made of; None for a method that makes none.
    """

    texts: Texts
    train: Shots | None
    val: Shots | None
    seed: int
    prompts: Prompts | None = None


class Method:
    """One way to classify from few labelled images.

    A subclass says what it needs, what it starts from (`start`) and how a head classifies
    (`classifier`). Tensors of the head that it names as `trained` are then trained by gradient,
    with the settings' recipe. A method that trains something else overrides `learner`, one that
    ends with something else than was trained `finish`.
    """

    settings_type: ClassVar[type[Settings]] = Settings
    few_shot: ClassVar[bool] = True
    """False for a method that learns from no image; it is run once, as `0shot-seed0`."""
    reads_views: ClassVar[bool] = False
    """Whether it reads all views of the training images, or the test view alone."""
    reads_spatial: ClassVar[bool] = False
    """Whether it reads the spatial features, most of a feature file."""
    needs_projected: ClassVar[bool] = False
    """Whether the spatial features must lie in the joint space."""
    reads_text_tower: ClassVar[bool] = False
    """Whether it reads the text tower, to train through it."""
    tunes: ClassVar[bool] = False
    """Whether it chooses something on the validation shots, and cannot do without them."""
    on_gpu: ClassVar[bool] = True
    """Whether it fits its heads on a GPU where there is one."""
    trained: ClassVar[tuple[str, ...]] = ()
    """The names of the head's tensors that are trained by gradient."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def start(self, task: Task) -> Head:
        """The tensors of the head before any step by gradient; what is computed in closed form."""
        return {}

    def classifier(self, head: Head, texts: Texts) -> Callable[[Images], Tensor]:
        """What turns images into logits (B, K)."""
        raise NotImplementedError

    def learner(self, head: Head, task: Task) -> nn.Module | None:
        """What is trained by gradient, Images -> logits (B, K); None if nothing is."""
        if not self.trained:
            return None
        from vtclip.nn.learner import Learner

        return Learner(head, self.trained, lambda head: self.classifier(head, task.texts))

    def finish(self, learner: nn.Module, task: Task) -> Head:
        """The head, after training."""
        return learner.state_dict()


PositiveInt = Annotated[int, Field(ge=1)]
Epochs = PositiveInt | Annotated[dict[PositiveInt, PositiveInt], Field(min_length=1)]


class Recipe(Settings):
    """How a head is trained by gradient."""

    learning_rate: float | None = Field(
        default=None,
        gt=0,
        description="the largest learning rate, above 0; left out, the method's own",
        examples=[0.001],
    )
    optimiser: Literal["adamw", "sgd"] = Field(
        default="adamw", description="adamw, or sgd (momentum 0.9)", examples=["adamw"]
    )
    epsilon: float = Field(
        default=1e-8, gt=0, description="AdamW's epsilon, above 0", examples=[1e-8]
    )
    weight_decay: float = Field(
        default=0.01, ge=0, description="weight decay, 0 or more", examples=[0.01]
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="label smoothing, 0 to below 1", examples=[0.1]
    )
    clip_gradient: float | None = Field(
        default=None,
        gt=0,
        description="the largest norm of the gradient, above 0; left out, none",
        examples=[1.0],
    )
    select: Literal["last", "val"] = Field(
        default="last",
        description="the epoch that is kept: the last, or the first best on the validation shots",
        examples=["last"],
    )
    batch_size: int = Field(default=32, ge=1, description="images a step", examples=[32])
    warmup: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="share of the steps in which the learning rate rises, 0 to below 1",
        examples=[0.05],
    )
    epochs: Epochs = Field(
        default={1: 50, 2: 100, 8: 200},  # CoOp's
        description="epochs, or from which number of shots on how many epochs",
        examples=[{1: 50, 2: 100, 8: 200}],
    )
    epochs_of: dict[str, Epochs] = Field(
        default={"imagenet": 50},  # CoOp's
        description="dataset -> its own epochs, in place of `epochs`",
        examples=[{"imagenet": 50}],
    )
    compile: bool = Field(
        default=False,
        description="whether torch.compile fuses a step's operations: a minute at the start of "
        "each job, which only long trainings earn back",
        examples=[False],
    )

    def for_dataset(self, dataset: str) -> Self:
        """With the epochs of the dataset."""
        epochs = self.epochs_of.get(dataset, self.epochs)
        return self.model_copy(update={"epochs": epochs, "epochs_of": {}})

    def epochs_at(self, shots: int) -> int:
        """Epochs at a number of shots: those of the largest number named that is not above it."""
        if isinstance(self.epochs, int):
            return self.epochs
        return self.epochs[max((k for k in self.epochs if k <= shots), default=min(self.epochs))]

"""The base of methods: settings, an initial head, and a classifier. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from vtclip.config.backbone_config import SpatialKind
from vtclip.cost import SINGLE, Shape, Size, Work

# A method's module finds all that it needs here.
from vtclip.methods._recipes import BatchSize as BatchSize
from vtclip.methods._recipes import DasslRecipe as DasslRecipe
from vtclip.methods._recipes import EpochsByShots as EpochsByShots
from vtclip.methods._recipes import EpochsOf as EpochsOf
from vtclip.methods._recipes import Epsilon as Epsilon
from vtclip.methods._recipes import LastBatch as LastBatch
from vtclip.methods._recipes import LearningRate as LearningRate
from vtclip.methods._recipes import NonNegatives as NonNegatives
from vtclip.methods._recipes import OptimiserName as OptimiserName
from vtclip.methods._recipes import PositiveInt as PositiveInt
from vtclip.methods._recipes import Positives as Positives
from vtclip.methods._recipes import Recipe as Recipe
from vtclip.methods._recipes import Select as Select
from vtclip.methods._recipes import StopAtLoss as StopAtLoss
from vtclip.methods._recipes import Template as Template
from vtclip.methods._recipes import Training as Training
from vtclip.methods._recipes import Warmup as Warmup
from vtclip.methods._recipes import WeightDecay as WeightDecay
from vtclip.methods._recipes import at_shots as at_shots
from vtclip.settings import Settings
from vtclip.task import Classifier as Classifier
from vtclip.task import Head as Head
from vtclip.task import Images as Images
from vtclip.task import Prompts as Prompts
from vtclip.task import Samples as Samples
from vtclip.task import Task as Task
from vtclip.task import Texts as Texts
from vtclip.task import TextTower as TextTower
from vtclip.task import unit as unit

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
else:
    Tensor = Module = Any  # of annotations; PyTorch is imported by the functions that compute


class Method:
    """One way to classify from few labelled images.

    A subclass says what it needs, what it starts from (`initial_head`) and how a head classifies
    (`classifier`). Tensors of the head that it names as `trained` are then trained by gradient,
    with the settings' recipe. A method that trains something else overrides `learner`, one that
    ends with something else than was trained `finish`. One that computes for long or needs much
    memory says so in `work`, one whose settings do not fit every backbone in `check`.
    """

    title: ClassVar[str]  # in tables and figures; by default the file's name in words
    settings_type: ClassVar[type[Settings]] = Settings
    few_shot: ClassVar[bool] = True  # False: learns from no image, and is run once, `0shot-seed0`
    reads_views: ClassVar[bool] = False  # all views of the training images, not the test view alone
    reads_spatial: ClassVar[bool] = False  # the spatial features, most of a feature file
    needs_projected: ClassVar[bool] = False  # spatial features must lie in the joint space
    spatial_kind: ClassVar[SpatialKind | None] = None  # that it reads, if not the backbone's
    reads_projection: ClassVar[bool] = False  # the image tower's last linear map
    reads_text_tower: ClassVar[bool] = False  # the text tower, to train through it
    predicts_with_tower: ClassVar[bool] = False  # the text tower, to classify too
    reads_images: ClassVar[bool] = False  # images in place of their features, and both towers
    names_new_classes: ClassVar[bool] = False  # heads can name classes never seen, by their texts
    tunes: ClassVar[bool] = False  # chooses on validation shots, and cannot do without them
    on_gpu: ClassVar[bool] = True  # fits its heads on a GPU where there is one
    fits_in_double: ClassVar[bool] = False  # precision; on the CPU where a GPU has none
    gpu_precision: ClassVar[str] = "float32"  # of its layers on a GPU with bfloat16
    trained: ClassVar[tuple[str, ...]] = ()  # the head's tensors that are trained by gradient

    def __init_subclass__(cls) -> None:
        """Set the title, and refuse a class that could not be used; the error names its file."""
        super().__init_subclass__()
        kind: Any = cls.settings_type
        if not (isinstance(kind, type) and issubclass(kind, Settings)):
            raise TypeError(f"settings_type: expected a subclass of Settings, found {kind!r}")
        is_trained = bool(cls.trained) or cls.learner is not Method.learner
        if is_trained and not issubclass(kind, Training):
            raise TypeError(
                "settings_type: expected a subclass of base.Recipe, which trains tensors by "
                f"gradient, found {kind.__name__}"
            )
        if "title" not in cls.__dict__:
            words = cls.__module__.rpartition(".")[2].replace("_", " ")
            cls.title = words[:1].upper() + words[1:]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def check(self, shape: Shape) -> None:
        """Refuse settings that do not fit a backbone's shape, by `vtclip.settings.misfit`."""

    def work(self, size: Size) -> Work:
        """Work of one head; by default, features are compared with texts after a fit of seconds."""
        return Work(
            rows=size.images * (size.views if self.reads_views else 1) if self.few_shot else 0,
            spatial=self.reads_spatial,
            text_tower=self.reads_text_tower,
            on_gpu=self.on_gpu,
            double=self.fits_in_double,
            predict_flops=2 * size.classes * size.shape.dim,
        )

    def choices(self) -> list[str]:
        """Names of what it chooses on the validation shots: lists of settings, when to stop."""
        several = [
            name.replace("_", " ")
            for name, value in self.settings
            if self.tunes and isinstance(value, list) and len(value) > 1
        ]
        stops = getattr(self.settings, "select", "last") == "val"
        return [*several, *(["when to stop"] if stops else [])]

    def choices_at_edge(self, head: Head) -> dict[str, float]:
        """The choices that are the smallest or largest value of a list: a wider list may do better.

        0 as the smallest is no such edge, for there is nothing below, nor is one of two values.
        """
        edges = {}
        for name, value in self.settings:
            if self.tunes and isinstance(value, list) and len(value) > 2 and name in head:
                chosen = min(value, key=lambda each: abs(each - head[name].item()))
                if chosen in (min(value), max(value)) and chosen != 0:
                    edges[name] = chosen
        return edges

    def settings_without_choice(self, shots: int) -> Settings | None:
        """Settings to use where nothing may be chosen; None if the method has no such constants.

        Each chosen setting has one value, which the head keeps: `classifier` reads none of them.
        """
        return None if self.tunes else self.settings

    def initial_head(self, task: Task) -> Head:
        """Compute the head before any step by gradient; in closed form, it is all of the head."""
        return {}

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Build the function from images to logits (B, K).

        `texts.made_of` are the classes' prompts, for a method that predicts with the text tower.
        """
        raise NotImplementedError

    def for_classes(self, head: Head, prompts: Prompts | None) -> Head:
        """The head for other classes; it changes only if it keeps something of the classes.

        `prompts` are of the other classes, for a method that reads the text tower.
        """
        return head

    def learner(self, head: Head, task: Task) -> Module | None:
        """The module to train by gradient, Images -> logits (B, K); None if there is none."""
        if not self.trained:
            return None
        from vtclip.nn.learner import Learner

        return Learner(head, self.trained, lambda head: self.classifier(head, task.texts))

    def second_learner(self, head: Head, task: Task) -> tuple[Module, Training] | None:
        """A second training, after the first, with its recipe; by default there is none.

        What its learner contains is then the head.
        """
        return None

    def finish(self, learner: Module, task: Task) -> Head:
        """The head, after training."""
        return learner.state_dict()


Choice = TypeVar("Choice")


def choose(settings: Sequence[Choice], logits: Iterable[Tensor], task: Task) -> Choice:
    """The setting, smallest first, that classifies the validation shots best; of equals the first.

    The logits (M, K) of each setting may be a generator, which needs little memory; of a single
    setting, or to repeat a choice, none are computed, and no validation shots are needed.
    """
    if len(settings) == 1:
        return settings[0]
    place = task.choices.repeat()
    if place is None:
        scores = [score(each, task.val_samples.labels) for each in logits]
        place = task.choices.keep(scores.index(max(scores)))
    return settings[int(place)]


def choose_head(
    heads: Iterable[Head], classifier: Callable[[Head, Texts], Classifier], task: Task
) -> Head:
    """The head that classifies the validation shots best; of equals the first."""
    place = task.choices.repeat()
    if place is not None:
        return next(islice(heads, int(place), None))
    images, labels = Images(task.val_samples.pooled[:, 0], None), task.val_samples.labels
    scored = ((score(classifier(head, task.texts)(images), labels), head) for head in heads)
    place, (_, best) = max(enumerate(scored), key=lambda each: each[1][0])
    task.choices.keep(place)
    return best


def score(logits: Tensor, labels: Tensor) -> tuple[int, float]:
    """Hits, and the mean log-likelihood of the labels (NaN without images): larger is better.

    On a few images per class many settings make equally many hits; the likelihood breaks the tie.
    logits (M, K), labels (M,) int64.
    """
    from torch.nn.functional import cross_entropy

    hits = int((logits.argmax(dim=1) == labels).sum())
    return hits, -cross_entropy(logits, labels).item()


def list_prompts(texts: Texts) -> Tensor:
    """The texts of all templates or sentences, of unit length, (K, P, D)."""
    return unit(texts.features[:, None] if texts.prompts is None else texts.prompts)


def stack_views(shots: Samples) -> tuple[Tensor, Tensor]:
    """All views of all shots as rows (N, D), and their labels (N,)."""
    return shots.pooled.flatten(0, 1), shots.labels.repeat_interleave(shots.pooled.shape[1])


UPDATE = 30  # operations on each weight in a step: the norms, their way back, Adam's


def nearest(vectors: Tensor, texts: Texts) -> Classifier:
    """logits = scale * unit(pooled) @ vectors.T: zero-shot's, with vectors (K, D) for the texts."""
    classes = Texts(vectors, texts.logit_scale)
    return lambda images: classes.logits(images.pooled)  # (B, K)


def cosine_classifier(vectors: Tensor, texts: Texts) -> Classifier:
    """logits = scale * cos(pooled, vectors), for vectors (K, D) of any length."""
    return nearest(unit(vectors), texts)


def cosine_head_work(plain: Work, size: Size, recipe: Recipe) -> Work:
    """The work of training the vectors: three passes for each image of a step, and the update."""
    weights = size.classes * size.shape.dim
    steps, batch = recipe.steps(size), recipe.batch(size)
    return plain._replace(
        flops=steps * weights * (6 * batch + UPDATE),
        # The vectors, their unit ones, both gradients and, at most, Adam's state; a batch's logits.
        part_bytes=(8 * weights + 4 * batch * size.classes) * SINGLE,
        head_bytes=weights * SINGLE,
    )

"""The settings of training by gradient."""

import math
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field

from vtclip.cost import Size
from vtclip.settings import LARGEST, Settings

# The fields of a recipe. A method's settings change a default by naming the field again:
# `learning_rate: LearningRate = 0.002`. Bounds and description stay.
PositiveInt = Annotated[int, Field(ge=1, le=LARGEST)]
Epochs = PositiveInt | Annotated[dict[PositiveInt, PositiveInt], Field(min_length=1)]
LearningRate = Annotated[
    float | None,
    Field(gt=0, description="the largest learning rate, above 0; left out, the method's own"),
]
OptimiserName = Annotated[
    Literal["adamw", "adam", "sgd"],
    Field(
        description="adamw, adam (weight decay as a part of the gradient), or sgd (momentum 0.9)"
    ),
]
Epsilon = Annotated[float, Field(gt=0, description="Adam's and AdamW's epsilon, above 0")]
WeightDecay = Annotated[float, Field(ge=0, description="weight decay, 0 or more")]
Select = Annotated[
    Literal["last", "val"],
    Field(description="the epoch that is kept: the last, or the best on the validation shots"),
]
BatchSize = Annotated[int, Field(ge=1, description="images per step")]
Warmup = Annotated[
    Annotated[float, Field(ge=0, lt=1)] | Literal["epoch"],
    Field(
        description="share of the steps in which the learning rate rises, 0 to below 1, before it "
        "falls with a cosine; or `epoch` for CoOp's schedule: one epoch at 1e-5, then a cosine "
        "that falls from epoch to epoch"
    ),
]
LastBatch = Annotated[
    Literal["keep", "drop"],
    Field(
        description="an epoch's last batch, if it is smaller than `batch_size` and not the only "
        "one: keep it, or drop it as CoOp's code does"
    ),
]
EpochsByShots = Annotated[
    Epochs, Field(description="epochs, or from which number of shots on how many epochs")
]
EpochsOf = Annotated[
    dict[str, Epochs],
    Field(
        description="dataset -> its own epochs, in place of `epochs`; left out, the default "
        "applies only where `epochs` is left out too"
    ),
]
# Values to choose from.
NonNegatives = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]
Positives = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
Template = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")]  # of a prompt
StopAtLoss = Annotated[
    float | None,
    Field(
        gt=0,
        description="the mean loss of an epoch at which training ends early, above 0; null for "
        "never",
        examples=[0.0003],
    ),
]

Value = TypeVar("Value")


def at_shots(values: Value | dict[int, Value], shots: int) -> Value:
    """The value at a number of shots: that of the largest number named that is not above it."""
    if not isinstance(values, dict):
        return values
    return values[max((k for k in values if k <= shots), default=min(values))]


MEASUREMENTS = 10  # of validation accuracy in a training, for the history


class Training(Settings):
    """The settings of training by gradient; a subclass has the number of steps."""

    lowest_rate: ClassVar[float] = 0.0  # at the end of the cosine that follows `warmup`

    learning_rate: LearningRate = Field(default=None, examples=[0.001])
    optimiser: OptimiserName = "adamw"
    epsilon: Epsilon = 1e-8
    weight_decay: WeightDecay = 0.01
    label_smoothing: float = Field(0.0, ge=0, lt=1, examples=[0.1])
    """label smoothing, 0 to below 1"""
    clip_gradient: float | None = Field(None, gt=0, examples=[1.0])
    """the largest norm of the gradient, above 0; left out, none"""
    select: Select = "last"
    batch_size: BatchSize = 32
    last_batch: LastBatch = "drop"
    warmup: Warmup = 0.05

    @classmethod
    def list_by_dataset(cls) -> list[str]:
        """Names of the settings that may be another one for a dataset, by `<name>_of`."""
        return [name for name in cls.model_fields if f"{name}_of" in cls.model_fields]

    def for_dataset(self, dataset: str) -> Self:
        """With the values of the dataset: a user's `epochs` outdo the default of `epochs_of`."""
        given = self.model_fields_set
        update: dict[str, Any] = {}
        for name in self.list_by_dataset():
            value, values = getattr(self, name), getattr(self, f"{name}_of")
            if f"{name}_of" in given or name not in given:
                value = values.get(dataset, value)
            update |= {name: value, f"{name}_of": {}}
        return self.model_copy(update=update)

    def steps_at(self, shots: int, images: int) -> int:
        """Steps of a training with so many images in all, if it does not end early."""
        raise NotImplementedError

    def steps(self, size: Size) -> int:
        """Steps of a training, if it does not end early."""
        return self.steps_at(size.shots, size.images)

    def steps_per_epoch(self, images: int) -> int:
        """Batches that an epoch makes of the images."""
        full, rest = divmod(images, self.batch_size)
        return full + (rest > 0 and (self.last_batch == "keep" or full == 0))

    def batch(self, size: Size) -> int:
        """Images of a step; an epoch's last may have fewer."""
        return min(self.batch_size, size.images)

    def measured_every(self, epochs: int) -> int:
        """Epochs between measurements of validation accuracy: ten in all; every one for "val"."""
        return 1 if self.select == "val" else math.ceil(epochs / MEASUREMENTS)

    def measurements(self, size: Size) -> int:
        """Number of measurements of validation accuracy, at most."""
        epochs = math.ceil(self.steps(size) / self.steps_per_epoch(size.images))
        return epochs // self.measured_every(epochs)


class Recipe(Training):
    """The settings of a training of so many epochs."""

    epochs: EpochsByShots = {1: 50, 2: 100, 8: 200}  # CoOp's
    epochs_of: EpochsOf = {"imagenet": 50}  # CoOp's
    stop_at_loss: StopAtLoss = None
    compile: bool = False
    """whether torch.compile fuses a step's operations: a minute at the start of each job, which
    only long trainings earn back"""

    def epochs_at(self, shots: int) -> int:
        """Epochs at a number of shots."""
        return at_shots(self.epochs, shots)

    def steps_at(self, shots: int, images: int) -> int:
        """Steps of whole epochs."""
        return self.epochs_at(shots) * self.steps_per_epoch(images)


class DasslRecipe(Recipe):
    """The recipe of CoOp, and of the methods whose code is built on the same library, Dassl."""

    optimiser: OptimiserName = "sgd"
    learning_rate: LearningRate = 0.002
    weight_decay: WeightDecay = 0.0005
    warmup: Warmup = "epoch"

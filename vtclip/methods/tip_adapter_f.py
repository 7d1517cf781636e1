"""Tip-Adapter-F: Tip-Adapter with trained keys (Zhang et al., ECCV 2022, arXiv 2207.09519)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vtclip.methods.base import Epochs, Head, Recipe, Task
from vtclip.methods.tip_adapter import TipAdapter, TipAdapterSettings

if TYPE_CHECKING:
    from torch import nn


class TipAdapterFSettings(Recipe, TipAdapterSettings):
    """Settings of Tip-Adapter-F; the recipe's defaults are the paper's.

    The paper keeps the epoch that is best on the test images; here it is the validation shots.
    """

    learning_rate: float | None = Field(
        default=0.001, gt=0, description="the largest learning rate, above 0", examples=[0.001]
    )
    epsilon: float = Field(
        default=1e-4, gt=0, description="AdamW's epsilon, above 0", examples=[1e-4]
    )
    batch_size: int = Field(default=256, ge=1, description="images a step", examples=[256])
    warmup: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the steps in which the learning rate rises, 0 to below 1",
        examples=[0.05],
    )
    epochs: Epochs = Field(
        default=20,
        description="epochs, or from which number of shots on how many epochs",
        examples=[20],
    )
    epochs_of: dict[str, Epochs] = Field(
        default={},
        description="dataset -> its own epochs, in place of `epochs`",
        examples=[{"imagenet": 20}],
    )
    select: Literal["last", "val"] = Field(
        default="val",
        description="the epoch that is kept: the last, or the first best on the validation shots",
        examples=["val"],
    )


class TipAdapterF(TipAdapter):
    """Tip-Adapter whose keys are trained; alpha and beta are chosen before, and again after."""

    settings_type = TipAdapterFSettings
    trained = ("keys",)

    def finish(self, learner: nn.Module, task: Task) -> Head:
        """The trained keys, with alpha and beta chosen for them."""
        return self.choose_weights(learner.get_parameter("keys").detach(), task)

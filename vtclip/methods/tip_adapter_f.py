"""Tip-Adapter-F: Tip-Adapter with trained keys (Zhang et al., ECCV 2022, arXiv 2207.09519)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vtclip.cost import SINGLE, Work
from vtclip.methods.base import Head, Recipe, Task
from vtclip.methods.tip_adapter import TipAdapter, TipAdapterSettings

if TYPE_CHECKING:
    from torch import nn

    from vtclip.cost import Size


class TipAdapterFSettings(
    Recipe,
    TipAdapterSettings,
    defaults={
        "learning_rate": 0.001,
        "epsilon": 1e-4,
        "batch_size": 256,
        "warmup": 0.0,
        "epochs": 20,
        "epochs_of": {},
        "select": "val",
    },
):
    """Settings of Tip-Adapter-F; the recipe's defaults are the paper's.

    The paper keeps the epoch that is best on the test images; here it is the validation shots.
    """


class TipAdapterF(TipAdapter):
    """Tip-Adapter whose keys are trained; alpha and beta are chosen before, and again after."""

    title = "Tip-Adapter-F"
    settings_type = TipAdapterFSettings
    trained = ("keys",)

    def finish(self, learner: nn.Module, task: Task) -> Head:
        """The trained keys, with alpha and beta chosen for them."""
        return self.choose_weights(learner.get_parameter("keys").detach(), task)

    def settings_without_choice(self, shots: int) -> TipAdapterFSettings:
        """Tip-Adapter's, and the last epoch."""
        settings = super().settings_without_choice(shots)
        assert isinstance(settings, TipAdapterFSettings)
        return settings.model_copy(update={"select": "last"})

    def work(self, size: Size) -> Work:
        """Tip-Adapter's, which chooses twice, and the training of the keys."""
        assert isinstance(self.settings, TipAdapterFSettings)
        untrained, keys = super().work(size), size.images
        steps, batch = self.settings.steps(size), self.settings.batch(size)
        asking = 4 * keys * (size.shape.dim + size.classes)  # and its way back to the keys
        # The keys' gradient and AdamW's state; a batch's affinities and theirs.
        numbers = 4 * keys * size.shape.dim + 4 * batch * keys
        return untrained._replace(
            flops=2 * untrained.flops + steps * batch * asking,
            part_bytes=untrained.part_bytes + numbers * SINGLE,
        )

"""Tip-Adapter-F: Tip-Adapter with trained keys (Zhang et al., ECCV 2022, arXiv 2207.09519)."""

from pydantic import Field

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Head, Module, Recipe, Task
from vtclip.methods.tip_adapter import TipAdapter, TipAdapterSettings


class TipAdapterFSettings(Recipe, TipAdapterSettings):
    """Settings of Tip-Adapter-F; the recipe's defaults are the authors'.

    They keep the epoch that is best on the test images; here it is the validation shots. They train
    at beta 1 and at an alpha that differs by dataset; here it is ImageNet's.
    """

    learning_rate: base.LearningRate = 0.001
    epsilon: base.Epsilon = 1e-4
    batch_size: base.BatchSize = 256
    last_batch: base.LastBatch = "keep"
    warmup: base.Warmup = 0.0
    epochs: base.EpochsByShots = 20
    epochs_of: base.EpochsOf = {"eurosat": 100}
    select: base.Select = "val"

    initial_alpha: float = Field(1.17, ge=0)
    """weight of the cache while the keys are trained, 0 or more"""
    initial_beta: float = Field(1.0, gt=0)
    """sharpness of the cache while the keys are trained, above 0"""


class TipAdapterF(TipAdapter):
    """Tip-Adapter whose keys are trained at a fixed alpha and beta; both are chosen afterwards."""

    title = "Tip-Adapter-F"
    settings_type = TipAdapterFSettings
    settings: TipAdapterFSettings
    trained = ("keys",)

    def initial_head(self, task: Task) -> Head:
        """Tip-Adapter's, with the alpha and beta of training."""
        constants = self.settings_without_choice(shots=0)  # the same for all numbers of shots
        return TipAdapter(constants).initial_head(task)

    def finish(self, learner: Module, task: Task) -> Head:
        """The trained keys, with alpha and beta chosen for them."""
        return self.choose_weights(learner.get_parameter("keys").detach(), task)

    def settings_without_choice(self, shots: int) -> TipAdapterFSettings:
        """The alpha and beta of training, and the last epoch."""
        alpha, beta = self.settings.initial_alpha, self.settings.initial_beta
        constants = {"alpha": [alpha], "beta": [beta], "select": "last"}
        return self.settings.model_copy(update=constants)

    def work(self, size: Size) -> Work:
        """Tip-Adapter's, and the training of the keys."""
        untrained, keys = super().work(size), size.images
        steps, batch = self.settings.steps(size), self.settings.batch(size)
        lookup = 4 * keys * (size.shape.dim + size.classes)  # and its way back to the keys
        # The keys' gradient and AdamW's state; a batch's affinities and theirs.
        numbers = 4 * keys * size.shape.dim + 4 * batch * keys
        return untrained._replace(
            flops=untrained.flops + steps * batch * lookup,
            part_bytes=untrained.part_bytes + numbers * SINGLE,
        )

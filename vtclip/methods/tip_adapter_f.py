"""Tip-Adapter-F: Tip-Adapter with trained keys (Zhang et al., ECCV 2022, arXiv 2207.09519)."""

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Head, Module, Recipe, Task
from vtclip.methods.tip_adapter import TipAdapter, TipAdapterSettings


class TipAdapterFSettings(Recipe, TipAdapterSettings):
    """Settings of Tip-Adapter-F; the recipe's defaults are the paper's.

    The paper keeps the epoch that is best on the test images; here it is the validation shots.
    """

    learning_rate: base.LearningRate = 0.001
    epsilon: base.Epsilon = 1e-4
    batch_size: base.BatchSize = 256
    warmup: base.Warmup = 0.0
    epochs: base.EpochsByShots = 20
    epochs_of: base.EpochsOf = {}
    select: base.Select = "val"


class TipAdapterF(TipAdapter):
    """Tip-Adapter whose keys are trained; alpha and beta are chosen before, and again after."""

    title = "Tip-Adapter-F"
    settings_type = TipAdapterFSettings
    settings: TipAdapterFSettings
    trained = ("keys",)

    def finish(self, learner: Module, task: Task) -> Head:
        """The trained keys, with alpha and beta chosen for them."""
        return self.choose_weights(learner.get_parameter("keys").detach(), task)

    def settings_without_choice(self, shots: int) -> TipAdapterFSettings:
        """Tip-Adapter's, and the last epoch."""
        constants = {"alpha": [1.0], "beta": [1.0], "select": "last"}
        return self.settings.model_copy(update=constants)

    def work(self, size: Size) -> Work:
        """Tip-Adapter's, which chooses twice, and the training of the keys."""
        untrained, keys = super().work(size), size.images
        steps, batch = self.settings.steps(size), self.settings.batch(size)
        lookup = 4 * keys * (size.shape.dim + size.classes)  # and its way back to the keys
        # The keys' gradient and AdamW's state; a batch's affinities and theirs.
        numbers = 4 * keys * size.shape.dim + 4 * batch * keys
        return untrained._replace(
            flops=2 * untrained.flops + steps * batch * lookup,
            part_bytes=untrained.part_bytes + numbers * SINGLE,
        )

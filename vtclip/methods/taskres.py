"""TaskRes: a trained residual on each class's text (Yu et al., CVPR 2023, arXiv 2211.10277)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from vtclip.cost import Work
from vtclip.methods._vectors import account, nearest
from vtclip.methods.base import Head, Images, Method, Recipe, Task, Texts

if TYPE_CHECKING:
    from torch import Tensor

    from vtclip.cost import Size


class TaskResSettings(
    Recipe,
    defaults={
        "optimiser": "adam",
        "learning_rate": 0.002,
        "weight_decay": 0.0005,
        "batch_size": 256,
        "warmup": 0.01,  # one epoch of a hundred
        "epochs": {1: 100, 8: 200},
        "epochs_of": {},
    },
):
    """Settings of TaskRes; the defaults are the paper's.

    Its authors took alpha 1.0 for Flowers102 and a learning rate of 2e-4 for ImageNet, and do not
    say what they chose them on. Here one pair holds for all datasets.
    """

    alpha: float = Field(default=0.5, ge=0, description="weight of the residual, 0 or more")


class TaskRes(Method):
    """logits = scale * cos(pooled, text mean + alpha * residual).

    The text means are as long as CLIP makes them: of unit texts the same residual would be a step
    several times too large.
    """

    title = "TaskRes"
    settings_type = TaskResSettings
    reads_views = True
    trained = ("residual",)

    def initial_head(self, task: Task) -> Head:
        """No residual: the zero-shot logits."""
        return {"residual": task.texts.features.new_zeros(task.texts.features.shape)}

    def classifier(self, head: Head, texts: Texts) -> Callable[[Images], Tensor]:
        """The nearest of the texts with their residuals."""
        assert isinstance(self.settings, TaskResSettings)
        return nearest(texts.means + self.settings.alpha * head["residual"], texts)

    def work(self, size: Size) -> Work:
        """The residuals' training."""
        assert isinstance(self.settings, TaskResSettings)
        return account(super().work(size), size, self.settings)

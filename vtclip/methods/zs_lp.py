"""ZS-LP: a linear probe from the texts on (Silva-Rodriguez et al., CVPR 2024, arXiv 2312.12730)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vtclip.cost import Work
from vtclip.methods._vectors import account, nearest
from vtclip.methods.base import Head, Images, Method, Recipe, Task, Texts

if TYPE_CHECKING:
    from torch import Tensor

    from vtclip.cost import Size


class ZSLPSettings(
    Recipe,
    defaults={
        "optimiser": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "batch_size": 256,
        "warmup": 1 / 300,  # one epoch
        "epochs": 300,
        "epochs_of": {},
    },
):
    """Settings of ZS-LP; the defaults are the paper's, the same for all datasets and shots."""


class ZSLP(Method):
    """logits = scale * cos(pooled, vectors), from the text means on.

    The text means are as long as CLIP makes them: the learning rate is for vectors of that length.
    """

    title = "ZS-LP"
    settings_type = ZSLPSettings
    reads_views = True
    trained = ("vectors",)

    def initial_head(self, task: Task) -> Head:
        """The text means: the zero-shot logits."""
        return {"vectors": task.texts.means}

    def classifier(self, head: Head, texts: Texts) -> Callable[[Images], Tensor]:
        """The nearest of the trained vectors."""
        return nearest(head["vectors"], texts)

    def work(self, size: Size) -> Work:
        """The vectors' training."""
        assert isinstance(self.settings, ZSLPSettings)
        return account(super().work(size), size, self.settings)

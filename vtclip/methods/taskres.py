"""TaskRes: a trained residual on each class's text (Yu et al., CVPR 2023, arXiv 2211.10277)."""

from pydantic import Field

from vtclip.cost import Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, DasslRecipe, Head, Method, Task, Texts, cosine_head_work


class TaskResSettings(DasslRecipe):
    """Settings of TaskRes; the defaults are those of the authors' code for most datasets.

    They took alpha 1.0 for Flowers102 and a learning rate of 2e-4 for ImageNet, and do not
    say what they chose them on. Here one pair serves all datasets.
    """

    optimiser: base.OptimiserName = "adam"
    batch_size: base.BatchSize = 256
    epochs: base.EpochsByShots = {1: 100, 8: 200}
    epochs_of: base.EpochsOf = {}

    alpha: float = Field(0.5, ge=0)
    """weight of the residual, 0 or more"""


class TaskRes(Method):
    """logits = scale * cos(pooled, text mean + alpha * residual).

    The text means are as long as CLIP makes them: of unit texts the same residual would be a step
    several times too large.
    """

    title = "TaskRes"
    settings_type = TaskResSettings
    settings: TaskResSettings
    reads_views = True
    trained = ("residual",)

    def initial_head(self, task: Task) -> Head:
        """No residual: the zero-shot logits."""
        means = task.texts.means
        assert means is not None
        return {"residual": means.new_zeros(means.shape), "means": means}

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Classification by the texts with their residuals."""
        return base.cosine_classifier(head["means"] + self.settings.alpha * head["residual"], texts)

    def work(self, size: Size) -> Work:
        """The residuals' training."""
        work = cosine_head_work(super().work(size), size, self.settings)
        return work._replace(head_bytes=2 * work.head_bytes)

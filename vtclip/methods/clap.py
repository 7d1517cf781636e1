"""CLAP: ZS-LP, kept near the texts (Silva-Rodriguez et al., CVPR 2024, arXiv 2312.12730)."""

from pydantic import Field

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods.base import Classifier, Head, Images, Module, Task, Tensor
from vtclip.methods.zs_lp import ZSLP, ZSLPSettings


class CLAPSettings(ZSLPSettings):
    """Settings of CLAP; the defaults are the paper's, the same for all datasets and shots."""

    penalty_weight: float = Field(1.0, ge=0)
    """factor on the penalty that keeps the vectors near the texts; 0 for ZS-LP, 1 is the paper's"""


class CLAP(ZSLP):
    """ZS-LP, with the mean over classes of lambda * |vector - text mean|^2 added to the loss.

    A class's lambda is its mean probability by the text means, on all views of its shots.
    """

    title = "CLAP"
    settings_type = CLAPSettings
    settings: CLAPSettings

    def learner(self, head: Head, task: Task) -> Module:
        """The vectors, with the penalty that keeps them near the text means."""
        from vtclip.nn.learner import Learner

        means = head["vectors"].clone()
        confidence = class_confidence(self.classifier(head, task.texts), task)
        weights = self.settings.penalty_weight * confidence / len(confidence)  # (K,)

        def penalise(head: Head) -> Tensor:
            return weights @ (head["vectors"] - means).square().sum(dim=1)

        return Learner(head, self.trained, lambda head: self.classifier(head, task.texts), penalise)

    def work(self, size: Size) -> Work:
        """ZS-LP's, and that of lambda: the logits of all views of the shots."""
        plain = super().work(size)
        views, logits = size.images * size.views, size.images * size.classes
        return plain._replace(
            flops=plain.flops + 2 * views * size.classes * size.shape.dim,
            part_bytes=plain.part_bytes + 2 * logits * SINGLE,
        )


def class_confidence(classifier: Classifier, task: Task) -> Tensor:
    """The mean probability of each class on its own shots, (K,) in 0 .. 1.

    A class without a shot has 1: only its text describes it.
    """
    import torch

    pooled, labels = task.samples.pooled, task.samples.labels
    own = torch.stack(
        [
            classifier(Images(view, None)).softmax(dim=1).gather(1, labels[:, None])
            for view in pooled.unbind(dim=1)
        ]
    )  # (V, M, 1)
    classes = len(task.texts.features)
    sums = own.new_zeros(classes).index_add(0, labels, own.mean(dim=0)[:, 0])
    shots = labels.bincount(minlength=classes)
    return torch.where(shots > 0, sums / shots.clamp(min=1), 1.0)

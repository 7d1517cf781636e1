"""LP++: a linear probe that weighs the texts (Huang et al., CVPR 2024, arXiv 2404.02285)."""

from collections import deque
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from vtclip.cost import DOUBLE, SINGLE, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, Head, Method, Task, Texts, unit
from vtclip.settings import Settings

ALPHA_START = 250  # times the mean cosine of an image and the text of its class
MOMENTUM = 0.9  # of weight and bias
ALPHA_EVERY = 10  # epochs after which alpha moves


class LPPlusPlusSettings(Settings):
    """Settings of LP++. The step sizes come from the shots."""

    epochs: int = Field(300, ge=1)
    """steps, each on all shots at once"""
    select: Literal["last", "val"] = "val"
    """the epoch that is kept: the last, or the best on the validation shots"""


class LPPlusPlus(Method):
    """logits_k = f . weight_k + bias_k + alpha_k (f . t_k), with all three learned.

    The mean cross-entropy of all shots falls by gradient descent whose steps come from the shots.
    """

    title = "LP++"
    settings_type = LPPlusPlusSettings
    settings: LPPlusPlusSettings

    def initial_head(self, task: Task) -> Head:
        """The last epoch's head, or the best on the validation shots, of equals the first."""
        heads = descend(task, self.settings.epochs)
        if self.settings.select == "last":
            return deque(heads, maxlen=1).pop()
        return base.choose_head(heads, self.classifier, task)

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The hyperplanes, the texts' share added."""
        weight = head["weight"] + head["alpha"][:, None] * texts.features
        return lambda images: unit(images.pooled) @ weight.T + head["bias"]  # (B, K)

    def settings_without_choice(self, shots: int) -> LPPlusPlusSettings:
        """The last epoch."""
        return self.settings.model_copy(update={"select": "last"})

    def work(self, size: Size) -> Work:
        """In each epoch all shots meet the weights, there and back, and the validation shots."""
        classes, dim, images = size.classes, size.shape.dim, size.images
        val = size.val_images if self.settings.select == "val" else 0
        weights = classes * (dim + 2)
        labels = images * classes * DOUBLE  # one-hot, as whole numbers
        numbers = 6 * images * classes + 2 * images * dim + 8 * weights + 2 * dim**2
        plain = super().work(size)
        return plain._replace(
            flops=self.settings.epochs * (4 * images + 2 * val) * classes * dim
            + 2 * images * dim**2
            + 10 * dim**3,  # the eigenvalues
            part_bytes=labels + numbers * SINGLE,
            predict_flops=2 * classes * dim,
            head_bytes=weights * SINGLE,
        )


def descend(task: Task, epochs: int) -> Iterator[Head]:
    """The head after each epoch."""
    import torch
    from torch.nn.functional import one_hot

    features, labels = unit(task.samples.pooled[:, 0]), task.samples.labels
    texts = task.texts.features
    (number, dim), classes = features.shape, len(texts)
    targets = one_hot(labels, classes).to(features.dtype)  # (M, K)
    cosines = features @ texts.T  # (M, K)
    torch.manual_seed(task.seed)
    bias = torch.nn.Linear(dim, classes).bias.detach().to(features)
    weight = targets.T @ features  # the sum of each class's shots
    # The mean, over the classes that have shots, of the mean cosine of a shot and its text.
    shots, own_cosines = targets.sum(dim=0), (cosines * targets).sum(dim=0)  # (K,)
    own_cosine = (own_cosines / shots)[shots > 0].mean().item()
    alpha = bias.new_full((classes,), ALPHA_START * own_cosine)
    # The steps are the paper's, from bounds of the loss's curvature: none is tuned.
    step = 4 * number / torch.linalg.eigvalsh(features.T @ features)[-1]
    alpha_step = number / (4 * cosines.square().sum(dim=0).amax())
    weight_momentum, bias_momentum = torch.zeros_like(weight), torch.zeros_like(bias)
    for epoch in range(1, epochs + 1):
        logits = features @ weight.T + bias + alpha * cosines
        error = (logits.softmax(dim=1) - targets) / number  # the loss's gradient by the logits
        weight_momentum = MOMENTUM * weight_momentum + error.T @ features
        bias_momentum = MOMENTUM * bias_momentum + error.sum(dim=0)
        weight, bias = weight - step * weight_momentum, bias - step * bias_momentum
        # The gradient of this epoch, as in the paper; the authors' code adds up all before.
        if epoch % ALPHA_EVERY == 0:
            alpha = alpha - alpha_step * (error * cosines).sum(dim=0)
        yield {"weight": weight, "bias": bias, "alpha": alpha}

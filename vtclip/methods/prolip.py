"""ProLIP: the image tower's projection, trained near its start (Fahes et al., arXiv 2410.05270)."""

import math
from typing import Literal

from pydantic import Field

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods.base import Classifier, Head, Images, Method, Samples, Task, Tensor, Texts
from vtclip.settings import Settings

EPSILON = 1e-4  # Adam's, the authors'


class ProLIPSettings(Settings):
    """Settings of ProLIP without validation images; see `docs/methods.md` on the learning rate."""

    learning_rate: float = Field(1e-3, gt=0)
    """Adam's, which falls with a cosine, above 0"""
    steps: int = Field(300, ge=1)
    """steps, each on all shots in one view"""
    power: Literal[1, 2] = 1
    """the distance from the start counts 1 / s (1) or 1 / s^2 (2) at s shots"""


class ProLIP(Method):
    """logits = scale * cos(x @ weight.T + bias, texts), x the pooled feature before projection.

    The mean cross-entropy of the shots, plus the sum of squares of the weight's distance from
    CLIP's own over the number of shots, falls by Adam. The bias is CLIP's. Nothing is chosen.
    """

    title = "ProLIP"
    settings_type = ProLIPSettings
    settings: ProLIPSettings
    reads_views = True
    reads_spatial = True
    spatial_kind = "unprojected"
    reads_projection = True
    names_new_classes = True

    def initial_head(self, task: Task) -> Head:
        """The projection after the last step."""
        import torch

        from vtclip.nn.learner import Adam

        assert task.projection is not None
        start, bias = task.projection
        weight = start.clone().requires_grad_()
        penalty = task.samples.labels.bincount().max().item() ** -self.settings.power
        adam = Adam([weight], weight_decay=0.0, epsilon=EPSILON)
        steps = self.settings.steps
        for step in range(steps):
            with torch.enable_grad():
                view = take_view(task.samples, step).to(bias.dtype)
                logits = project(view, weight, bias, task.texts)
                loss = torch.nn.functional.cross_entropy(logits, task.samples.labels)
                loss = loss + penalty * (weight - start).square().sum()
            loss.backward()
            adam.step(self.settings.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2)
        return {"weight": weight.detach(), "bias": bias}

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The projection and the texts."""

        def logits(images: Images) -> Tensor:
            assert images.spatial is not None
            return project(images.spatial[:, 0], head["weight"], head["bias"], texts)  # (B, K)

        return logits

    def work(self, size: Size) -> Work:
        """All shots in one view go through the projection in each step, there and back."""
        shape, images = size.shape, size.images
        weights = shape.dim * shape.width
        products = 6 * images * (weights + shape.dim * size.classes)
        numbers = 6 * weights + images * (shape.width + 4 * shape.dim + 4 * size.classes)
        plain = super().work(size)
        return plain._replace(
            flops=self.settings.steps * products,
            part_bytes=numbers * SINGLE,
            predict_flops=2 * weights + plain.predict_flops,
            head_bytes=(weights + shape.dim) * SINGLE,
        )


def take_view(shots: Samples, step: int) -> Tensor:
    """The pooled features before projection (M, width) of a step's view of all shots.

    The random views come one after another, and again from the first on. The step that begins has
    the second of them, as in the authors' code.
    """
    assert shots.spatial is not None
    random = shots.spatial.shape[1] - 1  # view 0 is the test view
    view = 1 + (step + 1) % random if random else 0
    return shots.spatial[:, view, 0].to(shots.labels.device)


def project(wide: Tensor, weight: Tensor, bias: Tensor, texts: Texts) -> Tensor:
    """Zero-shot logits (B, K) of pooled features before projection (B, width)."""
    return texts.logits(wide @ weight.T + bias)

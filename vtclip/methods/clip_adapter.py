"""CLIP-Adapter: two layers on the pooled feature (Gao et al., IJCV 2024, arXiv 2110.04544)."""

from pydantic import Field

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods.base import Classifier, DasslRecipe, Head, Images, Method, Task, Tensor, Texts


class CLIPAdapterSettings(DasslRecipe):
    """Settings of CLIP-Adapter; the defaults are those of its authors' code."""

    ratio: float = Field(0.2, ge=0, le=1)
    """share of the adapted feature in the sum, 0 to 1"""
    reduction: int = Field(4, ge=1)
    """how many times narrower the hidden layer is than the feature"""


class CLIPAdapter(Method):
    """logits = scale * cos(ratio * adapted + (1 - ratio) * pooled, texts).

    adapted = relu(up @ relu(down @ pooled)), without biases.
    """

    title = "CLIP-Adapter"
    settings_type = CLIPAdapterSettings
    settings: CLIPAdapterSettings
    reads_views = True
    names_new_classes = True
    trained = ("down", "up")

    def initial_head(self, task: Task) -> Head:
        """Fresh layers, drawn as PyTorch draws a linear layer's."""
        import torch

        dim = task.texts.features.shape[1]
        hidden = self._hidden(dim)
        torch.manual_seed(task.seed)
        layers = {"down": torch.nn.Linear(dim, hidden), "up": torch.nn.Linear(hidden, dim)}
        device = task.texts.features.device
        return {name: layer.weight.detach().to(device) for name, layer in layers.items()}

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The texts, and the adapted feature."""
        ratio = self.settings.ratio

        def logits(images: Images) -> Tensor:
            adapted = (images.pooled @ head["down"].T).relu()  # (B, D / reduction)
            adapted = (adapted @ head["up"].T).relu()  # (B, D)
            return texts.logits(ratio * adapted + (1 - ratio) * images.pooled)  # (B, K)

        return logits

    def work(self, size: Size) -> Work:
        """Two layers and the texts; three times as many operations in training."""
        dim = size.shape.dim
        weights = 2 * dim * self._hidden(dim)
        forward = 2 * (weights + size.classes * dim)
        images = self.settings.steps(size) * self.settings.batch(size)
        plain = super().work(size)
        return plain._replace(
            flops=3 * forward * images,
            part_bytes=4 * weights * SINGLE,  # with the gradient and, at most, AdamW's state
            predict_flops=forward,
            head_bytes=weights * SINGLE,
        )

    def _hidden(self, dim: int) -> int:
        return max(1, dim // self.settings.reduction)

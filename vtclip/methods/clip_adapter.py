"""CLIP-Adapter: two layers on the pooled feature (Gao et al., IJCV 2024, arXiv 2110.04544)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from vtclip.methods.base import Head, Images, Method, Recipe, Task, Texts

if TYPE_CHECKING:
    from torch import Tensor


class CLIPAdapterSettings(Recipe):
    """Settings of CLIP-Adapter. Ratio and reduction are the paper's; the recipe is ours."""

    ratio: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="share of the adapted feature in the sum, 0 to 1",
        examples=[0.2],
    )
    reduction: int = Field(
        default=4,
        ge=1,
        description="how many times narrower the hidden layer is than the feature",
        examples=[4],
    )
    learning_rate: float | None = Field(
        default=0.001, gt=0, description="the largest learning rate, above 0", examples=[0.001]
    )


class CLIPAdapter(Method):
    """logits = scale * cos(ratio * adapted + (1 - ratio) * pooled, texts).

    adapted = relu(up @ relu(down @ pooled)), without biases.
    """

    settings_type = CLIPAdapterSettings
    reads_views = True
    trained = ("down", "up")

    def start(self, task: Task) -> Head:
        """Fresh layers, drawn as PyTorch draws a linear layer's."""
        import torch

        assert isinstance(self.settings, CLIPAdapterSettings)
        dim = task.texts.features.shape[1]
        hidden = max(1, dim // self.settings.reduction)
        torch.manual_seed(task.seed)
        layers = {"down": torch.nn.Linear(dim, hidden), "up": torch.nn.Linear(hidden, dim)}
        device = task.texts.features.device
        return {name: layer.weight.detach().to(device) for name, layer in layers.items()}

    def classifier(self, head: Head, texts: Texts) -> Callable[[Images], Tensor]:
        """The texts, and the adapted feature."""
        assert isinstance(self.settings, CLIPAdapterSettings)
        ratio = self.settings.ratio

        def logits(images: Images) -> Tensor:
            adapted = (images.pooled @ head["down"].T).relu()  # (B, D / reduction)
            adapted = (adapted @ head["up"].T).relu()  # (B, D)
            mixed = ratio * adapted + (1 - ratio) * images.pooled
            return texts.logits(mixed)  # (B, K)

        return logits

"""A head some of whose tensors are trained by gradient."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vtclip.task import Head, Images

Classifier = Callable[[Images], Tensor]


def eval_on(classifier: Classifier, device: torch.device) -> Classifier:
    """A classifier that is trained no further, on a device."""
    return classifier.to(device).eval() if isinstance(classifier, nn.Module) else classifier


class Learner(nn.Module):
    """The classifier of a head whose tensors named in `trained` are parameters.

    `penalise` maps the head to a scalar that is added to the loss. The state is a head again.
    """

    def __init__(
        self,
        head: Head,
        trained: Sequence[str],
        classify: Callable[[Head], Classifier],
        penalise: Callable[[Head], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.classify = classify
        self.penalise = penalise
        for name, tensor in head.items():
            if name in trained:
                self.register_parameter(name, nn.Parameter(tensor.clone()))
            else:
                self.register_buffer(name, tensor)

    def forward(self, images: Images) -> Tensor:
        """logits (B, K)."""
        return self.classify(self._head())(images)

    def penalty(self) -> Tensor | None:
        """Scalar to add to the loss; None for nothing."""
        return None if self.penalise is None else self.penalise(self._head())

    def _head(self) -> Head:
        return dict(self.named_parameters()) | dict(self.named_buffers())

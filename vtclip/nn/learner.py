"""A head some of whose tensors are trained by gradient."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vtclip.task import Head, Images

Classifier = Callable[[Images], Tensor]


def at_rest(classifier: Classifier, device: torch.device) -> Classifier:
    """A classifier that is trained no further, on a device."""
    return classifier.to(device).eval() if isinstance(classifier, nn.Module) else classifier


class Learner(nn.Module):
    """The classifier of a head, some of whose tensors learn.

    Its state is a head again: the same names, those of `trained` as parameters.

    Args:
        head: all tensors.
        trained: the names of those that learn.
        classify: head -> classifier.
    """

    def __init__(
        self, head: Head, trained: Sequence[str], classify: Callable[[Head], Classifier]
    ) -> None:
        super().__init__()
        self.classify = classify
        for name, tensor in head.items():
            if name in trained:
                self.register_parameter(name, nn.Parameter(tensor.clone()))
            else:
                self.register_buffer(name, tensor)

    def forward(self, images: Images) -> Tensor:
        """logits (B, K)."""
        head = dict(self.named_parameters()) | dict(self.named_buffers())
        return self.classify(head)(images)

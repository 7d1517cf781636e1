"""A head some of whose tensors are trained by gradient, and the steps that train them."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from vtclip.task import Classifier, Head, Images


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


# AdamW, Adam and SGD go through the functions behind PyTorch's classes: the classes import all of
# torch.compile before their first step, a second that a training of a few seconds would pay.


class Optimiser:
    """Moves parameters along their gradients; a subclass has the rule and its state."""

    def __init__(self, parameters: Iterable[Tensor], *, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.weight_decay = weight_decay
        self.memory = [self._remember(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the parameters that have a gradient, and forget the gradients."""
        moved = [
            (parameter, parameter.grad, *memory)
            for parameter, memory in zip(self.parameters, self.memory, strict=True)
            if parameter.grad is not None
        ]
        self._move(learning_rate, *(list(column) for column in zip(*moved, strict=True)))
        for parameter in self.parameters:
            parameter.grad = None

    def _remember(self, parameter: Tensor) -> tuple[Tensor, ...]:
        """Initial state of a parameter that is kept from step to step."""
        raise NotImplementedError

    def _move(self, learning_rate: float, *columns: list[Tensor]) -> None:
        """Change parameters and memory in place: parameters, gradients, and each memory."""
        raise NotImplementedError


class AdamW(Optimiser):
    """AdamW (arXiv 1711.05101) with betas of 0.9 and 0.999: `torch.optim.AdamW(fused=True)`."""

    decoupled = True  # weight decay acts on the parameters, not on the gradient

    def __init__(
        self, parameters: Iterable[Tensor], *, weight_decay: float, epsilon: float
    ) -> None:
        super().__init__(parameters, weight_decay=weight_decay)
        self.epsilon = epsilon

    def _remember(self, parameter: Tensor) -> tuple[Tensor, ...]:
        steps = torch.zeros((), device=parameter.device)
        return torch.zeros_like(parameter), torch.zeros_like(parameter), steps

    def _move(self, learning_rate: float, *columns: list[Tensor]) -> None:
        parameters, gradients, means, squares, steps = columns
        adam(
            parameters, gradients, means, squares, [], steps, fused=True, amsgrad=False,
            beta1=0.9, beta2=0.999, lr=learning_rate, eps=self.epsilon,
            weight_decay=self.weight_decay, decoupled_weight_decay=self.decoupled, maximize=False,
        )  # fmt: skip


class Adam(AdamW):
    """Adam (arXiv 1412.6980), the decay a part of the gradient: `torch.optim.Adam(fused=True)`."""

    decoupled = False


class SGD(Optimiser):
    """Gradient descent with a momentum of 0.9: `torch.optim.SGD`."""

    def _remember(self, parameter: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros_like(parameter),)

    def _move(self, learning_rate: float, *columns: list[Tensor]) -> None:
        parameters, gradients, momenta = columns
        sgd(
            parameters, gradients, [*momenta], lr=learning_rate, momentum=0.9, dampening=0,
            weight_decay=self.weight_decay, nesterov=False, maximize=False,
        )  # fmt: skip

"""Steps by gradient: AdamW, Adam and SGD, through the functions behind PyTorch's classes.

`torch.optim`'s classes import all of torch.compile before their first step: a second, which a
training of a few seconds would pay every time. Their functions compute the same without it.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd


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

import copy

import pytest
import torch

from vtclip.nn.learner import SGD, Adam, AdamW

RATES = (1e-3, 5e-3, 2e-3, 1e-3, 0.0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            lambda parameters: AdamW(parameters, weight_decay=0.1, epsilon=1e-4),
            lambda parameters: torch.optim.AdamW(
                parameters, weight_decay=0.1, eps=1e-4, fused=True
            ),
        ),
        (
            lambda parameters: Adam(parameters, weight_decay=0.1, epsilon=1e-4),
            lambda parameters: torch.optim.Adam(parameters, weight_decay=0.1, eps=1e-4, fused=True),
        ),
        (
            lambda parameters: SGD(parameters, weight_decay=0.1),
            lambda parameters: torch.optim.SGD(parameters, momentum=0.9, weight_decay=0.1),
        ),
    ],
    ids=["adamw", "adam", "sgd"],
)
def test_the_weights_are_those_of_pytorchs_own_optimiser_bit_for_bit(ours, theirs):
    mine = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    reference = copy.deepcopy(mine)
    descent, optimiser = ours(mine.parameters()), theirs(reference.parameters())
    for rate in RATES:
        batch = torch.randn(6, 5)
        mine(batch).square().sum().backward()
        descent.step(rate)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.zero_grad()
        reference(batch).square().sum().backward()
        optimiser.step()
        for one, other in zip(mine.parameters(), reference.parameters(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", [SGD, lambda *a, **k: AdamW(*a, epsilon=1e-8, **k)])
def test_a_parameter_without_a_gradient_stays_as_it_is(kind):
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    descent = kind([used, unused], weight_decay=0.5)
    used.sum().backward()
    descent.step(0.1)
    assert (used != 1).all()
    assert (unused == 1).all()
    assert used.grad is None

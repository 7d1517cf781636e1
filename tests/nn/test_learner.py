import copy
from functools import partial

import pytest
import torch

from vtclip.nn.learner import SGD, Adam, AdamW

RATES = (1e-3, 5e-3, 2e-3, 1e-3, 0.0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (partial(AdamW, epsilon=1e-4), partial(torch.optim.AdamW, eps=1e-4, fused=True)),
        (partial(Adam, epsilon=1e-4), partial(torch.optim.Adam, eps=1e-4, fused=True)),
        (SGD, partial(torch.optim.SGD, momentum=0.9)),
    ],
    ids=["adamw", "adam", "sgd"],
)
def test_the_weights_are_those_of_pytorchs_own_optimiser_bit_for_bit(ours, theirs):
    mine = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    reference = copy.deepcopy(mine)
    descent = ours(mine.parameters(), weight_decay=0.1)
    optimiser = theirs(reference.parameters(), weight_decay=0.1)
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


@pytest.mark.parametrize("kind", [SGD, partial(AdamW, epsilon=1e-8)])
def test_a_parameter_without_a_gradient_stays_as_it_is(kind):
    used, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    descent = kind([used, unused], weight_decay=0.5)
    used.sum().backward()
    descent.step(0.1)
    assert (used != 1).all()
    assert (unused == 1).all()
    assert used.grad is None

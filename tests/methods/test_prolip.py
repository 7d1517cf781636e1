"""ProLIP equals its formulas, and starts as zero-shot."""

import math
from dataclasses import replace

import pytest
import torch

from vtclip.methods.base import Images, Samples
from vtclip.methods.prolip import ProLIP, ProLIPSettings, take_view

WIDTH = 24


@pytest.fixture
def wide(task):
    """The task with pooled features before a projection from 24 to 16, in float64."""
    generator = torch.Generator().manual_seed(2)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def samples(given, views):
        return Samples(given.pooled, normal(12, views, 1, WIDTH), given.labels)

    projection = normal(16, WIDTH) / 5, normal(16) / 5
    texts = replace(task.texts, features=task.texts.features.double())
    return replace(
        task, texts=texts, train=samples(task.train, 4), val=samples(task.val, 1),
        projection=projection,
    )  # fmt: skip


def test_before_the_first_step_it_is_zero_shot_of_the_projected_features(wide):
    weight, bias = wide.projection
    images = wide.val.spatial[:, 0]
    found = ProLIP(ProLIPSettings()).classifier({"weight": weight, "bias": bias}, wide.texts)(
        Images(wide.val.pooled[:, 0], images)
    )
    for row, image in zip(found, images[:, 0], strict=True):
        feature = weight @ image + bias
        expected = [100 * (feature @ text) / feature.norm() for text in wide.texts.features]
        assert row.tolist() == pytest.approx([each.item() for each in expected])


@pytest.mark.parametrize("power", [1, 2])
def test_the_steps_are_adams_on_cross_entropy_and_the_distance_from_the_start(wide, power):
    start, bias = wide.projection
    settings = ProLIPSettings(steps=5, learning_rate=0.01, power=power)
    found = ProLIP(settings).initial_head(wide)
    weight, mean, square = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    shots = 3
    for step in range(5):
        x = wide.train.spatial[:, [2, 3, 1, 2, 3][step], 0]  # the random views are 1, 2 and 3
        moved = weight.clone().requires_grad_()
        loss = torch.zeros((), dtype=torch.float64)
        for image, label in zip(x, wide.train.labels, strict=True):
            feature = moved @ image + bias
            logits = 100 * wide.texts.features @ feature / feature.norm()
            loss = loss - (logits[label] - logits.logsumexp(0)) / len(x)
        loss = loss + ((moved - start) ** 2).sum() / shots**power
        (gradient,) = torch.autograd.grad(loss, moved)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        unbiased = mean / (1 - 0.9 ** (step + 1)), square / (1 - 0.999 ** (step + 1))
        rate = 0.01 * 0.5 * (1 + math.cos(math.pi * step / 5))
        weight = weight - rate * unbiased[0] / (unbiased[1].sqrt() + 1e-4)
    torch.testing.assert_close(found["weight"], weight, rtol=1e-6, atol=1e-9)
    assert torch.equal(found["bias"], bias)


def test_a_single_view_is_the_test_view(wide):
    single = replace(wide.train, spatial=wide.train.spatial[:, :1])
    assert torch.equal(take_view(single, 7), wide.train.spatial[:, 0, 0])

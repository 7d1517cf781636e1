import math

import pytest
import torch

from vtclip.methods.base import Images
from vtclip.methods.clip_adapter import CLIPAdapter, CLIPAdapterSettings
from vtclip.training.optimise import optimise


def test_the_logits_equal_a_computation_in_loops(task):
    method = CLIPAdapter(CLIPAdapterSettings(ratio=0.3))
    head = method.initial_head(task)
    pooled = task.val.pooled[:, 0]
    logits = method.classifier(head, task.texts)(Images(pooled, None))
    for row, image in zip(logits, pooled.tolist(), strict=True):
        hidden = [max(0, dot(weights, image)) for weights in head["down"].tolist()]
        adapted = [max(0, dot(weights, hidden)) for weights in head["up"].tolist()]
        mixed = [0.3 * a + 0.7 * f for a, f in zip(adapted, image, strict=True)]
        length = math.sqrt(dot(mixed, mixed))
        expected = [100 * dot(mixed, text) / length for text in task.texts.features.tolist()]
        assert row.tolist() == pytest.approx(expected, abs=1e-4)


def dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_training_lowers_the_loss_and_changes_the_two_layers_alone(task):
    method = CLIPAdapter(CLIPAdapterSettings(epochs=40, ratio=0.8, learning_rate=0.01))
    head = method.initial_head(task)
    assert {name: tuple(tensor.shape) for name, tensor in head.items()} == {
        "down": (4, 16), "up": (16, 4),
    }  # fmt: skip
    learner = method.learner(head, task)
    assert [name for name, _ in learner.named_parameters()] == ["down", "up"]
    texts = task.texts.features.clone()
    history = optimise(learner, task, method.settings)
    assert history["loss"][-1] < history["loss"][0]
    assert torch.equal(task.texts.features, texts)
    trained = method.finish(learner, task)
    assert all(not torch.equal(trained[name], head[name]) for name in head)


def test_the_layers_depend_on_the_seed_alone(task):
    method = CLIPAdapter(CLIPAdapterSettings())
    first = method.initial_head(task)
    torch.rand(3)
    assert torch.equal(first["down"], method.initial_head(task)["down"])

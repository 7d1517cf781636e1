import math

import pytest

from vtclip.methods.base import Images
from vtclip.methods.clip_adapter import CLIPAdapter, CLIPAdapterSettings


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

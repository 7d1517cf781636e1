import math
from dataclasses import replace

import pytest
import torch

from vtclip.methods.base import Images
from vtclip.methods.calip import CALIP, CALIPSettings


def unit(vector):
    return [value / math.sqrt(sum(v * v for v in vector)) for value in vector]


def dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


def softmax(values):
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def slow_logits(pooled, spatial, texts, scale, settings):
    """CALIP for one image, in loops over plain numbers."""
    pooled, tokens = unit(pooled), [unit(token) for token in spatial]
    width, classes = len(pooled), range(len(texts))
    attention = [[settings.sharpness * dot(token, texts[k]) for k in classes] for token in tokens]
    looks = []  # for each token, the mixture of the texts that it looks at
    for row in attention:
        shares = softmax(row)
        looks.append([sum(shares[k] * texts[k][d] for k in classes) for d in range(width)])
    columns = list(zip(*looks, strict=True))
    image = [sum(column) / len(looks) + max(column) for column in columns]
    logits = []
    for k in classes:
        shares = softmax([row[k] for row in attention])
        text = [
            sum(s * token[d] for s, token in zip(shares, tokens, strict=True)) for d in range(width)
        ]
        logits.append(
            scale
            * (
                dot(pooled, texts[k])
                + settings.text_weight * dot(pooled, text)
                + settings.image_weight * dot(image, texts[k])
            )
        )
    return logits


@pytest.mark.parametrize(
    "settings",
    [CALIPSettings(), CALIPSettings(text_weight=0.7, image_weight=2.0, sharpness=5.0)],
)
def test_the_logits_equal_a_computation_in_loops(task, settings):
    images = Images(task.val.pooled[:3, 0].double(), task.val.spatial[:3, 0].double())
    texts = type(task.texts)(task.texts.features.double(), 100.0)
    logits = CALIP(settings).classifier({}, texts)(images)
    for row, pooled, spatial in zip(logits, images.pooled, images.spatial, strict=True):
        expected = slow_logits(
            pooled.tolist(), spatial[1:].tolist(), texts.features.tolist(), 100.0, settings
        )
        assert row.tolist() == pytest.approx(expected, abs=1e-5)


def test_the_pooled_token_is_no_place_of_the_image(task):
    pooled, spatial = task.val.pooled[:3, 0], task.val.spatial[:3, 0]
    classifier = CALIP(CALIPSettings()).classifier({}, task.texts)
    without_token = CALIP(CALIPSettings()).classifier(
        {}, replace(task.texts, has_pooled_token=False)
    )
    other = torch.cat([torch.randn(3, 1, 16), spatial[:, 1:]], dim=1)
    logits = classifier(Images(pooled, spatial))
    assert torch.equal(classifier(Images(pooled, other)), logits)
    torch.testing.assert_close(without_token(Images(pooled, spatial[:, 1:])), logits)


def test_with_a_sharp_attention_each_text_becomes_its_nearest_token(task):
    settings = CALIPSettings(text_weight=1.0, image_weight=0, sharpness=1e6)
    images = Images(task.val.pooled[:, 0], task.val.spatial[:, 0])
    logits = CALIP(settings).classifier({}, task.texts)(images)
    pooled = torch.nn.functional.normalize(images.pooled, dim=-1)
    spatial = torch.nn.functional.normalize(images.spatial[:, 1:], dim=-1)
    for number in range(len(pooled)):
        for k, text in enumerate(task.texts.features):
            nearest = spatial[number][(spatial[number] @ text).argmax()]
            expected = 100 * (pooled[number] @ text + pooled[number] @ nearest)
            assert logits[number, k].item() == pytest.approx(expected.item(), abs=1e-3)

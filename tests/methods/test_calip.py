from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.methods.by_hand import length, softmax
from vtclip.methods.base import Images
from vtclip.methods.calip import CALIP, CALIPSettings


def slow_logits(pooled, places, texts, settings):
    """CALIP for one image, a place and a text at a time."""
    f, places = pooled / length(pooled), [place / length(place) for place in places]
    attention = np.array([[settings.sharpness * (s @ text) for text in texts] for s in places])
    seen = np.array([softmax(row) @ texts for row in attention])
    image = seen.mean(axis=0) + seen.max(axis=0)
    logits = []
    for text, column in zip(texts, attention.T, strict=True):
        guided = softmax(column) @ np.array(places)
        attended = settings.text_weight * (f @ guided) + settings.image_weight * (image @ text)
        logits.append(100 * (f @ text + attended))
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
            pooled.numpy(), spatial[1:].numpy(), texts.features.numpy(), settings
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

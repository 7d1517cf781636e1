import math
from dataclasses import replace

import pytest
import torch

from tests.methods.by_hand import train
from vtclip.methods.base import Images
from vtclip.methods.tip_adapter import TipAdapter, TipAdapterSettings
from vtclip.methods.tip_adapter_f import TipAdapterF, TipAdapterFSettings
from vtclip.methods.zero_shot import ZeroShot
from vtclip.settings import Settings


@pytest.fixture
def images(task):
    return Images(task.val.pooled[:, 0], None)


def zero_shot(task, images):
    return ZeroShot(Settings()).classifier({}, task.texts)(images)


def only(alpha, beta):
    return TipAdapterSettings(alpha=[alpha], beta=[beta])


def test_the_logits_equal_a_computation_in_loops_over_images_and_shots(task, images):
    head = TipAdapter(only(1.3, 2.5)).initial_head(task)
    logits = TipAdapter(only(1.3, 2.5)).classifier(head, task.texts)(images)
    for number, image in enumerate(images.pooled.double()):
        expected = [
            (100 * torch.dot(image / image.norm(), text.double())).item()
            for text in task.texts.features
        ]
        for shot, label in zip(task.train.pooled.double(), task.train.labels, strict=True):
            key = (shot[0] + shot[1]) / 2  # the mean over the two cached views
            cosine = torch.dot(image, key) / (image.norm() * key.norm())
            expected[label] += 1.3 * math.exp(-2.5 * (1 - cosine.item()))
        assert logits[number].tolist() == pytest.approx(expected, abs=1e-4)


def test_with_beta_towards_infinity_only_the_nearest_key_is_heard(task):
    """A shot as its own query gets alpha at its class, and nothing at any other."""
    task = replace(task, train=replace(task.train, pooled=task.train.pooled[:, :1]))
    images = Images(task.train.pooled[:, 0], None)
    method = TipAdapter(only(7.0, 1e4))
    logits = method.classifier(method.initial_head(task), task.texts)(images)
    expected = 7.0 * torch.nn.functional.one_hot(task.train.labels, 4)
    # 1 - cosine of a vector with itself is some 1e-7 in float32, which beta multiplies.
    torch.testing.assert_close(logits - zero_shot(task, images), expected, rtol=0, atol=0.1)


def test_alpha_and_beta_are_chosen_again_for_the_trained_keys(task):
    method = TipAdapterF(TipAdapterFSettings(epochs=30, learning_rate=0.1))
    trained = train(method, task)
    again = method.choose_weights(trained["keys"], task)
    assert (trained["alpha"], trained["beta"]) == (again["alpha"], again["beta"])

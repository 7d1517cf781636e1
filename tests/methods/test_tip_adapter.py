import math

import pytest
import torch

from tests.methods.by_hand import classify, train
from vtclip.methods.tip_adapter import TipAdapter, TipAdapterSettings
from vtclip.methods.tip_adapter_f import TipAdapterF, TipAdapterFSettings


def test_the_logits_equal_a_computation_in_loops_over_images_and_shots(task):
    pooled = task.val.pooled[:, 0]
    logits = classify(TipAdapter(TipAdapterSettings(alpha=[1.3], beta=[2.5])), task, pooled)
    for number, image in enumerate(pooled.double()):
        expected = [
            (100 * torch.dot(image / image.norm(), text.double())).item()
            for text in task.texts.features
        ]
        for shot, label in zip(task.train.pooled.double(), task.train.labels, strict=True):
            key = (shot[0] + shot[1]) / 2  # the mean over the two cached views
            cosine = torch.dot(image, key) / (image.norm() * key.norm())
            expected[label] += 1.3 * math.exp(-2.5 * (1 - cosine.item()))
        assert logits[number].tolist() == pytest.approx(expected, abs=1e-4)


def test_alpha_and_beta_are_chosen_again_for_the_trained_keys(task):
    method = TipAdapterF(TipAdapterFSettings(epochs=30, learning_rate=0.1))
    trained = train(method, task)
    again = method.choose_weights(trained["keys"], task)
    assert (trained["alpha"], trained["beta"]) == (again["alpha"], again["beta"])

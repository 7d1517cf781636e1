"""TIMO equals its formulas, computed text by text in double precision."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.methods.by_hand import classify, length, softmax
from vtclip.methods.base import score
from vtclip.methods.timo import GAMMAS, TIMO, TIMOSettings, list_numbers

P = 3


@pytest.fixture
def described(task):
    """The task with three texts of each class."""
    generator = torch.Generator().manual_seed(5)
    prompts = task.texts.features[:, None] + 0.5 * torch.randn(4, P, 16, generator=generator)
    return replace(task, texts=replace(task.texts, prompts=prompts))


def by_hand(task, alpha, gamma, number):
    """The logits of the validation shots."""
    pooled = task.train.pooled.double().numpy()
    labels = task.train.labels.tolist()
    rows = [[view / length(view) for view in image] for image in pooled]
    guided, samples = [], []
    for k, texts in enumerate(task.texts.prompts.double().numpy()):
        own = [image for image, label in zip(pooled, labels, strict=True) if label == k]
        prototype = sum(image.mean(axis=0) / length(image.mean(axis=0)) for image in own)
        prototype = prototype / length(prototype)
        units = [text / length(text) for text in texts]
        near = np.array([prototype @ text for text in units])
        weights = softmax(gamma * near / length(near))
        mean = sum(weight * text for weight, text in zip(weights, units, strict=True))
        guided.append(mean / length(mean))
        order = sorted(range(P), key=lambda p: -near[p])
        taken = (order + order)[:number]
        further = [near[p] * units[p] for p in taken]
        views = [view for image, label in zip(rows, labels, strict=True) if label == k
                 for view in image]  # fmt: skip
        samples.append(np.array(views + further))
    means = [each.mean(axis=0) for each in samples]
    centred = np.concatenate([each - mean for each, mean in zip(samples, means, strict=True)])
    n, d = centred.shape
    covariance = centred.T @ centred / (n - 1)
    precision = d * np.linalg.pinv((n - 1) * covariance + np.trace(covariance) * np.eye(d))
    logits = []
    for image in task.val.pooled[:, 0].double().numpy():
        f = image / length(image)
        logits.append([
            alpha * f @ text + f @ precision @ mean - mean @ precision @ mean / 2 - np.log(4)
            for text, mean in zip(guided, means, strict=True)
        ])  # fmt: skip
    return torch.tensor(np.array(logits))


@pytest.mark.parametrize(("alpha", "gamma"), [(10.0, 50.0), (100.0, 1.0)])
def test_the_logits_equal_the_formulas(described, alpha, gamma):
    method = TIMO(TIMOSettings(alpha=[alpha], gamma=[gamma]))
    found = classify(method, described, described.val.pooled[:, 0])
    torch.testing.assert_close(
        found.double(), by_hand(described, alpha, gamma, P), rtol=1e-4, atol=1e-3
    )


def test_timo_s_chooses_gamma_by_the_texts_alone_then_alpha_and_the_number_of_texts(described):
    method = TIMO(TIMOSettings(search=True).for_dataset("digits"))
    assert method.settings.gamma == GAMMAS
    head = method.initial_head(described)
    gamma = head["gamma"].item()
    scores = {
        (number, alpha): score(by_hand(described, alpha, gamma, number), described.val.labels)
        for number in list_numbers(P)
        for alpha in method.settings.alpha
    }
    chosen = head["number"].item(), head["alpha"].item()
    best = max(scores.values())
    assert (
        scores[chosen[0], min(method.settings.alpha, key=lambda a: abs(a - chosen[1]))][0]
        == best[0]
    )
    assert method.choices() == ["alpha", "gamma", "number of texts"]


def test_the_numbers_of_texts_go_from_one_to_twice_all_of_them():
    assert list_numbers(30) == [1, 7, 14, 20, 27, 33, 40, 46, 53, 60]
    assert list_numbers(1) == [1, 2]


def test_gamma_is_the_authors_for_the_dataset_unless_it_is_given():
    assert TIMOSettings().for_dataset("imagenet").gamma == [1.0]
    assert TIMOSettings().for_dataset("flowers102").gamma == [100.0]
    assert TIMOSettings().for_dataset("digits").gamma == [50.0]
    assert TIMOSettings(gamma=[3.0]).for_dataset("imagenet").gamma == [3.0]


def test_with_one_text_a_class_the_guided_text_is_that_text(task):
    head = TIMO(TIMOSettings()).initial_head(task)
    torch.testing.assert_close(head["texts"], task.texts.features)

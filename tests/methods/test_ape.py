"""APE and APE-T equal their formulas, computed key by key in double precision."""

from itertools import product

import numpy as np
import pytest
import torch

from tests.methods.by_hand import classify, length, softmax
from vtclip.methods.ape import APE, PUBLISHED, APESettings, choose_channels, count_channels
from vtclip.methods.ape_t import APET, TRAINED, APETSettings
from vtclip.methods.base import Images, score

SMALL = {"channels": 512, "variance": 0.4}  # 8 of the task's 16
GRID = {"alpha": [0.5, 2.0, 9.0], "beta": [1.0, 4.0], "gamma": [0.0, 0.3, 1.0]}


def find_keys(task):
    keys = task.train.pooled.double().numpy().mean(axis=1)
    return [key / length(key) for key in keys], task.train.labels.tolist()


def channels_by_hand(texts, keys, labels, number, variance):
    """The criterion, over all pairs of vectors of different classes."""
    groups = [[text] + [key for key, label in zip(keys, labels, strict=True) if label == k]
              for k, text in enumerate(texts)]  # fmt: skip
    total, pairs = np.zeros(16), 0
    for one, other in product(range(4), repeat=2):
        for a, b in product(groups[one], groups[other]):
            if one != other:
                total += a * b
                pairs += 1
    criterion = variance * np.var(texts, axis=0, ddof=1) - (1 - variance) * total / pairs
    return list(np.argsort(-criterion)[:number])


def by_hand(task, alpha, beta, gamma):
    """APE's logits of the validation shots."""
    texts = task.texts.features.double().numpy()
    keys, labels = find_keys(task)
    chosen = channels_by_hand(texts, keys, labels, 8, 0.4)

    def narrow(vector):
        return vector[chosen] / length(vector[chosen])

    logits = []
    for image in task.val.pooled[:, 0].double().numpy():
        f = image / length(image)
        row = 100 * texts @ f
        for key, label in zip(keys, labels, strict=True):
            p = softmax(np.array([narrow(key) @ narrow(text) for text in texts]))[label]
            r = np.log2((1 + 1e-6) / (p + 1e-6))
            row[label] += alpha * np.exp(-beta * (1 - narrow(f) @ narrow(key)) + gamma * r)
        logits.append(row)
    return torch.tensor(np.array(logits))


def test_the_logits_equal_the_formulas_key_by_key(task):
    method = APE(APESettings(**SMALL, alpha=[1.5], beta=[3.0], gamma=[0.7]))
    found = classify(method, task, task.val.pooled[:, 0])
    torch.testing.assert_close(found.double(), by_hand(task, 1.5, 3.0, 0.7), rtol=1e-5, atol=1e-3)


def test_the_channels_are_those_of_the_loop_over_all_pairs_with_unequal_shots_too(task):
    texts = task.texts.features
    keys = torch.nn.functional.normalize(task.train.pooled.mean(dim=1), dim=1)[3:]
    labels = task.train.labels[3:].clone()
    labels[0] = 0  # classes with 1, 2, 3 and 3 shots
    found = choose_channels(texts, 5, 0.3, keys, labels).tolist()
    expected = channels_by_hand(
        texts.double().numpy(), list(keys.double().numpy()), labels.tolist(), 5, 0.3
    )
    assert sorted(found) == sorted(expected)


def test_texts_alone_choose_the_channels_of_ape_t(task):
    texts = task.texts.features
    found = choose_channels(texts, 5, 0.8).tolist()
    assert sorted(found) == sorted(channels_by_hand(texts.double().numpy(), [], [], 5, 0.8))


def test_the_grids_are_the_authors_for_each_dataset():
    settings = APESettings().for_dataset("eurosat")
    assert (settings.channels, settings.variance) == (700, 0.1)
    assert [len(getattr(settings, name)) for name in ("beta", "alpha", "gamma")] == [200, 20, 20]
    assert settings.beta[:2] == pytest.approx([0.1, 0.1 + 29.9 / 200])
    assert settings.alpha[-1] == pytest.approx(0.1 + 19 * 4.9 / 20)
    assert settings.gamma[-1] == pytest.approx(19 * 1.5 / 20)
    assert len(APESettings().for_dataset("imagenet").gamma) == 5
    assert set(TRAINED) == set(PUBLISHED)


def test_a_backbone_with_other_channels_takes_the_same_share():
    assert count_channels(500, 1024) == 500
    assert count_channels(500, 512) == 250
    assert count_channels(1, 16) == 1


def moved(task, head):
    """APE-T's head after a step."""
    generator = torch.Generator().manual_seed(3)
    residual = 0.1 * torch.randn(head["residual"].shape, generator=generator)
    return head | {"residual": residual, "weights": torch.linspace(0.5, 1.5, 12)}


def test_ape_ts_logits_equal_the_formulas_key_by_key(task):
    method = APET(APETSettings(channels=512, variance=0.8, initial_alpha=1.5))
    head = moved(task, method.initial_head(task))
    found = method.classifier(head, task.texts)(Images(task.val.pooled[:, 0], None))
    texts = task.texts.features.double().numpy()
    keys, labels = find_keys(task)
    chosen = channels_by_hand(texts, [], [], 8, 0.8)
    added = np.zeros((4, 16))
    added[:, head["channels"].tolist()] = head["residual"].double().numpy()
    assert sorted(np.nonzero(added[0])[0]) == sorted(chosen)
    for image, row in zip(task.val.pooled[:, 0].double().numpy(), found.tolist(), strict=True):
        f = image / length(image)
        expected = 100 * (texts + added) @ f
        for key, label, weight in zip(keys, labels, head["weights"].tolist(), strict=True):
            expected[label] += 1.5 * weight * np.exp(-(1 - f @ (key + added[label])))
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-3)


def test_ape_t_starts_as_tip_adapter_and_trains_residuals_and_weights_alone(task):
    method = APET(APETSettings())
    head = method.initial_head(task)
    learner = method.learner(head, task)
    assert {name for name, _ in learner.named_parameters()} == {"residual", "weights"}
    assert not head["residual"].any()
    learner(Images(task.train.pooled[:, 0], None)).sum().backward()
    assert all(parameter.grad.any() for parameter in learner.parameters())


def test_ape_t_chooses_alpha_and_beta_for_what_was_trained(task):
    method = APET(APETSettings(channels=512, alpha=GRID["alpha"], beta=GRID["beta"]))
    head = moved(task, method.initial_head(task))
    chosen = method.finish(method.learner(head, task), task)
    images, scores = Images(task.val.pooled[:, 0], None), {}
    for alpha, beta in product(GRID["alpha"], GRID["beta"]):
        given = head | {"alpha": torch.tensor(alpha), "beta": torch.tensor(beta)}
        logits = method.classifier(given, task.texts)(images)
        scores[alpha, beta] = score(logits, task.val.labels)
    assert (chosen["alpha"].item(), chosen["beta"].item()) == max(scores, key=scores.get)


def test_without_a_choice_ape_t_keeps_the_alpha_and_beta_of_training():
    settings = APETSettings().for_dataset("stanford_cars")
    constants = APET(settings).settings_without_choice(4)
    assert (constants.alpha, constants.beta, constants.select) == ([1], [1.0], "last")

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.methods.by_hand import cosine_logits, gradient, in_double, rates, softmax, train
from vtclip.methods.base import Images
from vtclip.methods.clap import CLAP, CLAPSettings, class_confidence
from vtclip.methods.zs_lp import ZSLP, ZSLPSettings
from vtclip.training.optimise import optimise

STEPS = 5


def clap(**settings):
    return CLAP(CLAPSettings(**{"epochs": STEPS, "warmup": 0.0} | settings))


def confidence(task):
    method = clap()
    return class_confidence(method.classifier(method.initial_head(task), task.texts), task)


def confidence_by_hand(task):
    """Of each class, over its shots and all their views."""
    found = {k: [] for k in range(len(task.texts.features))}
    for views, label in zip(task.train.pooled, task.train.labels.tolist(), strict=True):
        for row in cosine_logits(task.texts.means.numpy(), views, task.texts.logit_scale):
            found[label].append(softmax(row)[label])
    return [np.mean(found[k]) if found[k] else 1.0 for k in found]


def test_lambda_is_the_mean_probability_of_the_means_of_texts_over_shots_and_views(task):
    """As in the authors' code, also where several templates give the means another direction."""
    means = task.texts.means + task.texts.features.roll(1, dims=0)
    task = replace(task, texts=replace(task.texts, logit_scale=5.0, means=means))
    assert confidence(task).tolist() == pytest.approx(confidence_by_hand(task), abs=1e-5)


@pytest.mark.parametrize("factor", [0.0, 3.0])
def test_training_equals_gradient_descent_by_hand_on_both_parts_of_the_loss(task, factor):
    task, method = in_double(task), clap(penalty_weight=factor)
    head = train(method, task)
    start = task.texts.means.numpy()
    weights = factor * np.array(confidence_by_hand(task))[:, None] / 4
    vectors, momentum = start, np.zeros_like(start)
    for rate in rates(0.1, STEPS):
        found = gradient(vectors, task) + 2 * weights * (vectors - start)
        momentum = 0.9 * momentum + found
        vectors = vectors - rate * momentum
    assert np.abs(vectors - start).max() > 0.1
    assert np.abs(head["vectors"].numpy() - vectors).max() < 1e-5
    pooled = task.val.pooled[:, 0]
    logits = method.classifier(head, task.texts)(Images(pooled, None)).numpy()
    assert np.abs(logits - cosine_logits(vectors, pooled, 10)).max() < 1e-5


def test_without_the_penalty_it_is_zs_lp_bit_for_bit(task):
    probe = ZSLP(ZSLPSettings(epochs=STEPS, warmup=0.0))
    assert torch.equal(
        train(clap(penalty_weight=0.0), task)["vectors"], train(probe, task)["vectors"]
    )


def test_the_stronger_the_penalty_the_nearer_it_ends_to_zero_shot(task):
    task = in_double(task)
    moved = []
    for factor in (0.0, 1e2, 1e4, 1e6):
        method = clap(
            penalty_weight=factor, epochs=400, learning_rate=min(0.1, 0.1 / max(factor, 1))
        )
        moved.append((train(method, task)["vectors"] - task.texts.means).norm().item())
    assert moved[0] > 0.5
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-3
    pooled = task.val.pooled[:, 0]
    head = train(method, task)
    logits = method.classifier(head, task.texts)(Images(pooled, None))
    torch.testing.assert_close(logits, task.texts.logits(pooled), rtol=0, atol=1e-3)


def test_a_class_without_a_shot_is_kept_with_all_its_weight(task):
    rows = task.train.labels != 2
    train = replace(task.train, pooled=task.train.pooled[rows], labels=task.train.labels[rows])
    assert confidence(replace(task, train=train))[2] == 1


def test_the_loss_in_the_history_has_both_parts(task):
    task = in_double(task)
    histories = []
    for factor in (0.0, 2.0):
        method = clap(penalty_weight=factor, epochs=2)
        learner = method.learner(method.initial_head(task), task)
        histories.append(optimise(learner, task, method.settings)["loss"].to_list())
    assert histories[0][0] == histories[1][0], "nothing has moved yet"
    assert histories[0][1] < histories[1][1]

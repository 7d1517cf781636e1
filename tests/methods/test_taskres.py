import numpy as np
import pytest
import torch

from tests.methods.by_hand import cosine_logits, gradient, in_double, rates, train
from vtclip.methods.base import Images
from vtclip.methods.taskres import TaskRes, TaskResSettings

STEPS, RATE = 4, 0.02


def test_training_equals_adam_by_hand_on_the_text_means_at_their_own_length(task):
    recipe = {"epochs": STEPS, "warmup": 0.0, "learning_rate": RATE, "weight_decay": 0.3}
    task, method = in_double(task), TaskRes(TaskResSettings(**recipe, alpha=0.7))
    head = train(method, task)
    means = task.texts.means.numpy()
    residual = np.zeros_like(means)
    first, second = np.zeros_like(means), np.zeros_like(means)
    for step, rate in enumerate(rates(RATE, STEPS), start=1):
        found = 0.7 * gradient(means + 0.7 * residual, task) + 0.3 * residual
        first, second = 0.9 * first + 0.1 * found, 0.999 * second + 0.001 * found**2
        unbiased = first / (1 - 0.9**step), second / (1 - 0.999**step)
        residual = residual - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    assert np.abs(residual).max() > 0.01
    assert np.abs(head["residual"].numpy() - residual).max() < 1e-5
    pooled = task.val.pooled[:, 0]
    logits = method.classifier(head, task.texts)(Images(pooled, None)).numpy()
    assert np.abs(logits - cosine_logits(means + 0.7 * residual, pooled, 10)).max() < 1e-5


def test_the_same_residual_is_a_larger_step_for_a_shorter_text(task):
    method = TaskRes(TaskResSettings())
    head = {"residual": torch.ones(4, 16), "means": task.texts.means}
    vectors = task.texts.means + 0.5
    logits = method.classifier(head, task.texts)(Images(vectors, None))
    assert logits.diagonal().tolist() == pytest.approx([100] * 4, abs=1e-3)

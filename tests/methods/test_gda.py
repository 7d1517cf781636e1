import logging
from dataclasses import replace

import pytest
import torch

from tests.methods.by_hand import assert_equal_to_size, classify
from vtclip.methods import gda
from vtclip.methods.base import stack_views
from vtclip.methods.gda import GDA, GDASettings
from vtclip.task import Samples


def only(alpha):
    return GDA(GDASettings(alpha=[alpha]))


def fit(task):
    return gda.fit_gaussians(*stack_views(task.train), 4)


def slow_gaussians(task):
    """Class means and the precision P, from the formulas, a row at a time."""
    rows, labels = [], []
    for image, label in zip(task.train.pooled.double(), task.train.labels.tolist(), strict=True):
        for view in image:
            rows.append(view / view.norm())
            labels.append(label)
    means = []
    for k in range(4):
        own = [row for row, label in zip(rows, labels, strict=True) if label == k]
        means.append(sum(own) / len(own))
    covariance = torch.zeros(16, 16, dtype=torch.float64)
    for row, label in zip(rows, labels, strict=True):
        centred = row - means[label]
        covariance += torch.outer(centred, centred) / (len(rows) - 1)
    shrunk = (len(rows) - 1) * covariance + torch.trace(covariance) * torch.eye(16)
    return means, 16 * torch.linalg.pinv(shrunk)


def test_the_logits_equal_the_formulas_row_by_row(task):
    means, precision = slow_gaussians(task)
    expected = torch.empty(12, 4, dtype=torch.float64)
    for number, image in enumerate(task.val.pooled[:, 0].double()):
        feature = image / image.norm()
        for k, mean in enumerate(means):
            bias = torch.tensor(1 / 4).log() - 0.5 * mean @ precision @ mean
            zero_shot = 100 * feature @ task.texts.features[k].double()
            expected[number, k] = zero_shot + 1.3 * (feature @ precision @ mean + bias)
    assert_equal_to_size(classify(only(1.3), task, task.val.pooled[:, 0]), expected)


def test_few_rows_at_a_time_give_the_same(task, monkeypatch):
    whole = fit(task)
    monkeypatch.setattr(gda, "ROWS", 5)
    for one, other in zip(whole, fit(task), strict=True):
        torch.testing.assert_close(one, other)


def test_one_shot_in_one_view_has_no_covariance_and_is_zero_shot(task, caplog):
    single = replace(task.train, pooled=task.train.pooled[::3, :1], labels=torch.arange(4))
    pooled = task.val.pooled[:, 0]
    with caplog.at_level(logging.WARNING):
        logits = classify(GDA(GDASettings()), replace(task, train=single), pooled)
    assert torch.equal(logits, task.texts.logits(pooled))
    assert "the Gaussians count for nothing" in caplog.text


def test_one_shot_in_two_views_has_one(task):
    single = replace(task.train, pooled=task.train.pooled[::3], labels=torch.arange(4))
    weight, _ = fit(replace(task, train=single))
    assert weight.abs().sum(dim=1).gt(0).all()


def test_a_class_without_a_shot_takes_the_mean_of_the_others(task):
    present = task.train.labels != 2
    pooled, labels = task.train.pooled[present], task.train.labels[present]
    weight, bias = fit(replace(task, train=Samples(pooled, None, labels)))
    torch.testing.assert_close(weight[2], weight[[0, 1, 3]].mean(dim=0))
    assert bias.isfinite().all()


def test_the_rows_of_a_long_task_never_lie_in_double_precision_at_once():
    from vtclip.cost import Shape, Size

    shape, made = Shape(50, 1024, 1024), only(1.0)
    few, many = (
        made.work(Size(shape, classes=1000, shots=shots, images=1000 * shots, views=5))
        for shots in (1, 64)
    )
    assert few.part_bytes == many.part_bytes


def test_without_a_choice_the_gaussians_vary_a_quarter_as_much_as_zero_shot_per_root_of_shots(task):
    method = GDA(GDASettings(alpha="balanced"))
    assert GDA(GDASettings()).settings_without_choice(3).alpha == "balanced"
    head = method.initial_head(replace(task, val=None))
    pooled = task.train.pooled[:, 0].double()
    unit = pooled / pooled.norm(dim=1, keepdim=True)
    added = head["alpha"].item() * (unit @ head["weight"].double().T + head["bias"].double())
    zero_shot = 100 * unit @ task.texts.features.double().T
    spreads = [logits.std(dim=1).mean().item() for logits in (added, zero_shot)]
    assert spreads[0] / spreads[1] == pytest.approx(0.25 * 3**0.5, rel=1e-4)

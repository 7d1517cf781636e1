import math
from dataclasses import replace

import pytest
import torch

from tests.methods.by_hand import assert_equal_to_size, classify
from vtclip.cost import Shape, Size
from vtclip.methods import proker
from vtclip.methods.base import Samples
from vtclip.methods.proker import ProKeR, ProKeRSettings
from vtclip.settings import ConfigError


def only(beta, ridge, **settings):
    return ProKeR(ProKeRSettings(beta=[beta], ridge=[ridge], **settings))


def slow_logits(task, pooled, beta, ridge, rows, labels):
    """From the formulas, a pair at a time."""
    rows = [row.double() / row.double().norm() for row in rows]
    texts = task.texts.features.double()

    def kernel(one, other):
        return math.exp(-beta * (1 - (one @ other).item()))

    system = torch.tensor([[kernel(a, b) / ridge for b in rows] for a in rows])
    system = system.double() + torch.eye(len(rows))
    missed = [[(label == k) - (row @ texts[k]).item() for k in range(4)]
              for row, label in zip(rows, labels, strict=True)]  # fmt: skip
    answers = torch.linalg.inv(system) @ torch.tensor(missed).double()
    logits = torch.empty(len(pooled), 4, dtype=torch.float64)
    for number, image in enumerate(pooled.double()):
        feature = image / image.norm()
        for k in range(4):
            said = sum(kernel(feature, row) * a[k] for row, a in zip(rows, answers, strict=True))
            logits[number, k] = 100 * (feature @ texts[k] + said)
    return logits


def test_the_logits_equal_the_formulas_pair_by_pair(task):
    pooled = task.val.pooled[:, 0]
    rows = list(task.train.pooled.flatten(0, 1))
    labels = [label for label in task.train.labels.tolist() for _ in range(2)]
    expected = slow_logits(task, pooled, 1.7, 0.1, rows, labels)
    assert_equal_to_size(classify(only(1.7, 0.1), task, pooled), expected)


def test_above_most_rows_an_image_is_the_mean_of_its_views(task):
    pooled = task.val.pooled[:, 0]
    rows = [(image[0] + image[1]) / 2 for image in task.train.pooled]
    expected = slow_logits(task, pooled, 1.7, 0.1, rows, task.train.labels.tolist())
    assert_equal_to_size(classify(only(1.7, 0.1, most_rows=23), task, pooled), expected)
    assert len(only(1.7, 0.1, most_rows=23).initial_head(task)["keys"]) == 12
    assert len(only(1.7, 0.1, most_rows=24).initial_head(task)["keys"]) == 24


@pytest.mark.parametrize(
    ("shots", "constants"), [(1, (3.0, 0.05)), (3, (2.6, 0.05)), (16, (1.7, 0.1)), (99, (1.7, 0.1))]
)
def test_the_constants_are_those_of_the_largest_number_of_shots_not_above(shots, constants):
    fixed = ProKeR(ProKeRSettings()).settings_without_choice(shots)
    assert (fixed.beta, fixed.ridge) == ([constants[0]], [constants[1]])


def test_more_images_than_a_matrix_is_made_for_are_refused_in_one_line(task, monkeypatch):
    monkeypatch.setattr(proker, "MOST_IMAGES", 11)
    with pytest.raises(ConfigError, match=r"proker: 12 images .* made for 11: request fewer") as e:
        ProKeR(ProKeRSettings()).initial_head(task)
    assert "\n" not in str(e.value)


def test_memory_is_bounded_by_most_rows_or_by_the_images():
    shape, made = Shape(50, 1024, 1024), ProKeR(ProKeRSettings())

    def memory(images, views):
        return made.work(Size(shape, 100, images // 100, images, views)).part_bytes

    assert memory(1600, 5) == memory(1600, 1), "1600 x 5 views are more than 4000"
    assert 3 * 4000**2 * 8 < memory(800, 5) < 4.5 * 4000**2 * 8
    assert memory(800, 5) > memory(1600, 5)


def test_a_class_without_a_shot_is_pushed_away_from_the_shots_of_others(task):
    present = task.train.labels != 2
    shots = Samples(task.train.pooled[present], None, task.train.labels[present])
    logits = classify(only(5.0, 10.0), replace(task, train=shots), shots.pooled[:, 0])
    assert torch.equal(logits.argmax(dim=1), shots.labels)

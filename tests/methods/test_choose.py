"""Methods choose on the validation shots."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch

from tests.methods.by_hand import classify
from vtclip.methods import METHODS
from vtclip.methods.base import choose, score
from vtclip.task import Choices, Samples, Task

LABELS = torch.tensor([0, 1, 2])
TASK = Task(None, None, Samples(torch.zeros(3, 1, 2), None, LABELS), 0)


def logits(*own, others=0.0):
    """Those of the labels, and one number for all others."""
    return torch.full((3, 3), others).scatter(1, LABELS[:, None], torch.tensor(own)[:, None])


def test_a_score_is_hits_and_the_mean_log_likelihood():
    hits, likelihood = score(logits(2.0, 1.0, -1.0), LABELS)
    assert hits == 2
    shares = [math.exp(own) / (math.exp(own) + 2) for own in (2.0, 1.0, -1.0)]
    assert likelihood == pytest.approx(sum(map(math.log, shares)) / 3, abs=1e-6)


def test_hits_come_before_likelihood():
    sure = logits(9.0, 9.0, -1.0)
    narrow = logits(0.1, 0.1, 0.1)
    assert score(narrow, LABELS) > score(sure, LABELS)
    assert choose(["sure", "narrow"], [sure, narrow], TASK) == "narrow"


def test_of_equal_hits_the_likeliest_is_chosen_and_of_equals_in_both_the_first():
    small, large = logits(1.0, 1.0, 1.0), logits(2.0, 2.0, 2.0)
    assert choose(["a", "b", "c"], [small, large, large], TASK) == "b"
    assert choose(["a", "b"], [large, small], TASK) == "a"


def test_logits_that_are_no_numbers_are_never_chosen_before_others_with_equal_hits():
    nothing = torch.full((3, 3), math.nan)
    hits = int((nothing.argmax(dim=1) == LABELS).sum())
    some = logits(*([1.0] * hits + [-1.0] * (3 - hits)))
    assert choose(["some", "nothing"], [some, nothing], TASK) == "some"


def test_a_single_setting_needs_no_validation_shots_and_asks_for_no_logits():
    def refuse():
        raise AssertionError("asked")
        yield

    assert choose([7], refuse(), Task(None, None, None, 0)) == 7


def test_without_a_validation_image_the_first_is_chosen():
    none = Samples(torch.zeros(0, 1, 2), None, LABELS[:0])
    assert choose([1, 2], [torch.zeros(0, 3)] * 2, Task(None, None, none, 0)) == 1


def test_a_choice_is_repeated_by_a_fit_that_has_no_validation_shots():
    task = replace(TASK, choices=Choices())
    tried = [logits(0.1, 0.1, 0.1), logits(2.0, 2.0, 2.0), logits(1.0, 1.0, 1.0)]
    assert choose("abc", tried, task) == "b"
    assert choose("abc", tried[::-1], task) == "b"
    again = replace(task, val=None, choices=Choices(task.choices.made))
    assert [choose("xyz", iter(()), again), choose("xyz", iter(()), again)] == ["y", "y"]


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("ape", {"beta": [1.0, 4.0], "alpha": [0.5, 2.0, 9.0], "gamma": [0.0, 0.3, 1.0]}),
        ("gda", {"alpha": [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0]}),
        ("linear_probe", {"inverse_regularisation": [1e-4, 1.0, 1e4]}),
        ("proker", {"beta": [0.5, 5.0], "ridge": [0.01, 0.1, 1.0]}),
        ("timo", {"alpha": [1e-4, 1.0, 10.0, 1e4]}),
        ("tip_adapter", {"beta": [0.5, 5.0], "alpha": [0.5, 5.0, 50.0]}),
    ],
)
def test_a_method_takes_the_point_of_its_grid_that_is_best_and_of_equals_the_likeliest(
    name, grid, task
):
    def make(point):
        return METHODS[name](METHODS[name].settings_type(**dict(zip(grid, point, strict=True))))

    scores = {
        point: score(
            classify(make([[value] for value in point]), task, task.val.pooled[:, 0]),
            task.val.labels,
        )
        for point in product(*grid.values())
    }
    head = make(grid.values()).initial_head(task)
    best = max(scores, key=scores.get)
    assert [head[setting].item() for setting in grid] == pytest.approx(best)

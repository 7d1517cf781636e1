import math
from dataclasses import replace

import pytest
import torch

from tests.methods.by_hand import assert_equal_to_size, classify, in_double
from vtclip.methods.base import Samples, score
from vtclip.methods.cross_modal import (
    CrossModal,
    CrossModalSettings,
    draw_rows,
    learning_rate_at,
    list_texts,
)

ONE = {"learning_rate": [0.01], "weight_decay": [0.1], "batch_size": [6]}


def slow_weight(task, top, decay, batch_size, iterations):
    """One probe alone, from the formulas, with PyTorch's own gradients and its own AdamW."""
    images = [view / view.norm() for image in task.train.pooled for view in image]
    labels = [label for label in task.train.labels.tolist() for _ in range(2)]
    weight = task.texts.features.clone().requires_grad_()
    optimiser = torch.optim.AdamW([weight], lr=top, weight_decay=decay)
    generator = torch.Generator().manual_seed(task.seed)
    image_rows = draw_rows(24, iterations, batch_size // 2, generator)
    text_rows = draw_rows(4, iterations, batch_size // 2, generator)
    for step in range(iterations):
        rise = top * step / 50 if step > 0 else 1e-5
        fall = top * 0.5 * (1 + math.cos(math.pi * (step - 50) / iterations))
        optimiser.param_groups[0]["lr"] = rise if step < 50 else fall
        losses = []
        for row in image_rows[step].tolist():
            losses.append(-(100 * images[row] @ weight.T).log_softmax(0)[labels[row]])
        for row in text_rows[step].tolist():
            losses.append(-(100 * task.texts.features[row] @ weight.T).log_softmax(0)[row])
        optimiser.zero_grad()
        (sum(losses) / batch_size).backward()
        optimiser.step()
    return weight.detach()


def test_the_weights_equal_a_training_alone_with_pytorchs_own_descent(task):
    task = in_double(task, scale=100.0, views=2)
    several = ONE | {"learning_rate": [0.001, 0.01], "weight_decay": [0.0, 0.1]}
    method = CrossModal(CrossModalSettings(**several, iterations=60, select="last"))
    heads = {(round(head["learning_rate"].item(), 6), round(head["weight_decay"].item(), 6)): head
             for head in method._descend(task, 6)}  # fmt: skip
    assert len(heads) == 4
    for top, decay in [(0.001, 0.0), (0.01, 0.1)]:
        assert_equal_to_size(heads[top, decay]["weight"], slow_weight(task, top, decay, 6, 60))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_logits_are_products_with_the_weights_of_which_the_texts_are_a_share(task, share):
    method = CrossModal(CrossModalSettings(**ONE, iterations=30, text_share=share))
    head, pooled = method.initial_head(task), task.val.pooled[:, 0].double()
    weight = (1 - share) * head["weight"] + share * task.texts.features
    expected = 100 * pooled / pooled.norm(dim=1, keepdim=True) @ weight.double().T
    assert_equal_to_size(classify(method, task, task.val.pooled[:, 0]), expected)


def test_what_is_kept_is_the_best_on_the_validation_shots_and_of_equals_the_likeliest(task):
    grid = {"learning_rate": [0.001, 0.01], "weight_decay": [0.0], "batch_size": [4, 8]}
    method = CrossModal(CrossModalSettings(**grid, iterations=250))
    heads = [head for size in (4, 8) for head in method._descend(task, size)]
    assert [head["iteration"].item() for head in heads] == [1, 1, 101, 101, 201, 201] * 2
    pooled = task.val.pooled[:, 0]
    unit = pooled / pooled.norm(dim=1, keepdim=True)
    scores = [score(100 * unit @ head["weight"].T, task.val.labels) for head in heads]
    best, chosen = heads[scores.index(max(scores))], method.initial_head(task)
    assert all(torch.equal(chosen[name], best[name]) for name in best)


def test_training_learns_the_shots_beside_the_texts_and_leaves_the_texts_alone(task):
    before = task.texts.features.clone()
    method = CrossModal(CrossModalSettings(**ONE, iterations=200, select="last"))
    head = method.initial_head(task)
    assert torch.equal(task.texts.features, before)
    assert not torch.equal(head["weight"], before)
    of_texts = before @ head["weight"].T
    assert torch.equal(of_texts.argmax(dim=1), torch.arange(4))
    pooled, labels = task.train.pooled[:, 0], task.train.labels
    zero_shot, learned = task.texts.logits(pooled), classify(method, task, pooled)
    assert score(learned, labels)[0] > 2 * score(zero_shot, labels)[0]


@pytest.mark.parametrize(("number", "size"), [(5, 3), (3, 7), (1, 2)])
def test_rows_come_in_random_order_each_as_often_as_any_other(number, size):
    rows = draw_rows(number, 30, size, torch.Generator().manual_seed(0))
    assert rows.shape == (30, size)
    counts = rows.flatten().bincount(minlength=number)
    assert counts.max() - counts.min() <= 1
    for every in rows.flatten()[: 30 * size // number * number].view(-1, number):
        assert every.sort().values.tolist() == list(range(number))


def test_the_learning_rate_rises_in_a_line_and_falls_with_a_cosine():
    assert learning_rate_at(0, 0.001, 400) == 1e-5
    assert learning_rate_at(1, 0.001, 400) == pytest.approx(0.001 / 50)
    assert learning_rate_at(25, 0.001, 400) == pytest.approx(0.0005)
    assert learning_rate_at(50, 0.001, 400) == pytest.approx(0.001)
    assert learning_rate_at(250, 0.001, 400) == pytest.approx(0.0005)
    assert learning_rate_at(450, 0.001, 400) == pytest.approx(0)


def test_zero_shot_is_kept_where_no_later_iteration_classifies_the_validation_shots_better(task):
    texts = task.texts
    val = Samples(texts.features[:, None], None, torch.arange(4))  # zero-shot is sure and right
    train = replace(task.train, labels=task.train.labels.flip(0))
    method = CrossModal(CrossModalSettings(**ONE, iterations=150))
    head = method.initial_head(replace(task, train=train, val=val))
    assert head["iteration"].item() == 1
    torch.testing.assert_close(head["weight"], texts.features, rtol=0, atol=1e-4)


def test_each_template_makes_a_text_of_its_own(task):
    prompts = torch.randn(4, 3, 16, generator=torch.Generator().manual_seed(0))
    rows, labels = list_texts(replace(task.texts, prompts=prompts))
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    torch.testing.assert_close(rows[4], prompts[1, 1] / prompts[1, 1].norm())


def test_an_odd_batch_and_fewer_classes_than_half_a_batch_train_all_the_same(task):
    two = replace(task.train, pooled=task.train.pooled[:6], labels=task.train.labels[:6])
    small = replace(
        task, train=two, val=None, texts=replace(task.texts, features=task.texts.features[:2])
    )
    one = ONE | {"batch_size": [9]}
    method = CrossModal(CrossModalSettings(**one, iterations=60, select="last"))
    assert method.initial_head(small)["weight"].isfinite().all()

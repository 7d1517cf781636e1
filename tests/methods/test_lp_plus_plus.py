from dataclasses import replace

import pytest
import torch

from tests.methods.by_hand import assert_equal_to_size, classify, in_double
from vtclip.methods.base import Images, score
from vtclip.methods.lp_plus_plus import LPPlusPlus, LPPlusPlusSettings, descend


def slow_head(task, epochs):
    """From the formulas, with PyTorch's own gradients and its own SGD."""
    features = torch.stack([image[0] / image[0].norm() for image in task.train.pooled])
    labels, texts = task.train.labels.tolist(), task.texts.features
    torch.manual_seed(task.seed)
    layer = torch.nn.Linear(16, 4).double()
    for k in range(4):
        own = [feature for feature, label in zip(features, labels, strict=True) if label == k]
        layer.weight.data[k] = sum(own)
    cosines = [[(feature @ text).item() for text in texts] for feature in features]
    of_class = [
        sum(row[k] for row, label in zip(cosines, labels, strict=True) if label == k) / 3
        for k in range(4)
    ]
    alpha = torch.full((4,), 250 * sum(of_class) / 4, dtype=torch.float64, requires_grad=True)
    step = 4 * 12 / torch.linalg.svdvals(features)[0].item() ** 2
    alpha_step = 12 / (4 * max(sum(row[k] ** 2 for row in cosines) for k in range(4)))
    descent = torch.optim.SGD(layer.parameters(), step, momentum=0.9)
    for epoch in range(1, epochs + 1):
        descent.zero_grad()
        alpha.grad = None
        logits = layer(features) + alpha * torch.tensor(cosines).double()
        torch.nn.functional.cross_entropy(logits, task.train.labels).backward()
        descent.step()
        if epoch % 10 == 0:
            alpha.data -= alpha_step * alpha.grad
    return layer.weight.data, layer.bias.data, alpha.data


@pytest.mark.parametrize("epochs", [1, 45])
def test_the_head_equals_that_of_pytorchs_own_descent(task, epochs):
    task = in_double(task, scale=100.0, views=2)
    head = LPPlusPlus(LPPlusPlusSettings(epochs=epochs, select="last")).initial_head(task)
    weight, bias, alpha = slow_head(task, epochs)
    assert_equal_to_size(head["weight"], weight)
    assert_equal_to_size(head["bias"], bias)
    assert_equal_to_size(head["alpha"], alpha)


def test_the_logits_are_those_of_the_weights_and_of_the_weighed_texts(task):
    method = LPPlusPlus(LPPlusPlusSettings(epochs=12))
    head, pooled = method.initial_head(task), task.val.pooled[:, 0]
    logits = method.classifier(head, task.texts)(Images(pooled, None))
    for row, image in zip(logits, pooled.double(), strict=True):
        feature = image / image.norm()
        for k, text in enumerate(task.texts.features.double()):
            own = feature @ head["weight"][k].double() + head["bias"][k]
            expected = own + head["alpha"][k] * (feature @ text)
            assert row[k].item() == pytest.approx(expected.item(), abs=1e-4)


def test_the_shots_are_learned_and_alpha_moves_every_tenth_epoch_alone(task):
    heads = [*descend(task, 300)]
    assert torch.equal(heads[0]["alpha"], heads[8]["alpha"])
    assert not torch.equal(heads[8]["alpha"], heads[9]["alpha"])
    assert torch.equal(heads[9]["alpha"], heads[18]["alpha"])
    method = LPPlusPlus(LPPlusPlusSettings())
    logits = method.classifier(heads[-1], task.texts)(Images(task.train.pooled[:, 0], None))
    assert torch.equal(logits.argmax(dim=1), task.train.labels)


def test_the_epoch_is_the_best_on_the_validation_shots_and_of_equals_the_likeliest(task):
    method = LPPlusPlus(LPPlusPlusSettings(epochs=60))
    images = Images(task.val.pooled[:, 0], None)
    heads = [*descend(task, 60)]
    scores = [score(method.classifier(head, task.texts)(images), task.val.labels) for head in heads]
    best = heads[scores.index(max(scores))]
    chosen = method.initial_head(task)
    assert all(torch.equal(chosen[name], best[name]) for name in best)
    last = LPPlusPlus(LPPlusPlusSettings(epochs=60, select="last")).initial_head(task)
    assert all(torch.equal(last[name], heads[-1][name]) for name in last)


def test_a_class_without_a_shot_keeps_its_text(task):
    present = task.train.labels != 2
    train = replace(
        task.train, pooled=task.train.pooled[present], labels=task.train.labels[present]
    )
    task = replace(task, train=train)
    head = next(descend(task, 1))
    assert head["alpha"][2] == head["alpha"][0] != 0
    logits = classify(LPPlusPlus(LPPlusPlusSettings()), task, train.pooled[:, 0])
    assert logits.isfinite().all()

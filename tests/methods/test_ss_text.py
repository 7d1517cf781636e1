import numpy as np
import pytest
import torch

from tests.methods.by_hand import cosine_logits, length
from vtclip.methods.base import Images
from vtclip.methods.ss_text import SSText, SSTextSettings


def logits_of(task, **settings):
    method = SSText(SSTextSettings(**settings))
    head = method.initial_head(task)
    assert method.learner(head, task) is None, "nothing is trained"
    return method.classifier(head, task.texts)(Images(task.val.pooled[:, 0], None)), head


@pytest.fixture
def uneven(task):
    """The classes have 3, 1, 0 and 3 shots."""
    rows = [0, 1, 2, 4, 9, 10, 11]
    train = type(task.train)(task.train.pooled[rows], None, task.train.labels[rows])
    return type(task)(task.texts, train, task.val, seed=1)


def test_the_logits_equal_a_computation_in_loops_over_uneven_shots(uneven):
    logits, _ = logits_of(uneven)
    vectors = uneven.texts.features.double().numpy().copy()
    labels = uneven.train.labels.tolist()
    for views, label in zip(uneven.train.pooled.double().numpy(), labels, strict=True):
        image = views[0] / length(views[0])
        penalty = 1 / labels.count(label)
        vectors[label] += image / (len(labels) * penalty * 0.01)  # a temperature of 0.01
    expected = cosine_logits(vectors, uneven.val.pooled[:, 0], 100)
    assert np.abs(logits.numpy() - expected).max() < 1e-5 * 100


def test_without_the_images_part_it_is_zero_shot(task):
    logits, _ = logits_of(task, images=0.0)
    torch.testing.assert_close(logits, task.texts.logits(task.val.pooled[:, 0]))


def test_with_images_alone_it_is_the_nearest_class_mean(task):
    logits, _ = logits_of(task, images=1e6)
    means = [
        torch.nn.functional.normalize(task.train.pooled[task.train.labels == k, 0], dim=1).mean(0)
        for k in range(4)
    ]
    expected = cosine_logits(torch.stack(means).double().numpy(), task.val.pooled[:, 0], 100)
    assert np.abs(logits.numpy() - expected).max() < 1e-3


def test_a_class_without_a_shot_keeps_its_text(uneven):
    _, head = logits_of(uneven)
    assert torch.equal(head["vectors"][2], uneven.texts.features[2])

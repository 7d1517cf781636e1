import numpy as np
import pytest
import torch

from tests.methods.by_hand import cosine_logits, length
from vtclip.methods.base import Images
from vtclip.methods.ss_text import SSText, SSTextSettings
from vtclip.methods.ss_text_plus import SSTextPlus


def logits_of(task, kind=SSText, **settings):
    method = kind(SSTextSettings(**settings))
    head = method.initial_head(task)
    assert method.learner(head, task) is None, "nothing is trained"
    return method.classifier(head, task.texts)(Images(task.val.pooled[:, 0], None)), head


@pytest.fixture
def uneven(task):
    """The classes have 3, 1, 0 and 3 shots."""
    rows = [0, 1, 2, 4, 9, 10, 11]
    train = type(task.train)(task.train.pooled[rows], None, task.train.labels[rows])
    return type(task)(task.texts, train, task.val, seed=1)


def vectors_by_hand(task, penalty_of):
    """Texts plus the shots of their class, with a temperature of 0.01."""
    vectors = task.texts.features.double().numpy().copy()
    labels = task.train.labels.tolist()
    for views, label in zip(task.train.pooled.double().numpy(), labels, strict=True):
        image = views[0] / length(views[0])
        vectors[label] += image / (len(labels) * penalty_of(label, labels) * 0.01)
    return vectors


def test_the_logits_equal_a_computation_in_loops_over_uneven_shots(uneven):
    logits, _ = logits_of(uneven)
    vectors = vectors_by_hand(uneven, lambda label, labels: 1 / len(labels))
    expected = cosine_logits(vectors, uneven.val.pooled[:, 0], 100)
    assert np.abs(logits.numpy() - expected).max() < 1e-5 * 100


def test_of_the_plus_each_class_has_its_penalty_and_the_vectors_repel_one_another(uneven):
    logits, _ = logits_of(uneven, kind=SSTextPlus)
    vectors = vectors_by_hand(uneven, lambda label, labels: 1 / labels.count(label))
    mean = vectors.mean(axis=0)
    repelled = [vector - (2 * vector - mean) / length(2 * vector - mean) for vector in vectors]
    expected = cosine_logits(repelled, uneven.val.pooled[:, 0], 100)
    assert np.abs(logits.numpy() - expected).max() < 1e-5 * 100


@pytest.mark.parametrize(("images", "weight"), [(10, 100), (1000, 100), (4000, 25)])
def test_beyond_a_thousand_shots_their_sum_weighs_less(images, weight):
    shots = torch.full((2,), images // 2)
    inverse = SSText(SSTextSettings()).inverse_lambda(shots)
    assert (100 * inverse / images).tolist() == [weight, weight]


def test_a_class_without_a_shot_keeps_its_text(uneven):
    _, head = logits_of(uneven)
    assert torch.equal(head["vectors"][2], uneven.texts.features[2])

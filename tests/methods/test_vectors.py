"""TaskRes, ZS-LP, CLAP and SS-Text on shots as users have them."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from vtclip.cost import Shape, Size
from vtclip.methods import METHODS
from vtclip.methods.base import Images, Samples, Task, Texts
from vtclip.training.optimise import optimise

NAMES = ("taskres", "zs_lp", "clap", "ss_text")


def fit(name, task, epochs=20):
    kind = METHODS[name]
    settings = {"epochs": epochs} if kind.trained else {}
    method = kind(kind.settings_type(**settings))
    head = method.initial_head(task)
    learner = method.learner(head, task)
    if learner is not None:
        optimise(learner, task, method.settings)
        head = method.finish(learner, task)
    return method.classifier(head, task.texts)


def make(labels, classes, dim=32, views=1):
    """Images around one direction a class, which the texts know roughly."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(classes, dim, generator=generator)
    texts = torch.nn.functional.normalize(
        centres + 2 * torch.randn(classes, dim, generator=generator), dim=1
    )
    noise = torch.randn(len(labels), views, dim, generator=generator)
    shots = Samples(centres[labels][:, None] + 0.3 * noise, None, labels)
    return Task(Texts(texts, 10.0, means=2 * texts), shots, None, seed=0)


def assert_learned(task, logits):
    """The shots are classified better than by zero-shot."""
    before = task.texts.logits(task.train.pooled[:, 0])
    assert logits.shape == before.shape
    assert cross_entropy(logits, task.train.labels) < cross_entropy(before, task.train.labels)


@pytest.mark.parametrize("name", NAMES)
def test_one_image_a_class_in_one_view_and_no_validation_shot_is_enough(name):
    task = make(torch.arange(6), 6)
    assert_learned(task, fit(name, task)(Images(task.train.pooled[:, 0], None)))


@pytest.mark.parametrize("name", NAMES)
def test_uneven_shots_and_classes_without_any_are_classified(name):
    task = make(torch.tensor([0, 0, 0, 0, 0, 1, 3, 3]), 5, views=3)
    classify = fit(name, task)
    assert_learned(task, classify(Images(task.train.pooled[:, 0], None)))
    unseen = Images(task.texts.features[[2, 4]], None)  # images just as the texts say
    assert classify(unseen).argmax(1).tolist() == [2, 4]


@pytest.mark.parametrize("name", NAMES)
def test_many_classes_are_learned(name):
    task = make(torch.arange(300), 300, dim=64)
    assert_learned(task, fit(name, task)(Images(task.train.pooled[:, 0], None)))


@pytest.mark.parametrize("name", NAMES)
def test_the_labels_of_validation_shots_change_no_head(name, task):
    """They tune nothing: other validation labels leave the logits as they are, bit for bit."""
    images = Images(task.val.pooled[:, 0], None)
    swapped = replace(task, val=replace(task.val, labels=task.val.labels.flip(0)))
    assert torch.equal(fit(name, task)(images), fit(name, swapped)(images))
    assert not METHODS[name].tunes


@pytest.mark.parametrize("name", NAMES)
def test_they_request_little_at_sixteen_shots_of_imagenet(name):
    size = Size(Shape(50, 1024, 1024), classes=1000, shots=16, images=16_000, views=5)
    method = METHODS[name](METHODS[name].settings_type())
    work = method.work(size)
    assert work.head_bytes >= 4 * 1000 * 1024
    assert work.part_bytes < 1e9
    smaller = method.work(size._replace(images=1000, shots=1))
    assert smaller.flops < work.flops

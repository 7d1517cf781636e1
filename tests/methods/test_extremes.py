"""What is true of every method that learns from images, on tasks at the edge of what there is."""

from dataclasses import replace

import pytest
import torch

from tests.methods.short import OF_FEATURES, short_method
from vtclip.backbones.prompts import TextTower
from vtclip.methods import METHODS
from vtclip.task import Images, Prompts, Samples, Task, Texts
from vtclip.training.optimise import optimise

FEW_SHOT = [name for name in OF_FEATURES if METHODS[name].few_shot]
# The others read class names through a text tower.
LEARNING = [name for name in FEW_SHOT if not METHODS[name].reads_text_tower]


def invented(shots, views, *, dim):
    """A task of random features, from each class's number of shots."""
    classes = len(shots)
    generator = torch.Generator().manual_seed(classes)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    labels = torch.arange(classes).repeat_interleave(torch.tensor(shots))
    features = torch.nn.functional.normalize(normal(classes, dim), dim=1)
    texts = Texts(features, 100.0, means=8 * features)
    number = len(labels)
    train = Samples(normal(number, views, dim), normal(number, views, 3, dim), labels)
    val = Samples(normal(classes, 1, dim), normal(classes, 1, 3, dim), torch.arange(classes))
    return Task(texts, train, val, seed=1, projection=(normal(dim, dim), normal(dim)))


def with_tower(task, backbone):
    """The task, with class names and a text tower."""
    names = [f"class {label}" for label in range(len(task.texts.features))]
    prompts = Prompts(names, TextTower(backbone))
    return replace(task, texts=replace(task.texts, made_of=prompts), prompts=prompts)


def classify(name, task):
    """The logits of the validation shots after a short training."""
    method = short_method(name)
    if not method.reads_views:
        task = replace(task, train=replace(task.train, pooled=task.train.pooled[:, :1]))
    head = method.initial_head(task)
    learner = method.learner(head, task)
    if learner is not None:
        optimise(learner, task, method.settings)
        head = method.finish(learner, task)
    images = Images(task.val.pooled[:, 0], task.val.spatial[:, 0])
    with torch.no_grad():
        return method.classifier(head, task.texts)(images)


@pytest.mark.parametrize("name", FEW_SHOT)
@pytest.mark.parametrize(
    ("shots", "views"),  # shots of each class
    [
        pytest.param([1] * 4, 1, id="one image per class in one view"),
        pytest.param([2, 2, 2, 0], 2, id="no image of the last class"),
        pytest.param([0, 1, 1, 1], 1, id="no image of the first class"),
        pytest.param([3, 1, 0, 2], 2, id="uneven shots"),
        pytest.param([1, 1], 1, id="two classes"),
        pytest.param([1] * 1000, 1, id="a thousand classes", marks=pytest.mark.slow),
    ],
)
def test_a_method_works_at_the_edge_of_what_there_is(name, shots, views, backbone):
    if name == "cocoop" and len(shots) > 100:
        pytest.skip("a million prompts take minutes, and are no other than a hundred")
    task = with_tower(invented(shots, views, dim=64), backbone)
    logits = classify(name, task)
    assert logits.shape == (len(task.val.labels), len(task.texts.features))
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", LEARNING)
def test_a_head_classifies_with_the_unit_texts_alone_as_an_exported_one_does(name, task):
    method = short_method(name)
    head = method.initial_head(task)
    images = Images(task.val.pooled[:, 0], task.val.spatial[:, 0])
    alone = replace(task.texts, means=None, prompts=None)
    with torch.no_grad():
        logits = [method.classifier(head, texts)(images) for texts in (task.texts, alone)]
    assert torch.equal(*logits)


@pytest.mark.parametrize("name", LEARNING)
def test_a_method_changes_nothing_that_it_is_given(name, task):
    def given():
        return [
            task.texts.features,
            *(t for s in (task.train, task.val) for t in vars(s).values() if t is not None),
        ]

    before = [tensor.clone() for tensor in given()]
    classify(name, task)
    assert all(torch.equal(one, other) for one, other in zip(before, given(), strict=True))


@pytest.mark.parametrize("name", LEARNING)
def test_without_choices_nothing_is_chosen_and_no_validation_shot_is_needed(name, task):
    short = short_method(name)
    settings = short.settings_without_choice(3)
    if settings is None:
        return
    assert getattr(settings, "select", "last") == "last"
    heads = [
        METHODS[name](settings).initial_head(replace(task, val=val)) for val in (None, task.val)
    ]
    assert all(torch.equal(heads[0][key], heads[1][key]) for key in heads[0])
    assert all(len(value) == 1 for value in dict(settings).values() if isinstance(value, list))

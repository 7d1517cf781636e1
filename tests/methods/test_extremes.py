"""Promises of every method, or of many."""

from dataclasses import replace

import pytest
import torch

from tests.methods.by_hand import train
from tests.methods.short import OF_FEATURES, short_method
from vtclip.backbones.prompts import TextTower
from vtclip.cost import Shape, Size
from vtclip.methods import METHODS
from vtclip.methods.base import Recipe
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


def classify_after_training(name, task):
    """The logits of the validation shots after a short training."""
    method = short_method(name)
    if not method.reads_views:
        task = replace(task, train=replace(task.train, pooled=task.train.pooled[:, :1]))
    head, images = train(method, task), Images(task.val.pooled[:, 0], task.val.spatial[:, 0])
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
    logits = classify_after_training(name, task)
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
    classify_after_training(name, task)
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


@pytest.mark.parametrize("name", FEW_SHOT)
def test_a_head_depends_on_the_seed_alone(name, backbone):
    task = with_tower(invented([3] * 4, 2, dim=64), backbone)
    first = short_method(name).initial_head(task)
    torch.rand(3)
    again = short_method(name).initial_head(task)
    assert all(torch.equal(first[key], again[key]) for key in first)


DESCENDING = [name for name in FEW_SHOT if issubclass(METHODS[name].settings_type, Recipe)]


@pytest.mark.parametrize("name", DESCENDING)
def test_training_lowers_the_loss(name, backbone):
    task, short = with_tower(invented([3] * 4, 2, dim=64), backbone), short_method(name)
    recipe = {"epochs": 40, "warmup": 0.0, "batch_size": 12}
    if short.reads_text_tower:
        recipe |= {"epochs": 8, "learning_rate": 0.02}
    method = METHODS[name](short.settings.model_copy(update=recipe))
    learner = method.learner(method.initial_head(task), task)
    history = optimise(learner, task, method.settings)
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("name", [name for name in LEARNING if METHODS[name].trained])
def test_training_changes_the_trained_tensors_alone(name, task):
    method = short_method(name)
    before, after = method.initial_head(task), train(method, task)
    learner = method.learner(before, task)
    assert {name for name, _ in learner.named_parameters()} == {*method.trained}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed - {"alpha", "beta"} == {*method.trained}, "alpha and beta are chosen afterwards"


ONE = {"learning_rate": [0.01], "weight_decay": [0.1], "batch_size": [6], "iterations": 30}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ape", {"alpha": [0.0], "beta": [1.0], "gamma": [0.5]}),
        ("ape_t", {"initial_alpha": 0.0}),
        ("calip", {"text_weight": 0, "image_weight": 0}),
        ("clip_adapter", {"ratio": 0.0}),
        ("cross_modal", ONE | {"text_share": 1.0}),
        ("gda", {"alpha": [0.0]}),
        ("proker", {"beta": [1.0], "ridge": [1e-9]}),
        ("ss_text", {"images": 0.0}),
        ("taskres", {}),
        ("tip_adapter", {"alpha": [0.0], "beta": [5.5]}),
        ("tip_adapter_f", {"initial_alpha": 0.0}),
        ("zs_lp", {}),
    ],
)
def test_without_what_a_method_adds_the_logits_are_zero_shots(name, settings, task):
    method = METHODS[name](METHODS[name].settings_type(**settings))
    images = Images(task.val.pooled[:, 0], task.val.spatial[:, 0])
    logits = method.classifier(method.initial_head(task), task.texts)(images)
    torch.testing.assert_close(logits, task.texts.logits(images.pooled), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", LEARNING)
def test_the_labels_of_validation_shots_change_no_head_that_chooses_nothing(name, task):
    if METHODS[name].tunes or "when to stop" in short_method(name).choices():
        return
    swapped = replace(task, val=replace(task.val, labels=task.val.labels.flip(0)))
    heads = [train(short_method(name), each) for each in (task, swapped)]
    assert all(torch.equal(heads[0][key], heads[1][key]) for key in heads[0])


VECTORS = ("taskres", "zs_lp", "clap", "ss_text")  # a vector for each class, and nothing chosen


@pytest.mark.parametrize("name", VECTORS)
def test_of_uneven_shots_those_are_learned_and_classes_without_any_stay_as_their_texts_say(name):
    generator, labels = torch.Generator().manual_seed(0), torch.tensor([0, 0, 0, 0, 0, 1, 3, 3])
    centres = torch.randn(5, 32, generator=generator)
    texts = torch.nn.functional.normalize(
        centres + 2 * torch.randn(5, 32, generator=generator), dim=1
    )
    noise = torch.randn(8, 3, 32, generator=generator)
    shots = Samples(centres[labels][:, None] + 0.3 * noise, None, labels)
    task = Task(Texts(texts, 10.0, means=2 * texts), shots, None, seed=0)
    kind = METHODS[name]
    method = kind(kind.settings_type(**({"epochs": 20} if kind.trained else {})))
    classifier, pooled = method.classifier(train(method, task), task.texts), shots.pooled[:, 0]
    losses = [
        torch.nn.functional.cross_entropy(logits, labels)
        for logits in (classifier(Images(pooled, None)), task.texts.logits(pooled))
    ]
    assert losses[0] < losses[1]
    assert classifier(Images(texts[[2, 4]], None)).argmax(1).tolist() == [2, 4]


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_for_each_class_requests_little_at_sixteen_shots_of_imagenet(name):
    size = Size(Shape(50, 1024, 1024), classes=1000, shots=16, images=16_000, views=5)
    method = METHODS[name](METHODS[name].settings_type())
    work = method.work(size)
    assert work.head_bytes >= 4 * 1000 * 1024
    assert work.part_bytes < 1e9
    assert method.work(size._replace(images=1000, shots=1)).flops < work.flops

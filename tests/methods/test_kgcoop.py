import shutil
from dataclasses import replace

import pytest
import torch

from tests.methods.by_hand import NAMES, encode_by_hand, softmax
from vtclip.backbones import prompts
from vtclip.methods.base import Images, Prompts
from vtclip.methods.kgcoop import KgCoOp, KgCoOpSettings
from vtclip.runtime import devices
from vtclip.settings import ConfigError, check
from vtclip.training.optimise import optimise


def learner_of(prompted, **settings):
    method = KgCoOp(KgCoOpSettings(**settings))
    return method.learner(method.initial_head(prompted), prompted)


def test_the_loss_is_that_of_loops_in_double_precision(prompted, backbone):
    template = "a photo of a {}, a type of texture."
    learner = learner_of(prompted, words="one two three", template=template)
    pooled, labels = prompted.train.pooled[:, 0], prompted.train.labels
    logits = learner(Images(pooled, None))
    loss = torch.nn.functional.cross_entropy(logits, labels) + learner.penalty()
    loss.backward()
    assert learner.context.grad.abs().sum() > 0
    texts = encode_by_hand(backbone, learner.context.detach(), NAMES)
    written = backbone.encode_classes(NAMES, [template]).double()
    distance = sum(1 - float(text @ other) for text, other in zip(texts, written, strict=True)) / 4
    units = pooled.double() / pooled.double().norm(dim=1, keepdim=True)
    likelihood = 0.0
    for image, label in zip(units, labels, strict=True):
        row = softmax([100 * float(image @ text) for text in texts])
        likelihood += torch.tensor(row[label]).log().item() / len(labels)
    assert distance > 0.01
    assert loss.item() == pytest.approx(8 * distance - likelihood, rel=1e-4)


def test_the_first_step_is_zero_shot_without_a_penalty_where_words_and_prompt_agree(
    prompted, images
):
    learner = learner_of(prompted)
    logits = learner(images)
    expected = prompted.texts.logits(images.pooled)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3)
    assert learner.penalty().item() == pytest.approx(0, abs=1e-5)


def test_a_step_reads_the_prompts_once(prompted, monkeypatch):
    read, tower = [], prompted.prompts.tower
    make = tower.prompt_encoder

    def counting(names, words):
        encode = make(names, words)
        return lambda context: read.append(1) or encode(context)

    monkeypatch.setattr(tower, "prompt_encoder", counting)
    optimise(learner_of(prompted), replace(prompted, val=None), KgCoOpSettings(epochs=5))
    assert len(read) == 5


@pytest.mark.parametrize("template", ["a photo", "{} {}", "{name}"])
def test_a_prompt_without_a_place_for_the_class_name_is_refused(template):
    with pytest.raises(ConfigError, match="template"):
        check(KgCoOpSettings, {"template": template}, source="mine.yaml")


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.slow
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_a_compiled_training_ends_where_the_plain_one_does(prompted, backbone, half, monkeypatch):
    for module in (devices, prompts):
        monkeypatch.setattr(module, "has_bfloat16", lambda _: half)
    task = replace(prompted, prompts=Prompts(NAMES, prompts.TextTower(backbone)))
    losses = []
    for compiled in (False, True):
        recipe = {"epochs": 3, "batch_size": 32, "learning_rate": 0.1, "compile": compiled}
        learner = learner_of(task, **recipe)
        losses.append(optimise(learner, task, KgCoOpSettings(**recipe))["loss"].to_list())
    assert not torch._dynamo.utils.counters["graph_break"]  # the host has no part in a step
    assert losses[1] == pytest.approx(losses[0], rel=1e-2 if half else 1e-4)

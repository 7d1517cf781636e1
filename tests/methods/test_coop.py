from dataclasses import replace

import pytest
import torch

from tests.methods.by_hand import NAMES, encode_by_hand, train
from vtclip.backbones.prompts import PromptError
from vtclip.cost import Shape
from vtclip.methods import METHODS
from vtclip.methods.coop import CoOp, CoOpSettings
from vtclip.methods.zero_shot import ZeroShot
from vtclip.settings import ConfigError, Settings
from vtclip.training.optimise import optimise


def test_with_the_words_of_a_template_the_logits_are_that_templates_zero_shot(prompted, images):
    method = CoOp(CoOpSettings(words="a photo of a"))
    head = method.initial_head(prompted)
    assert head["context"].shape == (4, 64)
    learner = method.learner(head, prompted)
    expected = ZeroShot(Settings()).classifier({}, prompted.texts)(images)
    torch.testing.assert_close(learner(images), expected, rtol=0, atol=1e-3)
    finished = method.finish(learner, prompted)
    logits = method.classifier(finished, prompted.texts)(images)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3)


def test_gradients_reach_the_context_alone(prompted, images, backbone):
    method = CoOp(CoOpSettings(context=4))
    learner = method.learner(method.initial_head(prompted), prompted)
    before = {name: weight.clone() for name, weight in backbone.model.state_dict().items()}
    learner(images).square().sum().backward()
    assert [name for name, _ in learner.named_parameters()] == ["context"]
    assert learner.context.grad.abs().sum(dim=1).gt(0).all()
    assert all(weight.grad is None for weight in backbone.model.parameters())
    optimise(learner, prompted, CoOpSettings(context=4, epochs=2))
    after = backbone.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_logits_equal_prompts_encoded_one_by_one(prompted, images, backbone):
    method = CoOp(CoOpSettings(context=3))
    head = method.initial_head(prompted)
    logits = method.learner(head, prompted)(images)
    texts = encode_by_hand(backbone, head["context"], NAMES)
    for number, image in enumerate(images.pooled.double()):
        for k, text in enumerate(texts):
            cosine = torch.cosine_similarity(image, text, dim=0)
            assert logits[number, k].item() == pytest.approx(100 * cosine.item(), abs=1e-3)


def test_a_context_that_the_text_tower_cannot_read_is_refused_with_one_that_it_can(prompted):
    method = CoOp(CoOpSettings(context=16))
    with pytest.raises(PromptError, match=r"(?s)'polar_bear' make 21 tok.*reads 16.*context: 11"):
        method.learner(method.initial_head(prompted), prompted)


def test_the_check_before_any_job_lets_the_longest_context_pass_that_the_tower_reads(prompted):
    shape = Shape(5, 64, 64, context_length=16)
    longest = CoOp(CoOpSettings(context=12))
    longest.check(shape)
    short = replace(prompted, prompts=replace(prompted.prompts, class_names=["ant"]))  # one token
    longest.learner(longest.initial_head(short), short)
    with pytest.raises(ConfigError, match="context: 12"):
        CoOp(CoOpSettings(context=13)).check(shape)


@pytest.mark.parametrize(("name", "setting"), [("kgcoop", "pull"), ("prograd", "removed")])
def test_without_what_they_add_the_methods_made_of_coop_are_coop_bit_by_bit(
    prompted, name, setting
):
    recipe = {"words": "a photo of a", "epochs": 6, "context": 4, "batch_size": 32}
    least = prompted.texts.logits(prompted.train.pooled[:, 0]).argmin(dim=1)  # far from zero-shot
    prompted = replace(prompted, train=replace(prompted.train, labels=least))
    kind = METHODS[name]
    methods = [CoOp(CoOpSettings(**recipe))]
    methods += [kind(kind.settings_type(**recipe, **{setting: share})) for share in (0, 1)]
    plain, without, changed = (train(method, prompted)["context"] for method in methods)
    assert torch.equal(without, plain)
    assert not torch.equal(changed, plain)

from dataclasses import replace
from types import SimpleNamespace

import open_clip
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from tests.project import ROOT
from vtclip.backbones.backbone import load_backbone
from vtclip.backbones.image_towers import list_attention
from vtclip.methods.clip_lora import ClipLora, ClipLoraSettings
from vtclip.nn.towers import Attention, Towers
from vtclip.task import Change, Images, Prompts, Task, Texts

NAMES = ["ant", "polar_bear", "cow"]
TEMPLATE = "a {}."
LABELS = torch.tensor([0, 1, 2, 1, 0])


def load():
    torch.manual_seed(0)
    architecture = ROOT / "config" / "backbones" / "glyph-clip.json"
    return load_backbone("glyph-clip", pretrained=None, architecture=architecture)


@pytest.fixture(scope="module")
def given():
    """A task without images, in double precision."""
    backbone = load()
    features = backbone.encode_classes(NAMES, [TEMPLATE])
    backbone.model.double()
    prompts = Prompts(NAMES, Towers(backbone))
    return Task(Texts(features, 100.0, made_of=prompts), None, None, seed=1, prompts=prompts)


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()


def method(**settings):
    return ClipLora(ClipLoraSettings(template=TEMPLATE, **settings))


def random_head(task):
    """Factors of which neither is zero."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: 0.1 * torch.randn(tensor.shape, generator=generator, dtype=torch.double)
        for name, tensor in method().initial_head(task).items()
    }


def of_pixels(pixels):
    return Images(torch.empty(len(pixels), 0), None, pixels=pixels)


def to_learn_from(pixels):
    return replace(of_pixels(pixels), labels=LABELS)


def loss_of(learner, pixels):
    return cross_entropy(learner(to_learn_from(pixels)), LABELS)


def test_training_starts_from_zero_shot(given, pixels):
    backbone = load()
    pooled, _ = backbone.encode_images(pixels.float())
    expected = given.texts.logits(pooled).double()
    head = {name: tensor.double() for name, tensor in method().initial_head(given).items()}
    learner = method().learner(head, given)
    for images in (of_pixels(pixels), to_learn_from(pixels)):
        torch.testing.assert_close(learner(images), expected, rtol=0, atol=1e-3)


def test_the_merged_weights_classify_as_the_branches_do(given, pixels):
    head, plain = random_head(given), method(dropout=0.0)
    branches = plain.learner(head, given)(to_learn_from(pixels))
    merged = plain.classifier(head, given.texts)(of_pixels(pixels))
    torch.testing.assert_close(merged, branches, rtol=1e-9, atol=1e-9)
    untrained = method().classifier(method().initial_head(given), given.texts)
    assert not torch.allclose(merged, untrained(of_pixels(pixels)), atol=0.1)


def test_the_logits_are_those_of_open_clips_own_towers_with_changed_weights(given, pixels):
    head, model = random_head(given), load().model.double()
    for tower, blocks in (
        ("image", model.visual.transformer.resblocks), ("text", model.transformer.resblocks)
    ):  # fmt: skip
        for block, a, b in zip(blocks, head[f"{tower}_a"], head[f"{tower}_b"], strict=True):
            for part in range(3):
                width = a.shape[-1]
                rows = block.attn.in_proj_weight.data[part * width : (part + 1) * width]
                rows += 2**-0.5 * b[part] @ a[part]  # alpha / sqrt(rank)
    tokens = load().tokenizer(["a ant.", "a polar bear.", "a cow."])
    with torch.no_grad():
        texts = model.encode_text(tokens, normalize=True)
        expected = 100 * model.encode_image(pixels, normalize=True) @ texts.T
    found = method().classifier(head, given.texts)(of_pixels(pixels))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_vit_b_16_has_184_320_trained_numbers():
    with torch.device("meta"):
        model = open_clip.create_model("ViT-B-16", load_weights=False, device="meta")
    attention = {"image": {}, "text": {}}
    for name in list_attention(model):
        tower = "image" if name.startswith("visual.") else "text"
        attention[tower][name] = Attention(model.get_submodule(name)).qkv
    prompts = Prompts(NAMES, SimpleNamespace(attention=attention))
    texts = Texts(torch.eye(3), 100.0, made_of=prompts)
    head = method().initial_head(Task(texts, None, None, seed=1))
    assert sum(tensor.numel() for tensor in head.values()) == 184_320


def test_the_factors_start_as_the_authors_do(given):
    head = method().initial_head(given)
    for tower, blocks, width in (("image", 3, 128), ("text", 2, 64)):
        a, b = head[f"{tower}_a"], head[f"{tower}_b"]
        assert a.shape == (blocks, 3, 2, width)
        assert b.shape == (blocks, 3, width, 2)
        assert 0.9 * width**-0.5 < a.abs().max() <= width**-0.5
        assert not b.any()


def test_gradients_are_those_of_the_weights_times_the_other_factor(given, pixels):
    """dA = scale * B^T dW and dB = scale * dW A^T, in double precision."""
    head, towers = random_head(given), given.texts.made_of.tower
    learner = method(dropout=0.0).learner(head, given)
    loss_of(learner, pixels).backward()
    merged = method().change(head, towers, training=False).weights
    weights = {name: weight.detach().requires_grad_() for name, weight in merged.items()}
    change = Change(weights=weights)
    texts = towers.encode_prompts(NAMES, TEMPLATE, change)
    images = normalize(towers.encode_images(pixels, change), dim=-1)
    cross_entropy(100 * images @ texts.T, LABELS).backward()
    for tower in ("image", "text"):
        for block, name in enumerate(towers.attention[tower]):
            gradient = weights[f"{name}.weight"].grad.unflatten(0, (3, -1))
            a, b = head[f"{tower}_a"][block], head[f"{tower}_b"][block]
            for factor, expected in (("a", b.mT @ gradient), ("b", gradient @ a.mT)):
                found = learner.get_parameter(f"{tower}_{factor}").grad[block]
                torch.testing.assert_close(found, 2**-0.5 * expected, rtol=1e-6, atol=1e-9)


def test_gradients_reach_the_factors_alone(given, pixels):
    learner = method().learner(random_head(given), given)
    loss_of(learner, pixels).backward()
    assert {name for name, _ in learner.named_parameters()} == set(random_head(given))
    assert all(weight.grad is None for weight in given.texts.made_of.tower.weights.values())


def test_query_key_and_value_drop_other_numbers_of_the_changes_input(given):
    torch.manual_seed(0)
    width = 4000
    ones = torch.ones(3, 1, width)
    added = method(dropout=0.25)._add(ones, ones.mT, torch.ones(1, 1, width))
    sums = added.view(3, width)[:, 0] / 2**-0.5  # of what was kept, divided by 0.75
    assert len(set(sums.tolist())) == 3
    torch.testing.assert_close(sums / width, torch.ones(3), rtol=0, atol=0.05)


def test_a_head_classifies_classes_that_it_never_saw(given, pixels):
    head, names = random_head(given), ["cow", "dog"]
    prompts = replace(given.prompts, class_names=names)
    texts = replace(given.texts, made_of=prompts)
    logits = method().classifier(method().for_classes(head, prompts), texts)
    known = method().classifier(head, given.texts)(of_pixels(pixels))
    torch.testing.assert_close(logits(of_pixels(pixels))[:, 0], known[:, 2])


@pytest.mark.parametrize(("shots", "images", "last"), [(1, 10, 10), (4, 40, 8), (16, 1600, 32)])
def test_a_training_has_500_steps_per_shot_whatever_the_number_of_images(shots, images, last):
    recipe = ClipLoraSettings()
    assert recipe.steps_at(shots, images) == 500 * shots
    assert images - (recipe.steps_per_epoch(images) - 1) * 32 == last

"""A causal tower on its short way gives what open_clip's own forward pass gives."""

import pytest
import torch

from benchmarks.measuring import count_launches
from tests.backbones.test_backbone import load_custom
from vtclip.backbones import prompts, text_towers
from vtclip.backbones.backbone import Backbone
from vtclip.backbones.prompts import PackedTower, TextTower
from vtclip.backbones.text_towers import find_causal
from vtclip.runtime import devices

VISION = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
SMALL = {"width": 64, "heads": 4, "layers": 2}
NAMES = ["ant", "herbaceous_vegetation_land", "polar bear", "cow", "sea", "Boeing 737-200"]


def build(folder, text, **keys) -> Backbone:
    """A model with random weights, a small image tower and this text tower."""
    return load_custom(folder, {"embed_dim": 64, "vision_cfg": VISION, "text_cfg": text} | keys)


@pytest.fixture(
    scope="module",
    params=["small", "quick gelu", "custom text", "projection", "glyph-clip"],
)
def causal(request, tmp_path_factory, backbone):
    """A backbone whose text tower is causal, and a context that its prompts have room for."""
    folder = tmp_path_factory.mktemp("causal")
    if request.param == "glyph-clip":
        return backbone, torch.randn(4, 64)
    if request.param == "custom text":
        made = build(folder, SMALL | {"ls_init_value": 0.5}, custom_text=True)
    elif request.param == "projection":
        made = build(folder, SMALL | {"proj_bias": True}, custom_text=True)
    else:
        made = build(folder, SMALL, quick_gelu=request.param == "quick gelu")
    return made, torch.randn(16, TextTower(made).width)


def encode(backbone, context):
    """Text features, and the gradient that reaches the context."""
    context = (0.02 * context).requires_grad_()
    texts = TextTower(backbone).prompt_encoder(NAMES, len(context))(context)
    generator = torch.Generator().manual_seed(0)
    (texts * torch.randn(texts.shape, generator=generator)).sum().backward()
    return texts.detach(), context.grad


def assert_equal_to_rounding(found, expected):
    assert (found - expected).norm() < 1e-5 * expected.norm()


def assert_as_whole_prompts(causal, monkeypatch):
    texts, gradient = encode(*causal)
    monkeypatch.setattr(prompts, "find_causal", lambda model: None)
    whole, whole_gradient = encode(*causal)
    assert whole_gradient.norm(dim=1).gt(0).all()
    assert_equal_to_rounding(texts, whole)
    assert_equal_to_rounding(gradient, whole_gradient)


@pytest.mark.parametrize("batch", [256, 4])
def test_a_shared_prefix_gives_the_texts_and_gradients_of_whole_prompts(causal, batch, monkeypatch):
    monkeypatch.setattr(text_towers, "BATCH", batch)
    assert_as_whole_prompts(causal, monkeypatch)


@pytest.mark.parametrize("batch", [256, 4])
def test_texts_cut_after_their_ends_are_those_of_open_clip(causal, batch, monkeypatch):
    monkeypatch.setattr(text_towers, "BATCH", batch)
    backbone, _ = causal
    texts = [f"a photo of the {name}." for name in NAMES]
    with torch.inference_mode():
        expected = backbone.model.encode_text(backbone.tokenizer(texts))
    found = backbone.encode_texts(texts)
    for text, whole in zip(found, expected, strict=True):
        assert_equal_to_rounding(text, whole)


def test_no_token_after_the_longest_end_goes_through_the_tower(causal):
    backbone, context = causal
    tower = find_causal(backbone.model)._tower
    seen = []
    hook = tower.transformer.resblocks[0].mlp.register_forward_hook(
        lambda module, given, made: seen.append(given[0].shape[:-1].numel())
    )
    try:
        TextTower(backbone).prompt_encoder(["ant", "cow"], len(context))(context)
        backbone.encode_texts(["ant", "cow"])
    finally:
        hook.remove()
    # Start and context once; of each prompt a name, with or without a full stop, and the end.
    assert seen == [1 + len(context), 2 * 3, 1, 2 * 2]


OTHERS = {
    "sees tokens after it": {"no_causal_mask": True},
    "pools the last token": {"pool_type": "last"},
    "pools the first token": {"pool_type": "first"},
    "adds a token to pool": {"embed_cls": True},
    "has layers of another kind": {"qk_norm": True},
}


@pytest.mark.parametrize("text", OTHERS.values(), ids=OTHERS)
def test_a_tower_of_another_kind_reads_whole_prompts(tmp_path, text):
    backbone = build(tmp_path, SMALL | text, custom_text=True)
    assert find_causal(backbone.model) is None
    texts = [f"the {name}." for name in NAMES]
    with torch.inference_mode():
        expected = backbone.model.encode_text(backbone.tokenizer(texts))
    assert torch.equal(backbone.encode_texts(texts), expected)
    encoder = TextTower(backbone).prompt_encoder(NAMES, 1)
    found = encoder(TextTower(backbone).embed_words("the"))
    readable = [text.replace("_", " ") for text in texts]
    with torch.inference_mode():
        expected = backbone.model.encode_text(backbone.tokenizer(readable), normalize=True)
    assert_equal_to_rounding(found, expected)


def test_a_tower_of_an_unknown_class_reads_whole_prompts(backbone, monkeypatch):
    class Unknown(type(backbone.model)):
        pass

    monkeypatch.setattr(backbone.model, "__class__", Unknown)
    assert find_causal(backbone.model) is None


@pytest.fixture
def gpu(monkeypatch):
    """The CPU in bfloat16, as a GPU."""
    for module in (devices, prompts):
        monkeypatch.setattr(module, "has_bfloat16", lambda _: True)


@pytest.mark.parametrize("length", [256, 16, 1])
def test_prompts_packed_in_rows_give_the_texts_and_gradients_of_whole_prompts(
    causal, length, monkeypatch
):
    monkeypatch.setattr(prompts, "has_bfloat16", lambda _: True)
    monkeypatch.setattr(prompts, "PackedTower", lambda tower, _: PackedTower(tower, torch.float32))
    monkeypatch.setattr(prompts, "ROW", length)
    assert_as_whole_prompts(causal, monkeypatch)


@pytest.mark.parametrize("shared", [17, 5, 2])
def test_rows_have_each_prompt_once_and_whole_and_like_lengths(shared):
    lengths = torch.randint(3, 12, (1000,), generator=torch.Generator().manual_seed(0))
    owner, place = prompts.pack(lengths, shared)
    found = [owner[owner >= 0], place[owner >= 0]]
    expected = [(number, token) for number in range(1000) for token in range(lengths[number])]
    assert list(zip(*(part.tolist() for part in found), strict=True)) == expected
    assert (place < 0).equal(owner < 0)
    numbers = [set(row[row >= 0].tolist()) for row in owner]
    assert sum(map(len, numbers)) == 1000  # none is cut
    assert (owner.shape[1] + shared) % prompts.ALIGNED == 0
    assert 200 < owner.shape[1] < 280
    assert owner.numel() < 1.1 * lengths.sum()  # padding takes time


def launches(backbone, classes):
    context = torch.randn(4, TextTower(backbone).width, requires_grad=True)
    names = [f"ant {label}" for label in range(classes)]
    encode = TextTower(backbone).prompt_encoder(names, len(context))
    return count_launches(lambda: encode(context).sum().backward())


def test_two_thousand_classes_take_no_more_launches_than_ten_on_a_gpu(backbone, gpu):
    assert launches(backbone, 2000) == launches(backbone, 10)


def test_a_layer_takes_at_most_28_launches_on_a_gpu(tmp_path, gpu):
    two, four = (
        launches(build(tmp_path, SMALL | {"layers": layers}, quick_gelu=True), 10)
        for layers in (2, 4)
    )
    assert (four - two) / 2 <= 28


def test_bfloat16_gives_texts_and_gradients_near_those_of_float32(causal, gpu, monkeypatch):
    backbone, context = causal
    texts, gradient = encode(backbone, context)
    assert {weight.dtype for weight in backbone.model.parameters()} == {torch.float32}
    for module in (devices, prompts):
        monkeypatch.setattr(module, "has_bfloat16", lambda _: False)
    exact, exact_gradient = encode(backbone, context)
    assert (texts - exact).norm() < 0.02 * exact.norm()
    assert (gradient - exact_gradient).norm() < 0.05 * exact_gradient.norm()


def test_all_contexts_share_one_copy_of_the_tower_in_half_precision(backbone, gpu):
    tower = TextTower(backbone)
    tower.prompt_encoder(NAMES, 4)
    copy = tower._causal
    tower.prompt_encoder(NAMES, 2)
    assert tower._causal is copy

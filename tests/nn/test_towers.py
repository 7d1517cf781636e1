import json
from copy import deepcopy

import open_clip
import pytest
import torch
from torch import nn

from tests.project import ROOT
from vtclip.backbones.backbone import load_backbone
from vtclip.backbones.image_towers import list_attention
from vtclip.nn.towers import Attention, Towers
from vtclip.task import Change

NAMES = ["ant", "polar_bear", "cow"]
ARCHITECTURE = ROOT / "config" / "backbones" / "glyph-clip.json"


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return load_backbone("glyph-clip", pretrained=None, architecture=ARCHITECTURE)


@pytest.fixture(scope="module")
def towers(clip):
    changed = deepcopy(clip)
    return Towers(changed)


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_without_a_change_the_towers_give_the_backbones_features(clip, towers, pixels):
    pooled, _ = clip.encode_images(pixels)
    torch.testing.assert_close(towers.encode_images(pixels, Change()), pooled)
    texts = towers.encode_prompts(NAMES, "a {}.", Change())
    torch.testing.assert_close(texts, clip.encode_classes(NAMES, ["a {}."]))


@pytest.mark.parametrize("shape", [None, (5, 5), (2 * 4, 5, 5)], ids=["none", "one", "each"])
def test_unpacked_attention_computes_what_pytorchs_does(shape):
    """With a mask for all, or with one for each text and attention head, as CoCa has."""
    torch.manual_seed(0)
    packed = nn.MultiheadAttention(32, 4, batch_first=True)
    nn.init.normal_(packed.in_proj_bias)
    tokens = torch.randn(2, 5, 32)
    mask = None if shape is None else torch.randn(shape).where(torch.ones(5, 5).tril() > 0, -100)
    expected, _ = packed(tokens, tokens, tokens, need_weights=False, attn_mask=mask)
    found, _ = Attention(packed)(tokens, tokens, tokens, need_weights=False, attn_mask=mask)
    torch.testing.assert_close(found, expected)


def test_attention_of_an_unusual_kind_is_not_counted(tmp_path):
    text = {"width": 64, "heads": 4, "layers": 2, "qk_norm": True}
    path = tmp_path / "unusual.json"
    path.write_text(json.dumps(json.loads(ARCHITECTURE.read_text()) | {"text_cfg": text}))
    towers = Towers(load_backbone(path.stem, pretrained=None, architecture=path))
    assert not towers.attention["text"]
    assert towers.attention["image"]


def test_a_change_reaches_one_call_and_leaves_the_towers_as_they_were(towers, pixels):
    plain = towers.encode_images(pixels, Change())
    name = next(iter(towers.attention["image"]))
    weight = towers.weights[f"{name}.weight"]
    for change in (
        Change(weights={f"{name}.weight": 2 * weight}),
        Change(added={name: lambda tokens: tokens.repeat(1, 1, 3)}),
    ):
        assert not torch.allclose(towers.encode_images(pixels, change), plain, atol=1e-3)
        assert torch.equal(towers.encode_images(pixels, Change()), plain)


@pytest.mark.parametrize(
    ("name", "image", "text"),
    [
        ("ViT-B-16-quickgelu", 12, 12),
        ("ViT-B-16-SigLIP", 12, 12),  # timm's image tower
        ("RN50", 0, 12),
        ("EVA02-B-16", 0, 12),  # its query, key and value have biases apart from the layer
    ],
)
def test_the_attention_of_a_model_is_found_by_its_kind(name, image, text):
    with torch.device("meta"):
        model = open_clip.create_model(
            name, load_weights=False, pretrained_image=False, device="meta"
        )
    found = list_attention(model)
    assert sum(layer.startswith("visual.") for layer in found) == image
    assert sum(layer.startswith(("transformer.", "text.")) for layer in found) == text

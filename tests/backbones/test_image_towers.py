"""Every kind of image tower gives open_clip's pooled features, and spatial ones of its meaning."""

import pytest
import torch
from safetensors.torch import save_file

from tests.backbones.test_backbone import load_custom, random_pixels
from vtclip.backbones.backbone import Backbone, BackboneError
from vtclip.backbones.checkpoints import read_projection
from vtclip.backbones.image_towers import encode_images, find_kind

TEXT = {"context_length": 16, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 48, "head_width": 16, "patch_size": 8}


def timm(model: str, image_size: int, **keys) -> dict:
    return {"timm_model_name": model, "image_size": image_size, **keys}


# name: the image tower, its kind, the number of its places, and their width
TOWERS = {
    "ResNet": (
        {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "resnet", 4, 512,
    ),
    "ViT": (VIT, "vit", 16, 48),
    "ViT with average pool": (VIT | {"pool_type": "avg"}, "average", 16, 48),
    "CLIPA": (
        VIT | {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
        "average", 16, 48,
    ),
    "CoCa": (
        VIT | {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
        "attention_pool", 16, 48,
    ),
    "CoCa of one width": (
        VIT | {"width": 96, "attentional_pool": True, "attn_pooler_heads": 2},
        "attention_pool", 16, 96,
    ),
    "timm's ViT": (timm("test_vit", 160, timm_pool="token", timm_proj=None), "vit", 100, 64),
    "timm's ViT that averages": (timm("test_vit4", 160, timm_pool=""), "average", 100, 96),
    "SigLIP": (
        timm("test_vit3", 160, timm_pool="map", timm_proj="none"), "attention_pool", 100, 96,
    ),
    "relative positions": (timm("test_vit_relpos", 160, timm_pool="avg"), "average", 100, 96),
    "ConvNeXt": (timm("test_convnext", 64, timm_pool=""), "average", 4, 64),
    "ConvNeXt with an MLP": (
        timm("test_convnext", 64, timm_pool="", timm_proj="mlp"), "average", 4, 64,
    ),
    "EfficientNet": (timm("test_efficientnet", 64, timm_pool="avg"), "average", 4, 256),
}  # fmt: skip
# Nothing but a projection follows their average.
LINEAR = {"ViT with average pool", "EfficientNet"}
ALONE = [name for name, tower in TOWERS.items() if tower[1] not in ("resnet", "vit")]
DIM = 96


def build(folder, vision, spatial="projected", **keys) -> Backbone:
    config = {"embed_dim": DIM, "vision_cfg": vision, "text_cfg": TEXT, **keys}
    backbone = load_custom(folder, config, spatial=spatial)
    for parameter in backbone.model.visual.parameters():  # also of norms, which start as nothing
        parameter.add_(0.05 * torch.randn_like(parameter))
    return backbone


def assert_close(found, expected):
    atol = 1e-5 * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=atol)


@pytest.fixture(scope="module", params=TOWERS)
def tower(request, tmp_path_factory):
    vision, kind, places, width = TOWERS[request.param]
    backbone = build(tmp_path_factory.mktemp("tower"), vision)
    assert find_kind(backbone.model.visual) == kind
    pixels = random_pixels(backbone)
    return request.param, backbone, pixels, kind, places, width


def encode_open_clip(backbone, pixels):
    with torch.inference_mode():
        found = backbone.model.visual(pixels)
    return found[0] if isinstance(found, tuple) else found


def test_pooled_features_are_those_of_open_clip(tower):
    _, backbone, pixels, *_ = tower
    assert_close(backbone.encode_images(pixels)[0], encode_open_clip(backbone, pixels))


NOT_LINEAR = {"timm's ViT", "SigLIP", "ConvNeXt with an MLP"}


def test_the_unprojected_feature_is_the_pooled_one_before_the_last_linear_map(tower, tmp_path):
    name, backbone, pixels, *_ = tower
    file = tmp_path / "weights.safetensors"
    save_file({key: each.contiguous() for key, each in backbone.model.state_dict().items()}, file)
    if name in NOT_LINEAR:
        with pytest.raises(BackboneError, match="does not end in one linear map"):
            read_projection(file)
        return
    weight, bias = read_projection(file)
    with torch.inference_mode():
        pooled, wide = encode_images(backbone.model.visual, pixels, "unprojected")
    assert wide.shape == (2, 1, weight.shape[1])
    assert_close(wide[:, 0] @ weight.T + bias, pooled)
    assert_close(pooled, encode_open_clip(backbone, pixels))


def test_projected_features_are_one_a_place_and_of_resnets_and_vits_the_pooled_one_first(tower):
    _, backbone, pixels, kind, places, _ = tower
    pooled, spatial = backbone.encode_images(pixels)
    first = 1 if kind in ("resnet", "vit") else 0
    assert spatial.shape == (2, first + places, DIM)
    if first:
        assert_close(spatial[:, 0], pooled)


def test_the_mean_of_the_places_is_the_pooled_feature_where_a_projection_alone_follows(tower):
    name, backbone, pixels, kind, *_ = tower
    pooled, spatial = backbone.encode_images(pixels)
    is_mean = torch.allclose(spatial.mean(dim=1), pooled, rtol=1e-4, atol=1e-4)
    assert is_mean == (name in LINEAR)
    assert kind == "average" or not is_mean


@pytest.mark.parametrize("tower", ALONE, indirect=True)
def test_each_place_is_pooled_as_if_it_were_the_only_one(tower, monkeypatch):
    """A map whose places are all alike has the pooled feature at each of them."""
    _, backbone, pixels, *_ = tower
    visual = backbone.model.visual
    part, name = (
        (visual.trunk, "forward_features")
        if hasattr(visual, "trunk")
        else (visual.transformer, "forward")
    )
    monkeypatch.setattr(part, name, repeating(getattr(part, name)))
    pooled, spatial = backbone.encode_images(pixels)
    assert_close(pooled, encode_open_clip(backbone, pixels))
    assert_close(spatial, pooled[:, None].expand_as(spatial))


def repeating(forward):
    """Put the last place of a map, tokens (B, N, width) or (B, width, h, w), at all of them."""

    def repeated(*given, **keys):
        made = forward(*given, **keys)
        one = made[:, -1:] if made.ndim == 3 else made[..., -1:, -1:]
        return one.expand_as(made).contiguous()

    return repeated


def test_raw_features_are_the_map_before_pooling(tower, tmp_path):
    name, backbone, pixels, _, places, width = tower
    raw = Backbone(backbone.model, "mine", None, "raw", "float32")
    pooled, spatial = raw.encode_images(pixels)
    assert spatial.shape == (2, places, width)
    assert_close(pooled, backbone.encode_images(pixels)[0])
    visual = backbone.model.visual
    if name != "EfficientNet":  # a last layer comes after the last block
        with torch.inference_mode():
            found = visual.forward_intermediates(
                pixels, indices=1, normalize_intermediates=hasattr(visual, "trunk")
            )
        assert_close(spatial, found["image_intermediates"][-1].flatten(2).mT)


OTHERS = {
    "an attention pool with positions": timm("test_convnext", 64, timm_pool="rot_attn"),
    "the largest of the places": timm("test_convnext", 64, timm_pool="max"),
}


@pytest.mark.parametrize("vision", OTHERS.values(), ids=OTHERS)
def test_a_tower_of_another_kind_has_raw_features_alone_and_says_so(vision, tmp_path):
    with pytest.raises(BackboneError, match="mine: .*no projected spatial features.\n.*\n.*: raw"):
        build(tmp_path, vision)
    backbone = build(tmp_path, vision, "raw")
    pixels = random_pixels(backbone)
    pooled, spatial = backbone.encode_images(pixels)
    assert_close(pooled, encode_open_clip(backbone, pixels))
    assert spatial.shape[:2] == (2, 4)


def test_a_tower_without_pooled_features_is_refused(tmp_path):
    for keys in ({"pool_type": "none"}, {"attentional_pool": "parallel"}):
        with pytest.raises(BackboneError, match="expected: vision_cfg with pool_type tok or avg"):
            build(tmp_path, VIT | {"width": DIM} | keys, "raw")


def test_an_image_tower_that_timm_does_not_have_is_refused(tmp_path):
    with pytest.raises(BackboneError, match=r"no test_vitt in timm .*did you mean test_vit"):
        build(tmp_path, timm("test_vitt", 160))


def test_a_coca_gives_images_and_texts_that_are_not_normalised(tmp_path):
    backbone = build(
        tmp_path, TOWERS["CoCa"][0], custom_text=True, multimodal_cfg=TEXT,
        text_cfg=TEXT | {"embed_cls": True, "output_tokens": True},
    )  # fmt: skip
    pixels, texts = random_pixels(backbone), ["a cat", "the blue sea"]
    with torch.inference_mode():
        images = backbone.model.encode_image(pixels, normalize=False)
        expected = backbone.model.encode_text(backbone.tokenizer(texts), normalize=False)
    assert_close(backbone.encode_images(pixels)[0], images)
    assert_close(backbone.encode_texts(texts), expected)
    assert not torch.allclose(expected.norm(dim=1), torch.ones(2))

"""What a backbone gives is read from open_clip's files, and says the same as open_clip."""

import json
from pathlib import Path

import open_clip
import pytest
import torch

from vtclip.architecture import (
    _known_configurations,
    _known_tags,
    check_weights,
    read_architecture,
    read_content,
    read_shape,
)
from vtclip.experiment import Backbone
from vtclip.plan import Plan
from vtclip.settings import ConfigError

ROOT = Path(__file__).parents[1]
GLYPH_CLIP = "config/backbones/glyph-clip.json"
KNOWN = sorted(_known_configurations())


def named(name, pretrained="openai", **keys) -> Backbone:
    return Backbone(name=name, pretrained=pretrained, **keys)


@pytest.mark.parametrize(
    ("name", "projected", "raw", "context"),
    [
        ("RN50-quickgelu", (50, 1024, 1024), (49, 2048, 1024), 77),
        ("RN50x4-quickgelu", (82, 640, 640), (81, 2560, 640), 77),
        ("ViT-B-32-quickgelu", (50, 512, 512), (49, 768, 512), 77),
        ("ViT-L-14-336-quickgelu", (577, 768, 768), (576, 1024, 768), 77),
        ("glyph-clip", (17, 64, 64), (16, 128, 64), 16),
    ],
)
def test_the_shape_of_what_a_backbone_gives(name, projected, raw, context):
    own = {"architecture": GLYPH_CLIP} if name == "glyph-clip" else {}
    for spatial, expected in [("projected", projected), ("raw", raw)]:
        shape = read_shape(named(name, spatial=spatial, **own))
        assert shape[:3] == expected
        assert shape.context_length == context
        assert shape.prompt_flops > shape.text_weights > 1e6


def test_the_shape_is_that_of_what_the_backbone_gives(backbone):
    size = backbone.image_size
    pooled, spatial = backbone.encode_images(torch.zeros(1, 3, size, size))
    shape = read_shape(named("glyph-clip", architecture=GLYPH_CLIP))
    assert (*spatial.shape[1:], pooled.shape[1]) == shape[:3]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ({}, 12),
        ({"context_length": 8}, 8),
        ({"no_causal_mask": True}, 77),
        ({"pool_type": "last"}, 77),
    ],
)
def test_a_causal_text_tower_is_reckoned_with_a_prompts_own_tokens_alone(tmp_path, text, tokens):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"embed_dim": 512, "vision_cfg": {}, "text_cfg": text}))
    shape = read_shape(named("mine", architecture=str(path)))
    assert shape.prompt_flops == 4 * 12 * 512**2 * 12 * tokens


def is_foreign(content) -> bool:
    """Whether a tower or the tokenizer is not open_clip's own, or more than two towers."""
    vision, text = content["vision_cfg"], content["text_cfg"]
    keys = {"timm_model_name", "multimodal_cfg", "hf_model_name", "hf_tokenizer_name"}
    return bool(keys & {*content, *vision, *text})


def test_every_model_of_open_clip_is_planned_or_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my.pt").touch()
    config = {
        "datasets": ["digits"], "shots": [1], "seeds": [1], "methods": {"vt_clip": {"heads": 1}},
    }  # fmt: skip
    assert len(KNOWN) > 100
    for name in KNOWN:
        backbone = {"backbone": {"name": name, "pretrained": "my.pt"}}
        content = json.loads(_known_configurations()[name].read_text())
        if is_foreign(content):
            with pytest.raises(ConfigError, match="(?s)found: .*expected: .*write:") as error:
                Plan.read(config | backbone, source="mine.yaml")
            assert str(error.value).startswith(f"mine.yaml: backbone.name: the towers of '{name}'")
        else:
            (shape,) = Plan.read(config | backbone, source="mine.yaml").shapes.values()
            assert shape.dim == content["embed_dim"]
            assert shape.tokens > 1


def test_most_models_of_clips_own_kind_are_planned():
    usable = set()
    for name in KNOWN:
        try:
            read_shape(named(name))
            usable.add(name)
        except ConfigError:
            pass
    assert len(usable) > 40
    assert {"RN50", "RN50x64-quickgelu", "ViT-B-16", "ViT-L-14", "ViT-bigG-14"} <= usable
    assert not {"roberta-ViT-B-32", "coca_ViT-L-14", "ViT-B-16-SigLIP", "convnext_base"} & usable


def test_an_unknown_name_is_told_the_usable_ones():
    with pytest.raises(ConfigError, match=r"Unknown backbone 'ViT-B32'.*Did you mean") as error:
        read_shape(named("ViT-B32"))
    assert "RN50-quickgelu, " in str(error.value)
    assert "SigLIP" not in str(error.value)


# Weights.


def test_the_tags_of_weights_are_those_of_open_clip():
    for name in KNOWN:
        expected = {
            tag: open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False)
            for tag in open_clip.list_pretrained_tags_by_model(name)
        }
        assert _known_tags(name) == expected, name


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("RN50-quickgelu", "openai"),
        ("ViT-B/32-quickgelu", "openai"),  # as OpenAI writes it
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-B-32-quickgelu", "laion400m_e32"),
    ],
)
def test_weights_that_go_with_the_model_are_accepted(name, tag):
    check_weights(named(name, tag))


@pytest.mark.parametrize("name", ["RN50", "RN101", "RN50x4", "ViT-B-32", "ViT-B-16", "ViT-L-14"])
def test_weights_trained_with_quick_gelu_are_refused_in_a_model_with_gelu(name):
    with pytest.raises(ConfigError, match=f"(?s)QuickGELU.*write:\n    name: {name}-quickgelu$"):
        check_weights(named(name, "openai"))


def test_weights_trained_with_gelu_are_none_of_a_model_with_quick_gelu():
    with pytest.raises(ConfigError, match="no such weights of 'ViT-B-32-quickgelu'"):
        check_weights(named("ViT-B-32-quickgelu", "laion2b_s34b_b79k"))


def test_a_file_of_weights_is_looked_for_from_the_working_directory(tmp_path, monkeypatch):
    backbone = named("RN50-quickgelu", "weights/my.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no such file.\n  found:    pretrained: weights/my.pt"):
        check_weights(backbone)
    Path("weights").mkdir()
    Path("weights/my.pt").touch()
    check_weights(backbone)


# Files of one's own.


def test_a_file_of_the_projects_own_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    backbone = named("glyph-clip", architecture=GLYPH_CLIP)
    assert read_content(backbone) == json.loads((ROOT / GLYPH_CLIP).read_text())


def test_a_file_of_the_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = json.loads((ROOT / GLYPH_CLIP).read_text()) | {"embed_dim": 32}
    Path(GLYPH_CLIP).parent.mkdir(parents=True)
    Path(GLYPH_CLIP).write_text(json.dumps(content))
    for path in (GLYPH_CLIP, str(tmp_path / GLYPH_CLIP)):
        assert read_shape(named("glyph-clip", architecture=path)).dim == 32


def test_what_a_file_leaves_out_is_open_clips_default(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"embed_dim": 512, "vision_cfg": {"patch_size": 32}, "text_cfg": {}}')
    found = read_architecture(named("mine", architecture=str(path)))
    vision, text = open_clip.CLIPVisionCfg(patch_size=32), open_clip.CLIPTextCfg()
    for key in ("image_size", "layers", "width", "patch_size", "timm_model_name"):
        assert getattr(found.vision_cfg, key) == getattr(vision, key)
    for key in ("context_length", "vocab_size", "width", "layers", "hf_tokenizer_name"):
        assert getattr(found.text_cfg, key) == getattr(text, key)
    # With OpenAI's text tower, so that only the activation tells the two apart.
    openai = read_shape(named("ViT-B-32-quickgelu"))
    assert read_shape(named("mine", architecture=str(path))) == openai

"""What a backbone gives is read from open_clip's files, and says the same as open_clip."""

import json
from pathlib import Path

import open_clip
import pytest
import torch

from vtclip.backbones.shapes import list_names, read_architecture, read_content, read_shape
from vtclip.config.backbone_config import BackboneConfig
from vtclip.settings import ConfigError

ROOT = Path(__file__).parents[2]
GLYPH_CLIP = "config/backbones/glyph-clip.json"
KNOWN = list_names()


def named(name, pretrained="openai", **keys) -> BackboneConfig:
    return BackboneConfig(name=name, pretrained=pretrained, **keys)


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


def test_every_model_of_open_clip_has_a_shape():
    assert len(KNOWN) > 100
    for name in KNOWN:
        projected, raw = (read_shape(named(name, spatial=kind)) for kind in ("projected", "raw"))
        assert projected.width == projected.dim == raw.dim
        assert projected.tokens - raw.tokens in (0, 1)
        assert raw.tokens >= 16
        assert min(raw.image_flops, raw.image_weights, raw.text_weights) > 1e6


def test_an_unknown_name_is_told_the_usable_ones():
    with pytest.raises(ConfigError, match=r"Unknown backbone 'ViT-B32'.*Did you mean") as error:
        read_shape(named("ViT-B32"))
    assert "RN50-quickgelu, " in str(error.value)


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

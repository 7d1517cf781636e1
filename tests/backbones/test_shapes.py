"""The output of a backbone is read from open_clip's files, and says the same as open_clip."""

import json
from pathlib import Path

import open_clip
import pytest
import torch

from vtclip.backbones.known import list_names, read_content
from vtclip.backbones.measure import measure_model
from vtclip.backbones.shapes import digest_of, read_shape, read_table
from vtclip.config.backbone_config import BackboneConfig

ROOT = Path(__file__).parents[2]
GLYPH_CLIP = "config/backbones/glyph-clip.json"
KNOWN = list_names()
SMALL = {"layers": 1, "width": 64}


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
def test_of_a_causal_text_tower_a_prompts_own_tokens_alone_count(text, tokens):
    config = {"embed_dim": 64, "vision_cfg": {"layers": 1, "width": 64}, "text_cfg": text}
    layers = sum(
        weight.numel() for weight in open_clip.CLIP(64, SMALL, {}).transformer.parameters()
    )
    assert measure_model(config).prompt_flops == 4.0 * layers * tokens


@pytest.mark.parametrize(
    "name", ["RN50-quickgelu", "MobileCLIP2-S0", "ViT-B-16-SigLIP", "coca_ViT-B-32"]
)
def test_the_table_has_what_a_model_has_once_it_is_built(name):
    row = read_table()[name]
    measured = measure_model(open_clip.get_model_config(name))
    assert measured.kind == row.measured.kind
    assert measured[1:] == pytest.approx(row.measured[1:], rel=1e-3), (
        "run python docs/make_shapes.py"
    )
    assert digest_of(open_clip.get_model_config(name)) == row.sha256


def test_the_table_has_every_model_of_open_clip_as_it_is_configured_now():
    digests = {name: digest_of(read_content(named(name))) for name in KNOWN}
    found = {name: row.sha256 for name, row in read_table().items() if name in digests}
    assert found == digests, "run: python docs/make_shapes.py"
    assert {row.measured.kinds for row in read_table().values()} == {("projected", "raw")}


def test_a_custom_architecture_is_measured_once_and_then_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = json.loads((ROOT / GLYPH_CLIP).read_text())
    content["vision_cfg"]["layers"] = 2
    Path("mine.json").write_text(json.dumps(content))
    mine = named("mine", architecture="mine.json")
    measured = read_shape(mine)
    assert measured[:3] == (17, 64, 64)
    (cached,) = Path("resources/backbones/shapes").glob("*.json")
    monkeypatch.setattr("vtclip.backbones.measure.measure_model", None)
    assert read_shape(mine) == measured
    Path("mine.json").write_text(json.dumps({"model_cfg": content}))  # as the hub has it
    assert read_shape(mine) == measured
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    cached.write_text(cached.read_text()[:40])
    assert read_shape(mine) == measured, "a damaged file is measured again"
    for part in ("timm", "code"):
        other = json.loads(cached.read_text())
        other["versions"][part], other["measured"]["places"] = "0.1", 99
        cached.write_text(json.dumps(other))
        assert read_shape(mine) == measured, "another release may build or read other towers"


# Custom architectures.


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


def test_what_a_file_leaves_out_is_open_clips_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.json"
    path.write_text('{"embed_dim": 512, "vision_cfg": {"patch_size": 32}, "text_cfg": {}}')
    # OpenAI's, but for the activation.
    openai = read_shape(named("ViT-B-32-quickgelu"))
    assert read_shape(named("mine", architecture=str(path))) == pytest.approx(openai, rel=1e-3)

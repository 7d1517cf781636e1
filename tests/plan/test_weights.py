"""Weights that a backbone cannot have are refused, with those that it can."""

from pathlib import Path

import open_clip
import pytest

from vtclip.backbones import shapes
from vtclip.backbones.known import list_names
from vtclip.backbones.shapes import list_tags, read_table
from vtclip.config.backbone_config import BackboneConfig
from vtclip.plan.checks import check_weights
from vtclip.settings import ConfigError


def named(name, pretrained="openai", **keys) -> BackboneConfig:
    return BackboneConfig(name=name, pretrained=pretrained, **keys)


def test_the_tags_of_weights_are_those_of_open_clip():
    for name in list_names():
        expected = {
            tag: open_clip.get_pretrained_cfg(name, tag).get("quick_gelu", False)
            for tag in open_clip.list_pretrained_tags_by_model(name)
        }
        assert list_tags(name) == expected, f"{name}: run python docs/make_shapes.py"


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
    with pytest.raises(ConfigError, match=r"no such file: weights/my.pt.\n  found:    pretrained"):
        check_weights(backbone)
    Path("weights").mkdir()
    Path("weights/my.pt").touch()
    check_weights(backbone)


def test_a_tag_of_a_newer_open_clip_than_the_tables_is_known(monkeypatch):
    table = {name: row._replace(tags={}) for name, row in read_table().items()}
    monkeypatch.setattr(shapes, "read_table", lambda: table)
    check_weights(named("ViT-B-32", "laion2b_s34b_b79k"))
    with pytest.raises(ConfigError, match="QuickGELU"):
        check_weights(named("ViT-B-32", "openai"))
    with pytest.raises(ConfigError, match=r"(?s)no such weights.*one of openai"):
        check_weights(named("ViT-B-32", "openaii"))

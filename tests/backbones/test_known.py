"""A model in the hub's form is known by where it lies, before anything is built."""

import json
import sys

import pytest
from huggingface_hub.errors import EntryNotFoundError

from vtclip.backbones.known import find_hub_configuration, find_weights, read_configuration
from vtclip.backbones.shapes import read_shape
from vtclip.config.backbone_config import BackboneConfig
from vtclip.config.experiment import read_experiment
from vtclip.plan.checks import check_weights
from vtclip.settings import ConfigError

CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"width": 32, "layers": 1, "context_length": 8},
}


@pytest.fixture
def folder(tmp_path):
    """A folder in the hub's form; its weights are a few bytes."""
    made = tmp_path / "my-clip"
    made.mkdir()
    (made / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
    (made / "open_clip_model.safetensors").write_bytes(b"weights")
    return made


def test_a_folder_is_planned_like_a_model_of_open_clip(folder):
    backbone = BackboneConfig(name=f"local-dir:{folder}", pretrained="own")
    assert read_shape(backbone)[:3] == (5, 32, 32)
    check_weights(backbone)
    assert backbone.weights_file == str(folder / "open_clip_model.safetensors")
    assert backbone.weights.endswith("-my-clip-own")
    assert "/" not in backbone.folder


def test_a_folder_without_weights_is_refused_by_the_plan(folder):
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ConfigError, match="backbone.pretrained: there is no such file"):
        check_weights(BackboneConfig(name=f"local-dir:{folder}", pretrained="own"))


def test_a_users_weights_go_with_a_folders_configuration(folder, tmp_path):
    backbone = BackboneConfig(name=f"local-dir:{folder}", pretrained=str(tmp_path / "mine.pt"))
    assert backbone.weights_file == str(tmp_path / "mine.pt")
    assert backbone.weights.endswith("-my-clip-mine")


@pytest.mark.parametrize("name", ["hf-hub:", "local-dir:", "hub:x/y", "hf-hub:../x", "a:b"])
def test_other_words_before_a_colon_are_no_names(name):
    config = {"backbone": {"name": name, "pretrained": "own"}}
    with pytest.raises(ConfigError, match="backbone.name"):
        read_experiment(config, source="mine.yaml")


def test_safetensors_go_before_other_weights(folder):
    (folder / "open_clip_pytorch_model.bin").write_bytes(b"weights")
    assert find_weights(f"local-dir:{folder}").suffix == ".safetensors"


def test_files_of_the_hub_are_taken_from_its_cache_without_the_internet(
    folder, tmp_path, monkeypatch
):
    cached = {"open_clip_config.json", "open_clip_model.safetensors"}

    def find(model, file):
        assert model == "org/my-clip"
        return str(folder / file) if file in cached else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", find)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
    name = "hf-hub:org/my-clip"
    assert read_configuration(find_hub_configuration(name))["model_cfg"] == CONFIG
    assert find_weights(name) == folder / "open_clip_model.safetensors"
    backbone = BackboneConfig(name=name, pretrained="own")
    check_weights(backbone)
    assert backbone.weights_file is None
    assert backbone.weights == "hf-hub-org-my-clip-own"
    assert read_shape(backbone)[:3] == (5, 32, 32)


def test_the_first_file_of_weights_that_the_hub_has_is_downloaded(folder, monkeypatch):
    def download(model, file):
        if "safetensors" in file:
            raise EntryNotFoundError("404")
        return str(folder / file)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert find_weights("hf-hub:org/my-clip") == folder / "open_clip_pytorch_model.bin"


def test_a_hub_that_cannot_be_reached_is_an_error_with_the_reason(monkeypatch):
    def fail(model, file):
        raise ConnectionError("the network is away\nand more")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    expected = "cannot be downloaded from the hub: the network is away\n"
    with pytest.raises(ConfigError, match=expected):
        find_hub_configuration("hf-hub:org/my-clip")


def test_a_model_that_is_not_on_the_hub_does_without_the_hubs_library(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    read_configuration(find_hub_configuration(f"local-dir:{folder}"))

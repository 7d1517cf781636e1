import json
from collections import OrderedDict
from pathlib import Path

import pytest
import yaml

from vtclip.config.backbone_config import BackboneConfig
from vtclip.config.experiment import Views, read_experiment, save_config
from vtclip.paths import ALL
from vtclip.settings import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config() -> dict:
    return yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())


def refused(config) -> str:
    with pytest.raises(ConfigError) as error:
        read_experiment(config, source="demo.yaml")
    return str(error.value)


def test_the_demo_configuration_is_accepted(config):
    experiment = read_experiment(config, source="demo.yaml")
    assert experiment.shots == [1, 2, 4, 8, 16]


def test_a_misspelt_key_is_named_with_the_key_that_was_meant(config):
    config["shot"] = config.pop("shots")
    message = refused(config)
    assert "demo.yaml: shot: there is no such key" in message
    assert "shots: [1, 2, 4, 8, 16]" in message


def test_a_wrong_value_is_shown_with_what_is_expected_and_the_lines_to_write(config):
    config["seeds"] = [1, "two"]
    message = refused(config)
    assert "seeds.1" in message
    assert "found:    seeds: [1, two]" in message
    assert "expected: whole numbers, 0 to 2147483647, each once" in message
    assert "seeds: [1, 2, 3]" in message


def test_a_missing_key_is_named(config):
    del config["backbone"]["pretrained"]
    assert "backbone.pretrained" in refused(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [("shots", []), ("shots", [0]), ("seeds", [1, 1]), ("datasets", []), ("device", "gpu")],
)
def test_values_out_of_range_are_refused_by_name(config, key, value):
    config[key] = value
    assert f"demo.yaml: {key}" in refused(config)


@pytest.mark.parametrize(
    ("written", "read"), [([1, 4, "all"], [1, 4, ALL]), ("all", [ALL]), (["all"], [ALL])]
)
def test_all_is_a_number_of_shots(config, written, read):
    config["shots"] = written
    config["ablation"] = {"shots": written}
    experiment = read_experiment(config, source="demo.yaml")
    assert experiment.shots == experiment.ablation.shots == read


@pytest.mark.parametrize(
    ("written", "part"),
    [
        (["all", 1, "all"], "'all' is named twice"),
        (["many"], "found:    shots: [many]"),
        (16, "16"),
    ],
)
def test_a_wrong_number_of_shots_is_refused_with_what_is_expected(config, written, part):
    config["shots"] = written
    message = refused(config)
    for expected in ("demo.yaml: shots", part, "or `all` of each class", "write:\n    shots: ["):
        assert expected in message


@pytest.mark.parametrize("number", [-1, 100_000_000])
def test_more_views_than_a_disk_has_room_for_are_refused(config, number):
    with pytest.raises(ConfigError, match="(?s)views.number: .* 0 to 10000"):
        read_experiment(config | {"views": {"number": number}}, source="mine.yaml")


def test_all_wrong_keys_are_named_at_once(config):
    config["shots"], config["device"] = "many", "gpu"
    message = refused(config)
    assert "shots" in message
    assert "device" in message


@pytest.mark.parametrize(
    ("backbone", "weights", "folder"),
    [
        ({}, "RN50-quickgelu-openai", "RN50-quickgelu-openai"),
        ({"name": "ViT-B/32"}, "ViT-B-32-openai", "ViT-B-32-openai"),
        ({"spatial": "raw"}, "RN50-quickgelu-openai", "RN50-quickgelu-openai-raw"),
        ({"precision": "float16"}, "RN50-quickgelu-openai", "RN50-quickgelu-openai-float16"),
        ({"pretrained": "my.pt"}, "RN50-quickgelu-my", "RN50-quickgelu-my"),
        ({"pretrained": "/data/w/my.v2.safetensors"},) + ("RN50-quickgelu-my.v2",) * 2,
        ({"pretrained": "w/my.pt", "weights_key": "model_ema"},)
        + ("RN50-quickgelu-my-model_ema",) * 2,
        ({"pretrained": "w/my.safetensors.index.json"},) + ("RN50-quickgelu-my",) * 2,
        ({"pretrained": "weights/checkpoint"},) + ("RN50-quickgelu-checkpoint",) * 2,
        ({"pretrained": "a {shots} ü (1).pt"},) + ("RN50-quickgelu-a-shots-1-",) * 2,
    ],
)
def test_the_folder_of_a_backbone_names_model_and_weights(backbone, weights, folder):
    found = BackboneConfig(**{"name": "RN50-quickgelu", "pretrained": "openai"} | backbone)
    assert (found.weights, found.folder) == (weights, folder)


@pytest.mark.parametrize("pretrained", ["openai", "glyphs", "laion2b_s34b_b79k"])
def test_a_tag_is_no_file(pretrained):
    assert BackboneConfig(name="RN50", pretrained=pretrained).weights_file is None


def test_backbone_comes_before_backbones_and_each_is_used_once(config):
    first, second = config["backbone"], {"name": "RN50", "pretrained": "my.pt"}
    config["backbones"] = [second, first, second]
    found = read_experiment(config, source="demo.yaml").all_backbones
    assert [backbone.name for backbone in found] == ["glyph-clip", "RN50"]
    config["backbone"] = None
    found = read_experiment(config, source="demo.yaml").all_backbones
    assert [backbone.name for backbone in found] == ["RN50", "glyph-clip"]


def test_a_wrong_backbone_is_named_once_and_not_called_missing(config):
    config["backbone"] = {"name": "RN50"}
    assert refused(config).count("demo.yaml: ") == 1


@pytest.mark.parametrize(
    ("views", "folder"),
    [
        (Views(), "4crops-0.5-1.0-flip"),
        (Views(number=0, scale=(1, 1), flip=False), "0crops-1.0-1.0"),
        (Views(scale=(1e-3, 0.75)), "4crops-0.001-0.75-flip"),
    ],
)
def test_the_folder_of_views_names_them(views, folder):
    assert views.folder == folder


def test_the_configuration_that_is_saved_reads_as_it_was(config, tmp_path):
    config["mirror"] = "/data/Käthe"
    save_config(config, tmp_path / "results" / "config.yaml")
    assert yaml.safe_load((tmp_path / "results" / "config.yaml").read_text("utf-8")) == config


def test_a_configuration_in_json_is_saved_too(config, tmp_path):
    """Snakemake reads JSON into ordered mappings."""
    config["methods"]["vt_clip"]["epochs"] = {"1": 50}  # JSON has no other keys
    ordered = json.loads(json.dumps(config), object_pairs_hook=OrderedDict)
    save_config(ordered, tmp_path / "config.yaml")
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == config
    assert read_experiment(ordered, source="demo.json").name == "demo"


def test_the_first_file_gives_the_name_where_the_configuration_has_none(config):
    files = ["config/first.yaml", "a, b/second.yaml"]
    assert read_experiment(config, source=files).name == "first"
    assert read_experiment(config | {"name": "mine"}, source=files).name == "mine"


def test_a_file_whose_name_cannot_name_results_is_refused(config):
    with pytest.raises(ConfigError, match=r"(?s)^config/my,paper.yaml: name: .*found:.*my,paper"):
        read_experiment(config, source="config/my,paper.yaml")


def test_a_second_file_of_the_same_name_needs_a_name_for_its_results(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ["config/a/x.yaml", "config/b/x.yaml"]
    for file in map(Path, files):
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump(config))
        assert read_experiment(config, source=str(file)).name == "x"
    save_config(config | {"name": "x"}, "results/x/config.yaml", files=files[:1])
    assert read_experiment(config, source=[files[0], "config/more.yaml"]).name == "x"
    with pytest.raises(ConfigError, match=r"(?s)^config/b/x.yaml: name: .*config/a/x.yaml.*write:"):
        read_experiment(config, source=files[1])
    assert read_experiment(config | {"name": "x"}, source=files[1]).name == "x"
    Path(files[0]).unlink()
    assert read_experiment(config, source=files[1]).name == "x", "a file that was moved"

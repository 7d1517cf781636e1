from pathlib import Path

import pytest
import yaml

from vtclip.dataset import read_dataset
from vtclip.experiment import read_experiment
from vtclip.methods import check_methods
from vtclip.settings import ConfigError

ROOT = Path(__file__).parents[1]


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
    assert "found:    1: two" in message
    assert "expected: whole numbers, 0 or more, each once" in message
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


def test_all_wrong_keys_are_told_at_once(config):
    config["shots"], config["device"] = "many", "gpu"
    message = refused(config)
    assert "shots" in message
    assert "device" in message


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"Unknown method 'vtclip'; known: .*vt_clip.*Did you"):
        check_methods({"vtclip": None}, source="demo.yaml")


def test_an_unknown_setting_of_a_method_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"methods\.vt_clip: learn_rate: .*learning_rate"):
        check_methods({"vt_clip": {"learn_rate": 0.1}}, source="demo.yaml")


def test_a_setting_out_of_range_is_refused():
    with pytest.raises(ConfigError, match=r"methods\.vt_clip: heads"):
        check_methods({"vt_clip": {"heads": 0}}, source="demo.yaml")


def test_an_unknown_dataset_is_refused_with_the_close_name():
    with pytest.raises(ConfigError, match="Unknown dataset 'digit'.*Did you mean 'digits'"):
        read_dataset("digit", ROOT / "config" / "datasets")


def test_a_template_without_a_place_for_the_name_is_refused(tmp_path):
    content = yaml.safe_load((ROOT / "config" / "datasets" / "digits.yaml").read_text())
    content["templates"] = ["a photo"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match="no place for the class name"):
        read_dataset("mine", tmp_path)


def test_a_dataset_file_that_is_no_yaml_is_an_error_that_names_it(tmp_path):
    (tmp_path / "mine.yaml").write_text("title: [")
    with pytest.raises(ConfigError, match=r"mine\.yaml: not readable as YAML"):
        read_dataset("mine", tmp_path)


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "datasets").glob("*.yaml")), ids=str)
def test_every_dataset_file_is_accepted(path):
    assert read_dataset(path.stem, path.parent).title

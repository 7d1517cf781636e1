from pathlib import Path

import pytest
import yaml

from vtclip.config.experiment import read_experiment
from vtclip.plan.variants import list_variants
from vtclip.settings import ConfigError

CONFIG = Path(__file__).parents[2] / "config"


def variants(**ablation):
    config = yaml.safe_load((CONFIG / "demo.yaml").read_text()) | {"ablation": ablation}
    listed = list_variants(read_experiment(config, source="mine.yaml"), source="mine.yaml")
    assert listed[0].label == "as configured"
    return {variant.name: variant for variant in listed[1:]}


def refused(**ablation) -> str:
    with pytest.raises(ConfigError) as error:
        variants(**ablation)
    return str(error.value)


def test_the_ablation_that_comes_with_the_project_is_accepted():
    ablation = yaml.safe_load((CONFIG / "ablation.yaml").read_text())["ablation"]
    assert len(variants(**ablation)) > 10


def test_one_at_a_time_changes_one_setting():
    found = variants(one_at_a_time={"heads": [1, 4], "self_attention": [False]})
    assert list(found) == ["vt_clip@heads=1", "vt_clip@heads=4", "vt_clip@self_attention=false"]
    one = found["vt_clip@heads=1"]
    assert (one.settings.heads, one.settings.weight_decay, one.label) == (1, 3.0, "heads: 1")


def test_texts_in_other_letters_have_names_of_their_own():
    config = yaml.safe_load((CONFIG / "demo.yaml").read_text()) | {"methods": {"kgcoop": None}}
    config["ablation"] = {"method": "kgcoop", "one_at_a_time": {"template": ["é {}", "日 {}"]}}
    listed = list_variants(read_experiment(config, source="mine.yaml"), source="mine.yaml")
    names = ["kgcoop", "kgcoop@template=xE9", "kgcoop@template=u65E5"]
    assert [variant.name for variant in listed] == names
    assert listed[1].label == "template: é {}"


def test_crossed_settings_give_every_combination():
    found = variants(crossed={"optimiser": ["sgd", "adamw"], "learning_rate": [0.1, 0.01]})
    assert [variant.label for variant in found.values()] == [
        "optimiser: sgd, learning_rate: 0.1",
        "optimiser: sgd, learning_rate: 0.01",
        "optimiser: adamw, learning_rate: 0.1",
        "optimiser: adamw, learning_rate: 0.01",
    ]


def test_the_kind_of_spatial_features_can_be_varied():
    (variant,) = variants(one_at_a_time={"spatial": ["raw"]}).values()
    assert variant.spatial == "raw"
    assert variant.settings.weight_decay == 3.0


def test_a_variants_name_is_one_part_of_a_path():
    (name,) = variants(one_at_a_time={"epochs": [{1: 50, 2: 90}]})
    assert name == "vt_clip@epochs=1-50-2-90"


@pytest.mark.parametrize(
    ("ablation", "parts"),
    [
        (
            {"one_at_a_time": {"head": [1]}},
            ["ablation.one_at_a_time: head", "write:", "heads: [1]"],
        ),
        (
            {"crossed": {"heads": [0]}},
            ["ablation.crossed: heads", "found:    heads: 0"],
        ),
        ({"one_at_a_time": {"heads": 4}}, ["found:    heads: 4", "one_at_a_time: {heads: [4]}"]),
        ({"one_at_a_time": {"norm": []}}, ["one_at_a_time.norm", "found:    norm: []"]),
        ({"method": "coop", "one_at_a_time": {"heads": [1]}}, ["method", "coop", "vt_clip"]),
        ({"shots": [3], "one_at_a_time": {"heads": [1]}}, ["shots", "has no 3", "1, 2, 4, 8, 16"]),
        ({"seeds": [9], "one_at_a_time": {"heads": [1]}}, ["seeds", "has no 9", "1, 2, 3"]),
        (
            {"one_at_a_time": {"spatial": ["cooked"]}},
            ["found:    spatial: cooked", "projected or raw", "    spatial: [raw]"],
        ),
        ({"one_at_a_time": {"heads": [1, 1]}}, ["heads: 1 is named twice"]),
        (
            {"one_at_a_time": {"residual_weight": [0.5, 0.50]}},
            ["residual_weight: 0.5 is named twice"],
        ),
        ({"one_at_a_time": {"blocks": [2, 2.0]}}, ["is named twice", "blocks: 2 and blocks: 2.0"]),
        ({"shots": [1, 1], "one_at_a_time": {"heads": [1]}}, ["shots", "1 is named twice"]),
        ({"one_at_a_time": {"heads": [7]}}, ["heads", "divisor of 64, such as 2, 4, 8"]),
        ({"one_at_a_time": {"heads": [8]}}, ["nothing is varied"]),
        ({}, ["nothing is varied", "one_at_a_time: {heads: [1, 4]}"]),
    ],
)
def test_what_cannot_be_varied_is_refused_with_what_to_write(ablation, parts):
    message = refused(**ablation)
    assert "mine.yaml: ablation" in message
    for part in parts:
        assert part in message


def test_a_variant_that_is_the_method_as_configured_is_not_trained_again():
    found = variants(one_at_a_time={"heads": [8, 4], "spatial": ["projected"]})
    assert [name for name, variant in found.items() if variant.as_configured] == ["vt_clip"]
    assert not found["vt_clip@heads=4"].as_configured

"""A method that reads pooled features before their projection has feature files of its own."""

import pytest

from tests.plan.conftest import GLYPHS, job, planned, training
from vtclip.backbones.known import list_names
from vtclip.settings import ConfigError

OWN = f"{GLYPHS}-unprojected"


def test_its_features_and_heads_lie_beside_the_others_and_its_rows_have_the_backbones_name(demo):
    methods = {"zero_shot": None, "tip_adapter": None}
    before = planned(demo, methods=methods)
    plan = planned(demo, methods=methods | {"prolip": None})
    (run, *_) = (run for run in plan.index() if run.method == "prolip")
    assert run.backbone == GLYPHS
    assert run.head.startswith(f"results/demo/heads/{OWN}/digits/prolip/1shot")
    assert run.texts == f"results/features/{OWN}/digits/texts.parquet"
    inputs = training(plan, run).inputs
    assert inputs["features"].startswith(f"results/features/{OWN}/digits/")
    assert inputs["weights"] == f"resources/backbones/{GLYPHS}.safetensors"
    others = [run for run in plan.index() if run.method != "prolip"]
    assert others == list(before.index())
    assert plan.fetched_weights == before.fetched_weights
    assert plan.made_weights == before.made_weights


def test_without_such_a_method_there_are_no_such_features(demo):
    assert OWN not in planned(demo).backbones


def test_its_extraction_is_planned_with_one_vector_as_wide_as_the_tower(paper):
    plan = planned(paper, "config/config.yaml", methods={"prolip": None})
    shape = plan.shapes["RN50-quickgelu-openai-unprojected"]
    assert (shape.tokens, shape.width, shape.dim) == (1, 2048, 1024)
    test = job(plan, "extract_test", "RN50-quickgelu-openai-unprojected", "dtd", "test")
    assert test.params["backbone"]["spatial"] == "unprojected"


def test_it_is_tested_on_other_datasets_and_new_classes(demo):
    for changes in ({"tests": "crossed"}, {"classes": "base"}):
        plan = planned(demo, methods={"prolip": None}, **changes)
        assert all(run.predictions and not run.reason for run in plan.test_runs)


@pytest.mark.parametrize("name", ["RN50", "ViT-B-16-quickgelu", "convnext_base"])
def test_towers_that_end_in_a_linear_map_are_planned(demo, here, name):
    (here / "mine.pt").touch()
    backbone = {"name": name, "pretrained": "mine.pt"}
    assert name in list_names()
    planned(demo, backbone=backbone, methods={"prolip": None})


@pytest.mark.parametrize("name", ["EVA02-B-16", "convnext_large_d"])
def test_towers_that_end_otherwise_are_refused_with_the_reason(demo, here, name):
    (here / "mine.pt").touch()
    backbone = {"name": name, "pretrained": "mine.pt"}
    with pytest.raises(ConfigError, match="does not end in one linear map"):
        planned(demo, backbone=backbone, methods={"prolip": None})

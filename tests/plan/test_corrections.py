"""Every correction that an error prints is parsed, written where the error says, and planned."""

import ast
import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.plan.conftest import ARCHITECTURE, planned
from vtclip.files import write_json
from vtclip.paths import ExperimentPaths, receipt_of
from vtclip.settings import ConfigError

PACKAGE = Path(__file__).parents[2] / "vtclip"
FOLDER = {"title": "Pets", "layout": "folders", "folder": "pets"}
GLYPHS = {"name": "glyph-clip", "pretrained": "glyphs", "architecture": str(ARCHITECTURE)}
RN50 = {"name": "RN50-quickgelu", "pretrained": "openai"}
# Functions that print corrections for commands and jobs, which have no plan to try them with.
NOT_PLANNED = {"check_spatial", "check_tower", "_check_lengths", "_list_values"}


def list_corrections(message: str) -> list[dict[str, Any]]:
    """List what each paragraph says to write."""
    blocks: list[str] = []
    inside = False
    for line in message.splitlines():
        inside = line == "  write:" or (inside and line.startswith("    "))
        if line == "  write:":
            blocks.append("")
        elif inside:
            blocks[-1] += f"{line.removeprefix('    ')}\n"
    return [yaml.safe_load(block) for block in blocks]


def find_inside(values: Any, way: tuple[Any, ...]) -> Any:
    for key in way:
        values = values[key]
    return values


@pytest.fixture
def files(here):
    """A folder of class folders, a dataset's file without its suffix's usual form, a record."""
    (here / "picks.csv").write_text("image,label,split\n0.png,0,train\n")
    for name in ("cat", "dog", "no", "2024"):
        (here / "pets" / name).mkdir(parents=True)
        for image in range(12):
            (here / "pets" / name / f"{image}.jpg").touch()
    for name in ("2024", "yes", "pets"):
        file = here / "config" / "datasets" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(FOLDER))
    return here


# The wrong keys of a configuration, and the keys that lead to the mapping with the line to write.
CONFIGS: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({"datasets": [2024]}, ()),
    ({"datasets": ["pets", 2024]}, ()),
    ({"datasets": [True]}, ()),
    ({"datasets": 2024}, ()),
    ({"datasets": "digits"}, ()),
    ({"datasets": []}, ()),
    ({"datasets": None}, ()),
    ({"tests": {"digits": "letters"}}, ()),
    ({"tests": {"digits": [2024]}}, ()),
    ({"tests": {"digits": True}}, ()),
    ({"shots": 16}, ()),
    ({"shots": [True]}, ()),
    ({"shots": [2**31 - 1]}, ()),
    ({"shots": ["many"]}, ()),
    ({"shots": {"min": 1, "max": 4}, "picks": "picks.csv"}, ()),
    (
        {"picks": "picks.csv", "datasets": ["digits"], "shots": [1], "seeds": [1],
         "methods": {"tip_adapter": None}},
        (),
    ),
    ({"seeds": 1}, ()),
    ({"seeds": [1.5]}, ()),
    ({"seeds": {"a": 1}}, ()),
    ({"texts": {"descriptions": "cupl"}, "datasets": ["eurosat"]}, ()),
    ({"views": 4}, ()),
    ({"views": {"number": True}}, ("views",)),
    ({"views": {"scale": 0.5}}, ("views",)),
    ({"views": {"scale": [0.9, 0.5]}}, ("views",)),
    ({"views": {"flip": "maybe"}}, ("views",)),
    ({"views": {"made_on": "gpu"}}, ("views",)),
    ({"methods": ["vt_clip"]}, ()),
    ({"methods": {"vt_clip": 3}}, ()),
    ({"methods": {}}, ()),
    ({"methods": {True: None}}, ()),
    ({"methods": {"vt_clip": {"heads": 7}}}, ("methods", "vt_clip")),
    ({"methods": {"vt_clip": {"heads": "many"}}}, ("methods", "vt_clip")),
    ({"methods": {"vt_clip": {"feed_forward": 1e-9}}}, ("methods", "vt_clip")),
    ({"methods": {"vt_clip": {"epochs": {"1": "x"}}}}, ("methods", "vt_clip")),
    ({"methods": {"vt_clip": {"epochs_of": {"imagenet": True}}}}, ("methods", "vt_clip")),
    ({"methods": {"vt_clip": {"learning_rate": 0}}}, ("methods", "vt_clip")),
    ({"methods": {"vt_clip": {"self_attention": "x"}}}, ("methods", "vt_clip")),
    ({"methods": {"coop": {"words": "a " * 13}}}, ("methods", "coop")),
    ({"methods": {"coop": None}}, ("methods", "coop")),
    ({"methods": {"proker": {"beta": 1}}}, ("methods", "proker")),
    ({"methods": {"proker": {"beta": []}}}, ("methods", "proker")),
    ({"methods": {"vt_clip": {"select": "val"}}, "choose": "none"}, ("methods", "vt_clip")),
    ({"methods": {"linear_probe": None}, "choose": "none"}, ()),
    ({"choose": "test"}, ()),
    ({"shots": "all", "methods": {"tip_adapter": None}, "datasets": ["unvalidated"]}, ()),
    ({"device": "mps"}, ()),
    ({"device": "gpu"}, ()),
    ({"name": "shots"}, ()),
    ({"name": 2024}, ()),
    ({"slots_per_gpu": 0}, ()),
    ({"backbone": "RN50"}, ()),
    ({"backbone": {"name": "RN50-quickgelu", "pretrained": "OpenAI"}}, ("backbone",)),
    ({"backbone": {"name": "RN50", "pretrained": "OpenAI"}}, ("backbone",)),
    ({"backbone": {"name": "RN50", "pretrained": "openai"}}, ("backbone",)),
    ({"backbone": RN50 | {"precision": "half"}}, ("backbone",)),
    ({"backbone": {"name": "RN50-quickgelu", "pretrained": "glyphs"}}, ("backbone",)),
    ({"backbone": {"name": "convnext_base", "pretrained": "laion400m_s13b_b51k",
                   "spatial": "pooled"}}, ("backbone",)),
    ({"backbones": RN50}, ()),
    ({"classes": "new"}, ()),
    ({"ablation": {"one_at_a_time": {"heads": 4}}}, ("ablation",)),
    ({"ablation": {"one_at_a_time": {"heads": [5]}}}, ("ablation", "one_at_a_time")),
    ({"ablation": {"one_at_a_time": {"spatial": ["cooked"]}}}, ("ablation", "one_at_a_time")),
    ({"ablation": {}}, ("ablation",)),
    ({"ablation": {"shots": 1, "one_at_a_time": {"heads": [1]}}}, ("ablation",)),
]  # fmt: skip
# The wrong keys of a dataset's file.
DATASETS: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({"class_names": {"cat": False}}, ()),
    ({"class_names": {"cat": 2024}}, ()),
    ({"class_names": {"cat": None}}, ()),
    ({"class_names": {False: "cat"}}, ()),
    ({"class_names": {2024: "cat"}}, ()),
    ({"templates": ["a photo"]}, ()),
    ({"templates": "a photo of a {}."}, ()),
    ({"templates": [True]}, ()),
    ({"templates": []}, ()),
    ({"title": 2024}, ()),
    ({"title": ""}, ()),
    ({"title": None}, ()),
    ({"layout": "folder"}, ()),
    ({"leave_out": "cat/1.jpg"}, ()),
    ({"leave_out": [2024]}, ()),
    ({"fractions": {"train": 0.9, "val": 0.5}}, ()),
    ({"fractions": {"train": True}}, ("fractions",)),
    ({"class_names": {"cat": ["cat"]}}, ()),
    ({"licence": 4.0}, ()),
]


def refused(config: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        planned(config, "mine.yaml")
    reached.update(list_functions(error.value))
    return str(error.value)


reached: set[str] = set()


def list_functions(error: BaseException | None) -> set[str]:
    """The functions that an error came through, and those that it was made from."""
    names = set()
    while error is not None:
        frame = error.__traceback__
        while frame is not None:
            names.add(frame.tb_frame.f_code.co_name)
            frame = frame.tb_next
        error = error.__context__
    return names


@pytest.mark.parametrize(("wrong", "way"), CONFIGS, ids=str)
def test_what_an_error_says_to_write_in_a_configuration_is_planned(
    demo, files, own_dataset, wrong, way
):
    own_dataset("unvalidated", "digits", counts={"train": 99, "val": 0, "test": 9, "classes": 10})
    config = copy.deepcopy(demo) | copy.deepcopy(wrong)
    corrections = list_corrections(refused(config))
    assert corrections, refused(config)
    for written in corrections:
        parent = find_inside(config, way[:-1])
        if way and parent[way[-1]] is None:
            parent[way[-1]] = {}
        find_inside(config, way).update(written)
    planned(config, "mine.yaml")


@pytest.mark.parametrize(("wrong", "way"), DATASETS, ids=str)
def test_what_an_error_says_to_write_in_a_datasets_file_is_planned(demo, files, wrong, way):
    file = files / "config" / "datasets" / "pets.yaml"
    content = FOLDER | copy.deepcopy(wrong)
    file.write_text(yaml.safe_dump(content))
    config = demo | {"datasets": ["pets"]}
    corrections = list_corrections(refused(config))
    assert corrections, refused(config)
    for written in corrections:
        find_inside(content, way).update(written)
    file.write_text(yaml.safe_dump(content))
    planned(config, "mine.yaml")


def test_a_dataset_that_only_tests_is_planned_as_the_error_says(demo, imagenet, here):
    for archive in ("imagenet-a.tar",):
        path = here / "resources" / "archives" / "imagenet_a" / archive
        path.parent.mkdir(parents=True)
        path.touch()
    config = demo | {"datasets": ["imagenet_a"]}
    (written,) = list_corrections(refused(config))
    assert planned(config | written, "mine.yaml").trained == ["imagenet"]


def test_a_tower_without_projected_features_is_planned_as_the_error_says(demo, here):
    tower = {"image_size": 32, "timm_model_name": "test_resnet", "timm_pool": "max"}
    architecture = json.loads(ARCHITECTURE.read_text()) | {"vision_cfg": tower}
    (here / "mine.json").write_text(json.dumps(architecture))
    (here / "mine.pt").touch()
    backbone = {"name": "mine", "architecture": "mine.json", "pretrained": "mine.pt"}
    config = demo | {"backbone": backbone, "methods": {"zero_shot": None}}
    (written,) = list_corrections(refused(config))
    planned(config | {"backbone": backbone | written})


@pytest.mark.parametrize("name", ["mine", "mine.yml"])
def test_a_datasets_file_of_another_suffix_is_found(demo, files, name):
    file = files / "config" / "datasets" / "mine.yml"
    file.write_text(yaml.safe_dump(FOLDER))
    message = refused(demo | {"datasets": [name]})
    assert "mine.yml is no dataset's file: rename it to mine.yaml, and write mine." in message
    file.rename(file.with_suffix(".yaml"))
    planned(demo | {"datasets": ["mine"]})


@pytest.mark.parametrize("name", ["Digits", "DIGITS", "digits.yaml", "config/datasets/digits.yml"])
def test_a_dataset_in_another_spelling_is_suggested(demo, name):
    assert "Did you mean 'digits'?" in refused(demo | {"datasets": [name]})


def test_two_files_of_one_name_are_planned_with_the_name_that_the_error_says(demo, here):
    for place in ("a", "b"):
        (here / place).mkdir()
        (here / place / "mine.yaml").write_text("{}")
    record = receipt_of(ExperimentPaths("mine").config)
    Path(record).parent.mkdir(parents=True)
    write_json(record, {"files": ["a/mine.yaml"]})
    with pytest.raises(ConfigError) as error:
        planned(demo, "b/mine.yaml")
    reached.update(list_functions(error.value))
    (written,) = list_corrections(str(error.value))
    planned(demo | written, "b/mine.yaml")


def test_every_function_that_prints_a_correction_has_been_tried():
    printing = {
        function.name
        for file in PACKAGE.rglob("*.py")
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef) and _prints_correction(function)
    }
    assert printing - NOT_PLANNED - {"refusal", "misfit", "_explain"} <= reached


def _prints_correction(function: ast.FunctionDef) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.keyword) and node.arg == "write":
            return True
        if isinstance(node, ast.Constant) and "write:\n" in str(node.value):
            return True
    return False

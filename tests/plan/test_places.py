"""A user's file that the workflow writes too: Snakemake would delete it before making it."""

import json
from pathlib import Path

import pytest

from tests.plan.conftest import ARCHITECTURE, planned, weights
from vtclip.paths import IMAGES_RECEIPT
from vtclip.plan import Plan
from vtclip.settings import ConfigError

OPENAI = {"name": "RN50-quickgelu", "pretrained": "openai"}


@pytest.fixture
def touch(here):
    """Makes a file in the working directory, and gives its path as a configuration has it."""

    def make(path: str, content: str = "mine") -> str:
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).write_text(content)
        return path

    return make


def refused(config, **changes) -> str:
    with pytest.raises(ConfigError) as error:
        planned(config, "mine.yaml", **changes)
    message = str(error.value)
    assert "the workflow itself writes there" in message
    assert "move it to another place" in message
    return message


def test_a_users_weights_where_those_of_another_backbone_are_fetched_to_are_refused(demo, touch):
    path = touch("resources/backbones/RN50-quickgelu-openai.safetensors")
    for written in (path, f"./{path}", f"config/../{path}"):
        touch("config/file")
        mine = {"name": "RN50-quickgelu", "pretrained": written}
        message = refused(demo, backbone=OPENAI, backbones=[mine])
        assert "mine.yaml: backbone.pretrained: " in message
        assert f"found:    {written}, and the workflow writes {path}" in message
    planned(demo, backbone=mine)  # alone, nothing is fetched to there


def test_a_users_weights_where_the_workflow_trains_its_own_are_refused(demo, touch):
    path = touch("resources/backbones/glyph-clip-glyphs.safetensors")
    other = demo["backbone"] | {"pretrained": path}
    assert path in refused(demo, backbones=[other])


def test_a_link_to_what_the_workflow_writes_is_refused(demo, touch, here):
    path = touch("resources/backbones/RN50-quickgelu-openai.safetensors")
    (here / "link.safetensors").symlink_to(path)
    mine = {"name": "RN50-quickgelu", "pretrained": "link.safetensors"}
    assert "found:    link.safetensors" in refused(demo, backbone=OPENAI, backbones=[mine])


def test_weights_named_by_the_folder_that_resources_is_a_link_to_are_refused(demo, here):
    (here / "disk" / "backbones").mkdir(parents=True)
    (here / "resources").symlink_to("disk")
    path = here / "disk/backbones/RN50-quickgelu-openai.safetensors"
    path.write_text("mine")
    mine = {"name": "RN50-quickgelu", "pretrained": str(path)}
    assert f"found:    {path}" in refused(demo, backbone=OPENAI, backbones=[mine])


def test_weights_beside_those_that_the_workflow_writes_are_accepted(demo, touch):
    path = touch("resources/backbones/RN50-quickgelu.safetensors")
    plan = planned(demo, backbone={"name": "RN50-quickgelu", "pretrained": path})
    assert weights(plan) == ["RN50-quickgelu-RN50-quickgelu"]


def test_an_architecture_where_the_receipt_of_the_weights_goes_is_refused(demo, touch):
    weights = touch("mine.pt")
    file = touch("resources/backbones/clip-mine.json", ARCHITECTURE.read_text())
    mine = {"name": "clip", "pretrained": weights, "architecture": file}
    message = refused(demo, backbone=mine)
    assert "mine.yaml: backbone.architecture: " in message
    assert file in message


def make_classes(folder: Path) -> None:
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)


@pytest.mark.parametrize("folder", ["resources/images/digits", "resources/images/digits/seven"])
def test_a_folder_of_images_that_the_workflow_draws_is_refused(demo, here, own_dataset, folder):
    make_classes(here / folder)
    own_dataset("mine", "digits", layout="folders", folder=folder, drawn=None)
    message = refused(demo, datasets=["digits", "mine"])
    assert "config/datasets/mine.yaml: folder: " in message
    planned(demo, datasets=["mine"])  # nobody draws it


@pytest.mark.parametrize("folder", [".", "resources", "results/features", "results/demo/figures"])
def test_a_folder_of_images_that_contains_results_or_lies_among_them_is_refused(
    demo, here, own_dataset, folder
):
    make_classes(here / folder)
    own_dataset("mine", "digits", layout="folders", folder=folder, drawn=None, levels=1)
    refused(demo, datasets=["digits", "mine"], name="demo")


@pytest.mark.parametrize("mirror", ["/nowhere", "htp://archives.org"])
def test_a_mirror_that_is_not_there_is_refused_while_an_archive_is_missing(paper, here, mirror):
    said = f"mirror: there is no such folder.\n  found:    mirror: {mirror}\n"
    with pytest.raises(ConfigError, match=said):
        planned(paper, datasets=["eurosat"], mirror=mirror)
    receipt = here / IMAGES_RECEIPT.format(dataset="eurosat")
    receipt.parent.mkdir(parents=True)
    receipt.touch()
    planned(paper, datasets=["eurosat"], mirror=mirror)


def test_archives_where_the_images_go_are_refused(paper, here, own_dataset):
    lost = [{"file": "a.zip", "urls": ["file://resources/images/mine/a.zip"]}]
    own_dataset("mine", "eurosat", archives=lost)
    assert "config/datasets/mine.yaml: archives: " in refused(paper, datasets=["mine"])
    (here / "resources/images/eurosat").mkdir(parents=True)
    message = refused(paper, datasets=["eurosat"], mirror="resources/images/eurosat")
    assert "mine.yaml: mirror: " in message
    planned(paper, datasets=["eurosat"], mirror="/")
    planned(paper, datasets=["eurosat"], mirror="https://archives.org")


def test_a_configuration_where_it_is_saved_again_is_refused(demo):
    source = ["config/demo.yaml", "results/demo/config.yaml"]
    with pytest.raises(ConfigError, match=r"^results/demo/config.yaml: .*") as error:
        Plan.read(demo | {"name": "demo"}, source=source)
    assert "copy the configuration to config/" in str(error.value)
    Plan.read(json.loads(json.dumps(demo)) | {"name": "again"}, source=source)

"""A run that cannot be used is refused, with what is wrong."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import NAMES
from vtclip.config.experiment import save_config
from vtclip.files import DamagedError, read_record, write_record
from vtclip.inference import load_classifier
from vtclip.inference.runs import read_saved
from vtclip.inference.saved import SavedError

NAME = "mine/pets/vt_clip/1shot-seed1"
HEADS = Path("results/mine/heads")
RUN = HEADS / "glyph-clip-mine/pets/vt_clip/1shot-seed1"
CONFIG = Path("results/mine/config.yaml")


def change_record(**changed):
    content = read_record(RUN / "run.json")
    write_record(RUN / "run.json", json.loads(json.dumps(content)) | changed)


def rename_backbone():
    content = yaml.safe_load(CONFIG.read_text())
    content["backbone"]["pretrained"] = "other.pt"
    save_config(content, CONFIG)


WRONG = {
    "two backbones": (
        lambda: shutil.copytree(HEADS / "glyph-clip-mine", HEADS / "other"), "is 2 heads",
    ),
    "no texts": (
        lambda: Path("results/features/glyph-clip-mine/pets/texts.parquet").unlink(),
        "texts are not there",
    ),
    "other weights": (
        lambda: change_record(features={"weights_sha256": "c0ffee"}),
        "goes with another backbone than .*texts.parquet",
    ),
    "no configuration": (
        lambda: CONFIG.unlink(), "configuration is not there",
    ),
    "another configuration": (rename_backbone, "none of its backbones is called glyph-clip-mine"),
    "an unknown method": (lambda: change_record(method="magic"), "'magic' is not known here"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_run_that_cannot_be_used_is_refused_with_what_is_wrong(here, wrong):
    change, message = WRONG[wrong]
    change()
    with pytest.raises(SavedError, match=message):
        load_classifier(NAME)


def test_a_configuration_that_was_edited_after_the_run_is_refused_by_name(here):
    CONFIG.write_text(CONFIG.read_text() + "device: cpu\n")
    with pytest.raises(DamagedError, match=r"config\.yaml: the file is damaged.*Delete it"):
        load_classifier(NAME)


def test_a_head_of_the_base_half_of_the_classes_names_these(here):
    folder = HEADS / "glyph-clip-mine"
    shutil.copytree(folder / "pets/zero_shot", folder / "pets@base/zero_shot")
    classifier = load_classifier("mine/pets@base/zero_shot/0shot-seed0")
    assert classifier.class_names == NAMES[:2]
    assert len(classifier.classify("0.png").probabilities) == 2


def test_a_runs_folder_that_was_moved_is_refused_with_the_command_that_moves_heads(here):
    shutil.copytree(RUN, "moved")
    with pytest.raises(SavedError, match="vtclip export HEAD FILE"):
        load_classifier("moved")


def test_a_file_of_weights_that_is_not_there_is_named(here):
    with pytest.raises(SavedError, match=r"none\.pt: there is no such file of weights"):
        load_classifier(NAME, backbone="none.pt")


def test_best_names_the_head_that_the_report_says_to_take(here):
    chosen = {"head": str(RUN / "head.safetensors")}
    write_record(Path("results/mine/best.json"), {"pets": chosen})
    sources = {read_saved(name).source for name in ("mine/best", "mine/pets/best", NAME)}
    assert sources == {RUN}
    write_record(Path("results/mine/best.json"), {"pets": chosen, "cars": chosen})
    with pytest.raises(SavedError, match="expected one of mine/pets/best, mine/cars/best"):
        read_saved("mine/best")
    with pytest.raises(SavedError, match="Did you mean mine/pets/best"):
        read_saved("mine/pets/besst")
    with pytest.raises(SavedError, match=r"There are: mine/pets/best, mine/cars/best, .* more\."):
        read_saved("mine/zzzzzzzzzzzzzz")
    write_record(Path("results/mine/best.json"), {})
    with pytest.raises(SavedError, match="without validation shots there is nothing to choose"):
        read_saved("mine/best")

"""A head that cannot be used is refused, with what is wrong; and so is an image."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import here, made  # noqa: F401 -- fixtures
from vtclip.data.images import PictureError
from vtclip.files import read_record, write_record
from vtclip.inference import load_classifier
from vtclip.inference.saved import SavedError

NAME = "mine/pets/vt_clip/1shot-seed1"
HEADS = Path("results/mine/heads")
RUN = HEADS / "glyph-clip-mine/pets/vt_clip/1shot-seed1"


def change_record(**changed):
    content = read_record(RUN / "run.json")
    write_record(RUN / "run.json", json.loads(json.dumps(content)) | changed)


def rename_backbone():
    config = Path("results/mine/config.yaml")
    config.write_text(config.read_text().replace("mine.pt", "other.pt"))


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
        lambda: Path("results/mine/config.yaml").unlink(), "configuration is not there",
    ),
    "another configuration": (rename_backbone, "none of its backbones is called glyph-clip-mine"),
    "an unknown method": (lambda: change_record(method="magic"), "'magic' is not known here"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_a_run_that_cannot_be_used_is_refused_with_what_is_wrong(here, wrong):  # noqa: F811
    change, message = WRONG[wrong]
    change()
    with pytest.raises(SavedError, match=message):
        load_classifier(NAME)


def test_a_runs_folder_that_was_moved_is_refused_with_the_command_that_moves_heads(here):  # noqa: F811
    shutil.copytree(RUN, "moved")
    with pytest.raises(SavedError, match="vtclip export HEAD FILE"):
        load_classifier("moved")


def test_a_file_of_weights_that_is_not_there_is_named(here):  # noqa: F811
    with pytest.raises(SavedError, match=r"none\.pt: there is no such file of weights"):
        load_classifier(NAME, backbone="none.pt")


def test_an_image_whose_features_do_not_fit_half_precision_has_that_reason(here):  # noqa: F811
    classifier = load_classifier(NAME)
    assert len(classifier.classify("0.png").top(2)) == 2
    with torch.no_grad():
        classifier.backbone.model.visual.proj.fill_(1e30)
    (prediction,) = classifier.predict(["0.png"])
    assert "half precision" in prediction.reason
    for call in (prediction.top, lambda: classifier.classify("0.png")):
        with pytest.raises(PictureError, match=r"0\.png: its features are larger"):
            call()

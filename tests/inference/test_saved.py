"""An exported file that cannot be used is refused, with what is wrong; and so is an image."""

import json
import random
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.cli.conftest import NAMES, add_calibration
from vtclip.__main__ import main
from vtclip.data.images import PictureError
from vtclip.files import DamagedError, measure, read_record, write_record
from vtclip.inference import load_classifier
from vtclip.inference.runs import read_saved
from vtclip.inference.saved import SavedError

NAME = "mine/pets/vt_clip/1shot-seed1"
PROBE = "mine/pets/linear_probe/1shot-seed1"
PROBE_FOLDER = "results/mine/heads/glyph-clip-mine/pets/linear_probe/1shot-seed1"


def test_zeros_in_an_exported_backbone_are_refused(here, capsys):
    assert main(["export", NAME, "pets.safetensors", "--with-backbone"]) == 0
    with Path("pets.safetensors").open("r+b") as file:
        file.seek(-500_000, 2)
        file.write(bytes(4096))
    capsys.readouterr()
    assert main(["classify", "pets.safetensors", "0.png"]) == 2
    said = capsys.readouterr()
    assert "pets.safetensors: the file is damaged: its seal does not match" in said.err
    assert "Export it again" in said.err
    assert not said.out


@pytest.mark.parametrize("more", [[], ["--with-backbone"]])
def test_no_flipped_bit_of_an_exported_file_passes(here, more):
    assert main(["export", NAME, "pets.safetensors", *more]) == 0
    written = Path("pets.safetensors").read_bytes()
    draw, header = random.Random(0), int.from_bytes(written[:8], "little") + 8
    for place in [draw.randrange(8 * header) for _ in range(30)] + [
        draw.randrange(8 * len(written)) for _ in range(10)
    ]:
        damaged = bytearray(written)
        damaged[place // 8] ^= 1 << place % 8
        Path("pets.safetensors").write_bytes(damaged)
        with pytest.raises((SavedError, DamagedError), match=r"pets\.safetensors"):
            read_saved("pets.safetensors")


def test_a_file_that_an_earlier_version_exported_is_read_with_a_warning(here, caplog):
    assert main(["export", NAME, "pets.safetensors"]) == 0
    with safe_open("pets.safetensors", "pt") as file:
        described = json.loads(file.metadata()["vtclip"])
    del described["seal"]
    save_file(load_file("pets.safetensors"), "old.safetensors", {"vtclip": json.dumps(described)})
    assert read_saved("old.safetensors").description.method == "vt_clip"
    assert "old.safetensors: it has no checksum" in caplog.text


def test_an_image_whose_features_do_not_fit_half_precision_has_that_reason(here):
    classifier = load_classifier(NAME)
    assert len(classifier.classify("0.png").top(2)) == 2
    with torch.no_grad():
        classifier.backbone.model.visual.proj.fill_(1e30)
    (prediction,) = classifier.predict(["0.png"])
    assert "half precision" in prediction.reason
    for call in (prediction.top, lambda: classifier.classify("0.png")):
        with pytest.raises(PictureError, match=r"0\.png: its features are larger"):
            call()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_between_others_has_its_reason_and_each_other_its_own_classes(
    here,
    workers,
):
    Path("no.png").write_text("no image")
    classifier = load_classifier(NAME)
    images = ["no.png", "0.png", "0.png", "no.png", "1.png", "gone.png"]
    found = [*classifier.predict(images, batch_size=3, workers=workers)]
    assert [one.image for one in found] == images
    assert [bool(one.reason) for one in found] == [True, False, False, True, False, True]
    for one in (found[1], found[2], found[4]):
        alone = classifier.classify(one.image).probabilities
        torch.testing.assert_close(one.probabilities, alone, atol=1e-5, rtol=0)
    assert not any("png" in one.reason for one in found)  # the line that is printed begins so


def test_the_card_beside_an_exported_file_says_what_it_is_and_how_good(here, capsys):
    add_calibration(here / PROBE_FOLDER)
    record = here / PROBE_FOLDER / "run.json"
    write_record(record, read_record(record) | {"val_accuracy": 0.75})
    assert main(["export", PROBE, "out/pets.safetensors", "--with-backbone"]) == 0
    card = (here / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["library_name"] == "vtclip"
    assert front["pipeline_tag"] == "image-classification"
    for said in ("at most 1 shot per class", "`pets`", "validation images: 75.0%",
                 "40 images, each unseen", *(f"`{name}`" for name in NAMES)):  # fmt: skip
        assert said in card
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL)[1]
    assert len(code.splitlines()) == 3
    exec(code.replace("pets.safetensors", "out/pets.safetensors").replace("image.jpg", "0.png"))  # noqa: S102
    assert any(name in capsys.readouterr().out for name in NAMES)


def test_a_readme_that_is_no_card_is_never_written_over(here):
    (here / "README.md").write_text("mine")
    for _ in range(2):
        assert main(["export", PROBE, "pets.safetensors"]) == 0
    assert (here / "README.md").read_text() == "mine"
    assert (here / "pets.safetensors.md").is_file()
    assert measure(here / "pets.safetensors.md")["bytes"] > 500

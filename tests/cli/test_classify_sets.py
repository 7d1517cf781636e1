import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import NAMES, add_calibration
from vtclip.__main__ import main
from vtclip.inference.classifier import load_classifier

RUN = "mine/pets/linear_probe/1shot-seed1"
FOLDER = Path("results/mine/heads/glyph-clip-mine/pets/linear_probe/1shot-seed1")
ASKED = ("--coverage", "0.9", "--refuse", "0.05")
PHOTOGRAPHS = ("0.png", "1.png", "2.png")


@pytest.fixture
def calibrated(here) -> Path:
    add_calibration(here / FOLDER)
    return here


def classify(capsys, *arguments):
    status = main(["classify", *map(str, arguments), "--device", "cpu"])
    said = capsys.readouterr()
    return status, said.out, said.err


def read_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines_have_the_set_and_the_refusal_of_each_image(calibrated, capsys):
    status, out, _ = classify(capsys, RUN, *PHOTOGRAPHS, "--jsonl", *ASKED)
    found = read_lines(out)
    assert status == 0
    assert [image["image"] for image in found] == list(PHOTOGRAPHS)
    classifier = load_classifier(RUN)
    for image in found:
        pixels = classifier.decode(image["image"])[None]
        rules = classifier.rules(0.9, 0.05)
        with torch.inference_mode():
            chosen, unknown = rules.apply(*classifier.evaluate(pixels))
        assert {NAMES.index(name) for name in image["set"]} == set(
            chosen[0].nonzero()[:, 0].tolist()
        )
        assert image["unknown"] == unknown.item()
        assert sum(each["probability"] for each in image["top"]) == pytest.approx(1)


def test_json_is_the_same_list_as_json_lines(calibrated, capsys):
    (calibrated / "bad.png").write_bytes(b"x")
    arguments = (RUN, "0.png", "bad.png", "2.png", *ASKED)
    _, lines, _ = classify(capsys, *arguments, "--jsonl")
    _, whole, _ = classify(capsys, *arguments, "--json")
    assert json.loads(whole) == read_lines(lines)
    assert whole == json.dumps(json.loads(whole), indent=2, ensure_ascii=False) + "\n"


def test_text_and_csv_say_what_the_json_says(calibrated, capsys):
    (found,) = read_lines(classify(capsys, RUN, "0.png", "--jsonl", *ASKED)[1])
    text = classify(capsys, RUN, "0.png", *ASKED)[1]
    assert f"  set: {', '.join(found['set']) or 'no class'}\n" in text
    assert ("unknown" in text) == found["unknown"]
    rows = classify(capsys, RUN, "0.png", "--csv", *ASKED)[1].splitlines()
    assert rows[0] == "image,rank,class,probability,in set,unknown"
    assert sum(",yes," in row for row in rows) == len(found["set"])


def test_an_exported_head_has_the_sets_and_refusals_of_the_run(calibrated, capsys):
    expected = classify(capsys, RUN, *PHOTOGRAPHS, "--jsonl", *ASKED)[1]
    assert main(["export", RUN, "whole.safetensors", "--with-backbone"]) == 0
    capsys.readouterr()
    shutil.rmtree("results")
    assert classify(capsys, "whole.safetensors", *PHOTOGRAPHS, "--jsonl", *ASKED)[1] == expected


def test_a_head_without_calibration_classifies_and_refuses_sets_with_the_reason(here, capsys):
    assert classify(capsys, RUN, "0.png")[0] == 0
    status, out, error = classify(capsys, RUN, "0.png", "--coverage", "0.9")
    assert (status, out) == (2, "")
    assert "no calibration" in error
    assert "leave out `choose: none`" in error
    assert "validation shots" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coverage", "0.99"], "it takes 99 calibration images, and this head has 40"),
        (
            ["--refuse", "0.01"],
            "it takes 99 calibration images, and this head has 40. It can be 0.025",
        ),
        (["--by-class"], "--by-class: it needs --coverage"),
        (["--coverage", "90"], "expected a coverage between 0 and 1, found 90"),
        (["--refuse", "0"], "expected a share of refusals between 0 and 1, found 0"),
        (["--copy"], "--copy: it needs --sort DIR"),
    ],
)
def test_what_cannot_be_had_is_refused_before_an_image_is_read(
    calibrated, capsys, options, message
):
    status, out, error = classify(capsys, RUN, "0.png", *options)
    assert (status, out) == (2, "")
    assert message in error


@pytest.mark.parametrize("copy", [[], ["--copy"]])
def test_each_image_is_in_one_folder_and_a_second_run_adds_nothing(calibrated, capsys, copy):
    photographs = calibrated / "photographs"
    for number in range(3):
        (photographs / str(number)).mkdir(parents=True)
        shutil.copy(f"{number}.png", photographs / str(number) / "same name.png")
    sort = (RUN, photographs, "--sort", photographs / "sorted", *copy)
    for _ in range(2):  # the second time, the folder of links is inside the images' folder
        status, out, error = classify(capsys, *sort)
        assert (status, out) == (0, "")
        assert "3 images" in error
        placed = list((photographs / "sorted").glob("*/*.png"))
        assert len(placed) == 3
        assert {path.read_bytes() for path in placed} == {
            Path(name).read_bytes() for name in PHOTOGRAPHS
        }
        assert all(path.is_symlink() != bool(copy) for path in placed)
    other = [option for option in ["--copy"] if option not in copy]
    status, _, error = classify(capsys, *sort[:4], *other)
    assert status == 2
    assert "sorted into it with another --copy" in error

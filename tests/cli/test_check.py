"""`vtclip check` names doubtful labels and copies, and changes nothing of the user's."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.cli.conftest import save_weights
from tests.project import ROOT
from vtclip.__main__ import main
from vtclip.backbones import backbone

WEIGHTS = Path("resources/backbones/glyph-clip-glyphs.safetensors")
CACHE = Path("results/features/glyph-clip-glyphs/mine/check.parquet")


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Red and green pictures in class folders; the last green one is a red one's copy."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    folder = tmp_path / "photographs"
    for place, name in enumerate(("green", "red")):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            pixels = generator.integers(0, 120, (32, 32, 3), dtype=np.uint8)
            pixels[:, :, 1 - place] += 130
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    shutil.copy(folder / "red/03.png", folder / "green/99.png")
    assert main(["new", "mine", str(folder), "--like", str(ROOT / "config/demo.yaml")]) == 0
    return folder


def test_a_wrong_label_and_a_copy_are_named_with_lines_to_paste_and_nothing_is_changed(
    photographs, capsys
):
    save_weights(WEIGHTS, 0)
    before = Path("config/datasets/mine.yaml").read_text()
    capsys.readouterr()
    assert main(["check", "mine"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("25 images checked.\n")
    assert "  green/99.png: green, looks like red (by " in said
    assert "  green/99.png = red/03.png (green and red)" in said
    pasted = yaml.safe_load(said[said.index("leave_out:") :])
    assert pasted["leave_out"] == ["green/99.png"]  # and the picture that it is of stays
    assert Path("config/datasets/mine.yaml").read_text() == before


def test_features_are_kept_and_only_images_that_are_newer_are_encoded_again(
    photographs, capsys, monkeypatch
):
    save_weights(WEIGHTS, 0)
    assert main(["check", "mine"]) == 0
    with monkeypatch.context() as patched:
        patched.setattr(backbone, "load_backbone", lambda **_: pytest.fail("encoded again"))
        assert main(["check", "mine"]) == 0
    before = CACHE.stat().st_mtime_ns
    os.utime(photographs / "red/01.png", ns=(before + 10**9, before + 10**9))
    assert main(["check", "mine"]) == 0
    assert CACHE.stat().st_mtime_ns > before


def test_what_is_missing_is_named_with_the_way_to_have_it(photographs, capsys):
    assert main(["check", "mine"]) == 2
    assert "Fetch it: snakemake fetch --cores all --configfile config/mine.yaml" in (
        capsys.readouterr().err
    )
    assert main(["check", "digitz"]) == 2
    assert "Did you mean 'digits'?" in capsys.readouterr().err
    assert main(["check", "digits"]) == 2
    assert "found:    config/digits.yaml" in capsys.readouterr().err
    assert main(["check", "digits", "--config", "config/mine.yaml"]) == 2
    assert "has no such dataset" in capsys.readouterr().err

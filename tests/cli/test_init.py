"""`vtclip init` copies what a user may edit, whole or not at all."""

import shutil

import pytest

from tests.project import ROOT
from vtclip import paths
from vtclip.__main__ import main
from vtclip.cli.status import read_plan
from vtclip.paths import find_config


def read_tree(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def test_configurations_and_profiles_are_copied_and_found_there(tmp_path, monkeypatch, capsys):
    assert main(["init", str(tmp_path / "few shot")]) == 0
    monkeypatch.chdir(tmp_path / "few shot")
    expected = read_tree(ROOT / "config")
    written = read_tree(tmp_path / "few shot" / "config")
    assert written == {name: text for name, text in expected.items() if "backbones" not in name}
    assert read_tree(tmp_path / "few shot" / "profiles") == read_tree(ROOT / "workflow/profiles")
    assert find_config("demo") == "config/demo.yaml"
    assert read_plan(["demo"]).targets()
    assert "vtclip run demo" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["config", "profiles"])
def test_a_folder_that_is_there_already_stays_and_nothing_is_written(tmp_path, capsys, part):
    (tmp_path / part).mkdir()
    assert main(["init", str(tmp_path)]) == 2
    assert f"{tmp_path / part} already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [part]


def test_copies_of_a_package_that_is_read_only_can_be_edited(tmp_path, monkeypatch):
    for part in ("config", "profiles"):
        shutil.copytree((ROOT / part).resolve(), tmp_path / "package" / part)
    for path in (tmp_path / "package").rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.setattr(paths, "PROJECT", tmp_path / "package")
    assert main(["init", str(tmp_path / "new")]) == 0
    assert all(path.stat().st_mode & 0o200 for path in (tmp_path / "new").rglob("*"))


def test_nothing_half_copied_is_left_after_a_failure(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    assert main(["init", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []

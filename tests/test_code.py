import shutil

import pytest

import vtclip.code
from vtclip.code import code_hash


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package that may be changed."""
    copy = tmp_path / "vtclip"
    shutil.copytree(vtclip.code.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))

    def forget():
        vtclip.code._find.cache_clear()
        vtclip.code._imports.cache_clear()

    def change(module: str):
        with (copy / module).open("a") as file:
            file.write("\n# changed\n")
        forget()

    monkeypatch.setattr(vtclip.code, "PACKAGE", copy)
    forget()
    yield change
    forget()


def test_a_change_in_an_imported_module_changes_the_hash(package):
    before = code_hash("vtclip.training.train")
    package("files.py")
    assert code_hash("vtclip.training.train") != before


def test_a_change_in_a_module_that_is_not_imported_changes_nothing(package):
    before = code_hash("vtclip.features.extract")
    package("training/train.py")
    assert code_hash("vtclip.features.extract") == before


def test_an_import_inside_a_function_counts(package):
    before = code_hash("vtclip.methods.vt_clip")
    package("nn/visual_guided.py")
    assert code_hash("vtclip.methods.vt_clip") != before


def test_one_methods_code_is_not_part_of_anothers(package):
    before = code_hash("vtclip.training.train", "vtclip.methods.zero_shot")
    package("methods/linear_probe.py")
    assert code_hash("vtclip.training.train", "vtclip.methods.zero_shot") == before


def test_the_script_counts_by_content_and_not_by_time(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("a = 1\n")
    before = code_hash("vtclip.files", script=script)
    script.write_text("a = 1\n")
    assert code_hash("vtclip.files", script=script) == before
    script.write_text("a = 2\n")
    assert code_hash("vtclip.files", script=script) != before


def test_a_module_that_does_not_exist_is_an_error():
    with pytest.raises(ModuleNotFoundError, match=r"vtclip\.trainning"):
        code_hash("vtclip.trainning")

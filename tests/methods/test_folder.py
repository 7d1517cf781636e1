"""A method is a file: its name, its class, and what is said where a file is no method."""

import importlib
import os
import subprocess
import sys

import pytest

from tests.project import ROOT
from vtclip import methods
from vtclip.methods import METHODS, check_methods
from vtclip.methods.base import Method
from vtclip.settings import ConfigError

METHOD = """
from vtclip.methods.base import Method
from vtclip.methods.zero_shot import ZeroShot

class Nearest{0}(Method):
    pass
"""

TRAINED = """
from vtclip.methods.base import Method
class Nearest(Method):
    trained = ("weight",)
    {0}
"""


@pytest.fixture
def add_method(tmp_path, monkeypatch):
    """Saves a file as if it lay in vtclip/methods/."""
    folder = tmp_path / "methods"
    folder.mkdir()
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])

    def add(name, code):
        (folder / f"{name}.py").write_text(code)
        importlib.invalidate_caches()
        return folder / f"{name}.py"

    yield add
    for file in folder.glob("*.py"):
        sys.modules.pop(f"vtclip.methods.{file.stem}", None)
        vars(methods).pop(file.stem, None)


def test_a_file_in_the_folder_is_a_method_and_the_names_are_sorted(add_method):
    assert "near_est" not in METHODS
    before = len(METHODS)
    add_method("near_est", METHOD.format(""))
    assert METHODS["near_est"].__name__ == "Nearest"
    assert METHODS["near_est"].title == "Near est"
    assert "near_est" in METHODS
    assert list(METHODS) == sorted(METHODS)
    assert len(METHODS) == len(list(METHODS)) == before + 1
    assert list(check_methods({"near_est": None}, source="mine.yaml")) == ["near_est"]


@pytest.mark.parametrize("name", ["base", "__init__", "_shared", "zero.shot", "", "../paths", "x"])
def test_what_is_no_methods_name_is_unknown(add_method, name):
    add_method("_shared", METHOD.format(""))
    assert name not in METHODS
    with pytest.raises(ConfigError, match="Unknown method '.*'; known: .*zero_shot"):
        METHODS[name]


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from vtclip.methods.zero_shot import ZeroShot\n", "none"),
        (METHOD.format("A") + METHOD.format("B"), "NearestA, NearestB"),
    ],
)
def test_a_file_without_one_method_of_its_own_is_named_with_what_is_wanted(add_method, code, found):
    file = add_method("nearest", code)
    with pytest.raises(ConfigError) as error:
        METHODS["nearest"]
    for part in [str(file), f"found:    {found}\n", "expected: one class", "base.Method"]:
        assert part in str(error.value)


def test_a_second_name_for_the_class_is_no_second_method(add_method):
    add_method("nearest", METHOD.format("") + "Alias = Nearest\n")
    assert METHODS["nearest"].__name__ == "Nearest"


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("import numpy\nimport nowhere_at_all\n", ["line 2", "No module named 'nowhere_at_all'"]),
        ("def f(:\n", ["SyntaxError"]),
        ("\n\n1 / 0\n", ["line 3", "ZeroDivisionError"]),
        (TRAINED.format(""), ["line 3", "expected a subclass of base.Recipe", "found Settings"]),
        (TRAINED.format("settings_type = int"), ["line 3", "expected a subclass of Settings"]),
    ],
)
def test_a_file_that_fails_is_named_with_its_line_and_the_failure(add_method, code, parts):
    file = add_method("nearest", code)
    with pytest.raises(ConfigError) as error:
        METHODS["nearest"]
    for part in [str(file), "cannot be imported", *parts]:
        assert part in str(error.value)
    assert error.value.__cause__ is not None


def test_naming_the_methods_their_settings_and_their_work_does_not_import_torch():
    code = (
        "import sys; from vtclip.methods import METHODS; from vtclip.cost import Shape, Size; "
        "towers = {'image_blocks': 12, 'text_blocks': 12}; "
        "size = Size(Shape(50, 1024, 1024, **towers), 10, 1, 10, 5); "
        "made = [m(m.settings_type()) for m in METHODS.values()]; "
        "[(m.check(size.shape), m.work(size)) for m in made]; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_title_of_ones_own_is_not_handed_down():
    class Named(Method):
        title = "A name"

    class Other(Named):
        pass

    assert Other.title == "Test folder"


RUN_HERE = """
import sys
from vtclip.methods import METHODS, check_methods
from vtclip.runtime.code_hash import code_hash
check_methods({"nearest": None}, source="mine.yaml")
print(METHODS["nearest"].title, code_hash("script.py", METHODS["nearest"].__module__))
"""


def run_here(folder):
    """Load the method `nearest` in a new process in a folder; returns its title and code hash."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN_HERE]
    return subprocess.check_output(command, cwd=folder, text=True, env=environment)


def test_a_method_in_the_working_directory_is_found_and_its_code_counts(tmp_path):
    (tmp_path / "script.py").write_text("import vtclip.task\n")
    mine = tmp_path / "methods"
    mine.mkdir()
    (mine / "_distances.py").write_text("SCALE = 1\n")
    code = METHOD.format("") + "from vtclip.methods._distances import SCALE\n"
    (mine / "nearest.py").write_text(code)
    first = run_here(tmp_path)
    assert first.startswith("Nearest ")
    (mine / "nearest.py").write_text(f"# a comment\n{code}")
    assert run_here(tmp_path) == first
    (mine / "nearest.py").write_text(f"{code}LIMIT = 1\n")
    second = run_here(tmp_path)
    (mine / "_distances.py").write_text("SCALE = 2\n")
    third = run_here(tmp_path)
    assert len({first, second, third}) == 3, "an edit of the method, or of what it imports, counts"


def test_a_method_with_the_name_of_one_of_the_package_is_refused(add_method):
    file = add_method("other", METHOD.format("")).with_name("vt_clip.py")
    file.write_text(METHOD.format(""))
    with pytest.raises(ConfigError) as error:
        check_methods({"vt_clip": None}, source="mine.yaml")
    file.unlink()
    for part in [f"{file}: there is a method of this name", "expected: another name"]:
        assert part in str(error.value)

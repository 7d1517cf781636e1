"""A user installs what runs need, and not what tests need: that is enough."""

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.project import ROOT, Project, make_interpreter

pytestmark = pytest.mark.workflow


def list_needed(requirements: list[str]) -> dict[str, Distribution]:
    """The packages that `pip install` brings for some requirements: name -> distribution."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ("", *requirement.extras):
            if (requirement.name, wanted) not in seen:
                seen.add((requirement.name, wanted))
                needed = found[requirement.name] = distribution(requirement.name)
                waiting += [(Requirement(text), wanted) for text in needed.requires or []]
    return found


def list_parts(needed: Distribution) -> Iterator[Path]:
    """Its files and folders at the top of the folder of packages."""
    for name in {file.parts[0] for file in needed.files or []} - {"..", "__pycache__"}:
        if not name.endswith(".pth"):
            yield Path(str(needed.locate_file(name)))


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> str:
    """An interpreter with the packages that runs need, and no others."""
    python, packages = make_interpreter(tmp_path_factory.mktemp("installed") / "venv")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for needed in list_needed(project["dependencies"]).values():
        for part in list_parts(needed):
            if not (packages / part.name).exists():  # several may share a folder
                (packages / part.name).symlink_to(part)
    return str(python)


def imports_of(path: Path) -> Iterator[str]:
    """The modules that a file imports, in its functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.slow
def test_everything_that_is_imported_is_installed(python):
    files = [*(ROOT / "vtclip").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]
    names = sorted({name for file in files for name in imports_of(file)})
    code = "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)"
    done = subprocess.run(
        [python, "-c", code, *names], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]


def test_packages_that_only_tests_need_are_missing(python):
    done = subprocess.run([python, "-c", "import pytest"], stderr=subprocess.DEVNULL, check=False)
    assert done.returncode != 0


def test_a_report_is_written(python, finished, tmp_path):
    report = tmp_path / "report.html"
    Project(finished.folder, python).run("--report", str(report))
    assert "results/demo/figures/accuracy.svg" in report.read_text(encoding="utf-8")

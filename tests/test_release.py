"""A version has one number, and what installs and checks the project agrees with it."""

import re
import shutil
import tomllib

import pytest
import yaml

from tests.project import ROOT
from tests.test_wheel import build, wheel  # noqa: F401  (a fixture)
from vtclip import __version__
from vtclip.__main__ import main

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CONTAINER = (ROOT / "Containerfile").read_text()
CI = (ROOT / ".github/workflows/ci.yml").read_text()
JOBS = yaml.safe_load(CI)["jobs"]
PYTHONS = re.findall(r"^\| (3\.\d+) \|", (ROOT / "docs/install.md").read_text(), re.MULTILINE)


def test_the_version_is_the_same_everywhere(capsys):
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "vtclip/__init__.py"
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"vtclip {__version__}\n"
    assert CITATION["version"] == __version__
    changes = re.findall(r"^## (\S+), (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert changes[0][0] == __version__
    assert changes[0][1] == str(CITATION.get("date-released", "not yet released"))


def test_every_python_that_is_tested_or_built_is_one_of_the_page():
    assert PROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"
    tested = JOBS["test"]["strategy"]["matrix"]["python"]
    assert tested[0] == PYTHONS[0]
    assert set(tested) <= set(PYTHONS)
    (image,) = re.findall(r"^FROM python:([\d.]+)-slim$", CONTAINER, re.MULTILINE)
    assert image in PYTHONS


def test_the_container_copies_all_that_the_wheel_is_built_of(wheel, tmp_path):  # noqa: F811
    for words in re.findall(r"^COPY (.*)$", CONTAINER, re.MULTILINE):
        *sources, target = words.split()
        for source in sources:
            place = tmp_path / target.lstrip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place)
            else:
                place.mkdir(exist_ok=True)
                shutil.copy2(ROOT / source, place)
    assert build("wheel", tmp_path / "src", tmp_path / "built").read_bytes() == wheel.read_bytes()
    assert "--constraint /src/constraints.txt /src" in CONTAINER


def test_the_checks_of_a_public_host_have_no_secret_and_few_rights():
    assert yaml.safe_load(CI)["permissions"] == {"contents": "read"}
    assert "secrets" not in CI
    used = [step["uses"] for job in JOBS.values() for step in job["steps"] if "uses" in step]
    assert [name for name in used if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", name)] == []
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    run = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
    assert run == ["make test", "make test-slow", "make wheel"]
    assert {command.removeprefix("make ") for command in run} <= targets

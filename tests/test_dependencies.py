"""All that the package imports is named once, and the files that name versions agree."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Conda's names of what PyPI calls otherwise.
CONDA = {
    "matplotlib-base": "matplotlib",
    "open-clip-torch": "open-clip-torch",
    "pytorch": "torch",
    "snakemake-minimal": "snakemake",
}
NOT_IMPORTED = {"snakemake", "pygments"}  # the first runs us, the second its report


def bounds(requirements) -> dict[str, str]:
    parsed = [Requirement(text) for text in requirements]
    return {canonicalize_name(found.name): str(found.specifier) for found in parsed}


RUN = bounds(PROJECT["dependencies"])
EXTRAS = {name: bounds(found) for name, found in PROJECT["optional-dependencies"].items()}
TEST = EXTRAS["test"]


def imported() -> set[str]:
    """The distributions that the package's modules and the rules' scripts import."""
    files = [*(ROOT / "vtclip").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]
    names = set()
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    names -= {"vtclip", *sys.stdlib_module_names}
    known = packages_distributions()
    return {canonicalize_name(known[name][0]) for name in names}


def test_every_package_that_is_imported_is_named_and_every_named_one_is_needed():
    assert imported() <= set(RUN), "add it to pyproject.toml's dependencies"
    assert set(RUN) - imported() <= NOT_IMPORTED, "take it from pyproject.toml's dependencies"


def test_condas_environment_has_the_same_bounds():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = {}
    for line in listed:
        name, _, bound = line.partition(" ")
        conda[canonicalize_name(CONDA.get(name, name))] = bound
    assert conda.pop("python") == PROJECT["requires-python"]
    del conda["pip"]
    assert {name: conda.get(name) for name in RUN} == RUN
    assert set(conda) - set(RUN) <= set(TEST)
    assert all(conda[name] == TEST[name] for name in set(conda) - set(RUN))


def test_the_constraints_are_exact_versions_within_the_bounds_of_all_that_is_named():
    comment, *lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert comment.startswith("# ")
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    exact = bounds(lines)
    assert len(exact) == len(lines) > 100
    for extra, named in {"": RUN, **EXTRAS}.items():
        for name, bound in named.items():
            version = exact[name].removeprefix("==")
            assert Requirement(f"{name}{bound}").specifier.contains(version), (extra, name)


def test_the_constraints_are_made_of_every_extra():
    written = re.search(r"--editable '\.\[(.*?)\]'", (ROOT / "Makefile").read_text()).group(1)
    assert set(written.split(",")) == set(EXTRAS)

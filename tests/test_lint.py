"""Data never runs code: the linter refuses every call that could let it."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("vtclip", "workflow", "tests", "benchmarks", "docs")

# The linter does not know these arguments, nor torch.load without `weights_only`.
UNSAFE = {
    ("allow_pickle", True),
    ("load_weights_only", False),
    ("trust_remote_code", True),
    ("weights_only", False),
}


CAN_RUN_CODE = """
import pickle
from pickle import loads
import joblib; joblib.load('x')
import shelve
import torch; torch.hub.load('x', 'y')
import yaml; yaml.load('x', yaml.Loader)
import yaml; yaml.unsafe_load('x')
eval('1')
exec('1')
import subprocess; subprocess.run('x', shell=True)
import os; os.system('x')
import tarfile; tarfile.open('x').extractall()
""".strip()


@pytest.mark.parametrize("part", PARTS)
def test_each_line_that_could_run_foreign_code_is_refused(part):
    # Rules of form are left out: they would refuse these lines too.
    command = [sys.executable, "-m", "ruff", "check", "--ignore", "E,F,I", "--output-format=json"]
    done = subprocess.run(
        [*command, f"--stdin-filename={part}/example.py", "-"],
        input=CAN_RUN_CODE, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False,
    )  # fmt: skip
    refused = {found["location"]["row"] for found in json.loads(done.stdout)}
    lines = CAN_RUN_CODE.splitlines()
    assert [line for row, line in enumerate(lines, start=1) if row not in refused] == []


def find_unsafe(code):
    """The lines with calls that could run code from data."""
    safe = set()  # the functions of calls that are safe
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.keyword(name, ast.Constant(value)) if (name, value) in UNSAFE:
                yield node.lineno
            case ast.Call(function, _, keywords):
                if any(k.arg == "weights_only" for k in keywords):
                    safe.add(function)
            case ast.Attribute(ast.Name("torch"), "load") if node not in safe:
                yield node.lineno


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("torch.load('x')", [1]),
        ("torch.load('x', weights_only=False)", [1]),
        ("read(torch.load)", [1]),
        ("torch.load('x', weights_only=True)", []),
        ("numpy.load('x', allow_pickle=True)", [1]),
        ("numpy.load('x')", []),
    ],
)
def test_unsafe_loading_is_found(line, found):
    assert list(find_unsafe(line)) == found


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_loaded_unsafely(part):
    for path in (ROOT / part).rglob("*.py"):
        assert list(find_unsafe(path.read_text(encoding="utf-8"))) == [], path

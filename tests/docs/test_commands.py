"""The commands of README and docs exist, and their experiments are planned."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import here, made  # noqa: F401  (fixtures)
from tests.docs.pages import PAGES, commands, not_run
from tests.project import ROOT
from vtclip.__main__ import make_parser
from vtclip.cli.status import read_plan

OWN_IMAGES = ROOT / "docs/your-own-images.md"


VTCLIP = [
    line.partition("vtclip ")[2]
    for page in PAGES
    for line in commands(page)
    if line.startswith((".venv/bin/vtclip ", "vtclip "))
]


@pytest.mark.parametrize("command", VTCLIP)
def test_every_vtclip_command_of_the_pages_can_be_parsed(command):
    make_parser().parse_args(shlex.split(command))


SNAKEMAKE = {
    line: re.findall(r"config/[\w-]+\.yaml", line)
    for page in PAGES
    for line in commands(page)
    if "snakemake " in line
}
WRITTEN_LATER = {"config/birds.yaml"}  # `vtclip new` writes it: tests/cli/test_new.py


@pytest.mark.parametrize("command", SNAKEMAKE)
def test_every_experiment_that_the_pages_run_is_planned(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    configs = SNAKEMAKE[command] or ["config/config.yaml"]
    if not WRITTEN_LATER & set(configs):
        assert read_plan(configs).targets()


def test_every_command_that_no_test_runs_is_in_a_page():
    assert not_run()
    assert set(not_run()) <= {command for page in PAGES for command in commands(page)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_names_its_language(page):
    opened = re.findall(r"^```(\w*)$", page.read_text(), re.MULTILINE)[::2]
    assert set(opened) <= {"sh", "python", "yaml", "text"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_target_of_make_that_a_page_names_exists(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [line.split()[1:] for line in commands(page) if line.startswith("make ")]
    assert {word for words in named for word in words if "=" not in word} <= targets


def test_own_images_take_five_commands_at_most():
    block = OWN_IMAGES.read_text().split("```sh\n")[1].split("```")[0]
    assert len(block.splitlines()) <= 5


def test_loading_a_head_takes_the_three_lines_that_the_readme_shows(here, capsys):  # noqa: F811
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (code,) = [block for block in blocks if "load_classifier" in block]
    assert len([line for line in code.splitlines() if line]) == 3
    code = code.replace("demo/digits/vt_clip/16shot-seed1", "mine/pets/vt_clip/1shot-seed1")
    Path("example.py").write_text(re.sub(r"resources/images/\S+\.png", "0.png", code))
    runpy.run_path("example.py")
    assert "a & b" in capsys.readouterr().out

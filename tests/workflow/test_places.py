"""The project and its interpreter run from any path, or are refused at once."""

import sysconfig

import pytest

from tests.project import Project, make_interpreter

pytestmark = pytest.mark.workflow


@pytest.mark.slow
def test_a_project_and_an_interpreter_below_odd_names_work(fresh, tmp_path):
    odd = tmp_path / 'it\'s a $HOME; "q" é'
    project = fresh.copy(odd / "project").folder
    python, packages = make_interpreter(odd / "venv")
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    Project(project, str(python)).run("resources/images/digits.json")
    assert (project / "resources/images/digits/split.json").is_file()


def test_braces_in_the_projects_path_are_refused_before_any_job(fresh, tmp_path):
    done = fresh.copy(tmp_path / "{a}" / "project").snakemake("resources/images/digits.json")
    assert done.returncode != 0
    assert "{a}" in done.stdout
    assert "Rename the folder, or move the project." in done.stdout
    assert "Traceback" not in done.stdout

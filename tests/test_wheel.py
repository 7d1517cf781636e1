"""The wheel has everything that a run needs, and a run writes nothing into it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.project import GOALS, ROOT
from vtclip import __version__

CONFIGS = {file.stem: yaml.safe_load(file.read_text()) for file in (ROOT / "config").glob("*.yaml")}
# Those without datasets are merged into another one.
EXPERIMENTS = [
    [name] if "datasets" in CONFIGS[name] else ["demo", name] for name in sorted(CONFIGS)
]
PLANS = """
import json, sys
from vtclip.cli.status import read_plan
for names in json.load(sys.stdin):
    plan = read_plan(names)
    print(plan.name, plan.targets(), plan.outputs(), plan.index(), sep="\\n")
"""


def build(target: str, source: Path, folder: Path) -> Path:
    """Build a wheel or an sdist."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "-d", str(folder)]
    subprocess.run(command, cwd=source, check=True, stdout=subprocess.DEVNULL)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder of packages with the wheel in it."""
    folder = tmp_path_factory.mktemp("packages")
    shutil.unpack_archive(wheel, folder, "zip")
    return folder


def python(packages: Path, folder: Path, *arguments: str, status: int = 0, **options) -> str:
    """Run Python in a folder with a folder of packages before all others."""
    done = subprocess.run(
        [sys.executable, "-P", *arguments], cwd=folder, env=os.environ | {"PYTHONPATH": packages},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options,
    )  # fmt: skip
    assert done.returncode == status, done.stdout[-3000:]
    return done.stdout


def test_the_wheel_has_the_package_the_workflow_the_profiles_and_the_configurations(wheel):
    parts = ("vtclip", "config", "workflow", "Snakefile", "environment.yml")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *parts]
    files = set(subprocess.check_output(command, cwd=ROOT, text=True).splitlines())
    moved = {file if file.startswith("vtclip/") else f"vtclip/project/{file}" for file in files}
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    assert names == {name.replace("/workflow/profiles/", "/profiles/") for name in moved}


def test_the_sdist_builds_the_same_wheel(wheel, tmp_path):
    with tarfile.open(build("sdist", ROOT, tmp_path / "sdist")) as file:
        file.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / f"vtclip-{__version__}", tmp_path / "again")
    assert (again.name, again.read_bytes()) == (wheel.name, wheel.read_bytes())


def test_the_wheel_plans_every_configuration_as_a_clone_does(installed, tmp_path):
    written = []
    for packages in (ROOT, installed):
        folder = tmp_path / packages.name
        folder.mkdir()
        given = json.dumps(EXPERIMENTS)
        written.append(python(packages, folder, "-c", PLANS, input=given).splitlines())
    assert written[0] == written[1]
    assert len(written[0]) == 4 * len(EXPERIMENTS)


@pytest.mark.slow
@pytest.mark.workflow
@pytest.mark.parametrize("name", ["demo", "demo-cross-dataset"])  # of the rest, the plans
def test_vtclip_run_plans_the_same_jobs_as_snakemake_in_a_clone(installed, fresh, tmp_path, name):
    said = python(installed, tmp_path, "-m", "vtclip", "run", name, "--dry-run", "--verbose")
    jobs = set(re.findall(r"^ *Job \d+: (.*)$", said, flags=re.MULTILINE)) - GOALS
    assert jobs == fresh.plan(f"config/{name}.yaml")


@pytest.mark.slow
@pytest.mark.workflow
def test_a_run_of_the_wheel_gives_a_clones_tables_and_writes_nothing_into_the_wheel(
    installed, finished, tmp_path
):
    def state():
        files = [file for file in installed.rglob("*") if "__pycache__" not in str(file)]
        return {file: (file.stat().st_mtime_ns, file.stat().st_size) for file in files}

    before = state()
    (tmp_path / "config").mkdir()
    (tmp_path / "config/demo.yaml").write_bytes((finished.folder / "config/demo.yaml").read_bytes())
    python(installed, tmp_path, "-m", "vtclip", "run", "demo")
    for table in (finished.folder / "results/demo/tables").glob("*.*"):
        assert (tmp_path / "results/demo/tables" / table.name).read_bytes() == table.read_bytes()
    assert {file: found for file, found in state().items() if not file.is_dir()} == {
        file: found for file, found in before.items() if not file.is_dir()
    }


@pytest.mark.slow
@pytest.mark.workflow
def test_an_environment_without_the_package_is_refused_before_any_job(installed, tmp_path):
    words = ("run", "demo", "--sdm", "conda", "--dry-run")
    said = python(installed, tmp_path, "-m", "vtclip", *words, status=1)
    assert "--sdm: the environments that Snakemake makes do not contain vtclip." in said

"""Run the commands of README and docs one after another in a fresh clone: an hour.

`make test-commands` runs these. VTCLIP_COMMANDS_IN names a clone to continue in, so that finished
work is not run again.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.docs.pages import PAGES, commands, not_run
from tests.project import ROOT

pytestmark = pytest.mark.commands

BASH, GIT = shutil.which("bash"), shutil.which("git")

NOT_RUN = not_run()
RUN = dict.fromkeys(
    command for page in PAGES for command in commands(page) if command not in NOT_RUN
)


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A clone with the photographs, and the table of them, that a page assumes."""
    given = os.environ.get("VTCLIP_COMMANDS_IN")
    folder = Path(given) if given else tmp_path_factory.mktemp("commands") / "vtclip"
    if not given:
        subprocess.run([GIT, "clone", "--quiet", str(ROOT), str(folder)], check=True)
    for place, name in enumerate(("heron", "stork")):
        (folder / "photographs" / name).mkdir(parents=True, exist_ok=True)
        for number in range(10):
            image = Image.new("RGB", (48, 48), (25 * number, 255 * place, 100))
            image.save(folder / "photographs" / name / f"{number}.jpg")
    images = [f"{name}/{number}.jpg" for name in ("heron", "stork") for number in range(10)]
    lines = [f"{image},{image.partition('/')[0]}" for image in images]
    (folder / "labels.csv").write_text("\n".join(["path,species", *lines]))
    for name in ("birds", "listed"):
        (folder / f"config/{name}.yaml").unlink(missing_ok=True)
        (folder / f"config/datasets/{name}.yaml").unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize("command", RUN, ids=str)
def test_the_command_succeeds(clone, command):
    done = subprocess.run(
        [BASH, "-c", command], cwd=clone, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]

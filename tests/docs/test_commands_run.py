"""Run the commands of README and docs one after another in a fresh clone: half an hour.

`make test-commands` runs these. VTCLIP_COMMANDS_IN names a clone to continue in, so that finished
work is not run again. The user's photographs are drawn, and the demo's small CLIP takes the place
of OpenAI's in their experiment.
"""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.docs.pages import PAGES, commands, not_run
from tests.project import ROOT

pytestmark = pytest.mark.commands

BASH, GIT = shutil.which("bash"), shutil.which("git")

NOT_RUN = not_run()
RUN = dict.fromkeys(
    command for page in PAGES for command in commands(page) if command not in NOT_RUN
)
BIRDS = ("heron", "stork", "crane", "egret", "ibis")
# With three seeds, each of these takes a third of an hour.
ONE_SEED = ("config/all-methods.yaml", "config/ablation.yaml")
SERVED = 60  # seconds until `vtclip serve`, which ends with Ctrl-C alone, is ended


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A clone with the photographs, and the table of them, that a page assumes."""
    given = os.environ.get("VTCLIP_COMMANDS_IN")
    folder = Path(given) if given else tmp_path_factory.mktemp("commands") / "vtclip"
    if not given:
        subprocess.run([GIT, "clone", "--quiet", str(ROOT), str(folder)], check=True)
    rows = ["path,species"]
    for place, name in enumerate(BIRDS):
        (folder / "photographs" / name).mkdir(parents=True, exist_ok=True)
        for number in range(20):
            image = f"{name}/{number}.jpg"
            draw_photograph(place, number).save(folder / "photographs" / image)
            rows.append(f"{image},{name}")
    (folder / "labels.csv").write_text("\n".join(rows))
    for name in ("birds", "listed"):
        (folder / f"config/{name}.yaml").unlink(missing_ok=True)
        (folder / f"config/datasets/{name}.yaml").unlink(missing_ok=True)
    return folder


def draw_photograph(kind: int, number: int) -> Image.Image:
    """Stripes, as many as the kind has, and noise."""
    generator = np.random.default_rng([kind, number])
    stripes = 100 + 80 * np.sin(np.linspace(0, 6.28 * (kind + 1), 48))
    noise = generator.integers(0, 70, (48, 48, 3))
    return Image.fromarray((stripes[:, None, None] + noise).astype(np.uint8))


def take_the_small_clip(config: Path) -> None:
    """Write the demo's backbone into a configuration, if it is there."""
    if config.exists():
        small = yaml.safe_load((ROOT / "config/demo.yaml").read_text())["backbone"]
        changed = yaml.safe_load(config.read_text()) | {"backbone": small}
        config.write_text(yaml.safe_dump(changed, sort_keys=False))


@pytest.mark.parametrize("command", RUN, ids=str)
def test_the_command_succeeds(clone, command):
    take_the_small_clip(clone / "config/birds.yaml")
    if "vtclip serve" in command:
        command = f"timeout --signal=INT {SERVED} {command} || test $? = 124"
    if command.endswith(ONE_SEED):
        command += " --config 'seeds=[1]'"
    done = subprocess.run(
        [BASH, "-c", command], cwd=clone, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]

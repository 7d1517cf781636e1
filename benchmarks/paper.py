"""The plan of the paper's experiment, with ImageNet, whose archives take an account."""

import contextlib
import tempfile
from pathlib import Path

import yaml

from vtclip.config.dataset import read_dataset
from vtclip.data.inventory import archive_path
from vtclip.plan import Plan

CONFIG = Path(__file__).parents[1] / "config" / "config.yaml"


def supply_archives(folder: Path) -> None:
    """Empty files where ImageNet's archives belong: without them a plan leaves it out."""
    for archive in read_dataset("imagenet").archives:
        path = folder / archive_path("imagenet", archive.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def read_plan() -> Plan:
    """The plan of config/config.yaml, all eleven datasets in it."""
    config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    # A plan looks for archives from the working directory.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        supply_archives(Path(folder))
        return Plan.read(config, source="config/config.yaml")

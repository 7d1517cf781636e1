"""Configurations to plan, from a folder that is not the project's."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from vtclip.config.dataset import read_dataset
from vtclip.data.inventory import archive_path
from vtclip.paths import Run, format_shots, place_of
from vtclip.plan import Plan, head_jobs, jobs

CONFIG = Path(__file__).parents[2] / "config"
ARCHITECTURE = CONFIG / "backbones" / "glyph-clip.json"
GLYPHS, RN50 = "glyph-clip-glyphs", "RN50-quickgelu-openai"  # folders of features


def planned(
    config: dict[str, Any], source: str | list[str] = "config/demo.yaml", **changes: Any
) -> Plan:
    """The plan of a configuration with other keys."""
    return Plan.read(config | changes, source=source)


WILDCARDS = {
    "fetch_archive": ("dataset", "file"),
    "unpack_archives": ("dataset",),
    "prepare_manifest": ("dataset",),
    "fetch_backbone": ("weights",),
    "extract_texts": ("backbone", "dataset"),
    "extract_shots": ("backbone", "dataset", "views", "shots", "seed"),
    "extract_test": ("backbone", "dataset", "part"),
    "train_head": ("backbone", "dataset", "method", "shots", "seed"),
    "predict_test": ("backbone", "dataset", "method", "tested"),
    "plot_attention": ("backbone", "dataset"),
    "find_test_copies": ("dataset",),
}


def job(plan: Plan, rule: str, *wildcards: str | int) -> jobs.Job:
    """A rule's job of these wildcards."""
    named = zip(WILDCARDS[rule], map(str, wildcards), strict=True)
    module = jobs if hasattr(jobs, rule) else head_jobs
    return getattr(module, rule)(plan, **dict(named))


def training(plan: Plan, run: Run) -> jobs.Job:
    """The job that trains the head of a row."""
    return job(plan, "train_head", *place_of(run.head), format_shots(run.shots), run.seed)


def weights(plan: Plan) -> list[str]:
    """The names of all weights."""
    return plan.fetched_weights + plan.made_weights


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty working directory: what belongs to the project is found all the same."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def demo() -> dict[str, Any]:
    """The embedded experiment."""
    return yaml.safe_load((CONFIG / "demo.yaml").read_text())


@pytest.fixture
def paper() -> dict[str, Any]:
    """The paper's experiment."""
    return yaml.safe_load((CONFIG / "config.yaml").read_text())


@pytest.fixture
def imagenet(here) -> None:
    """ImageNet's archives, which take an account, put in place."""
    for archive in read_dataset("imagenet").archives:
        path = here / archive_path("imagenet", archive.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def own_dataset(here):
    """Saves a file of the project's datasets, with other keys, as a user's."""

    def save(name: str, base: str, **keys: Any) -> None:
        content = yaml.safe_load((CONFIG / "datasets" / f"{base}.yaml").read_text())
        path = here / "config" / "datasets" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content | keys))

    return save

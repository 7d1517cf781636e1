"""Shared fixtures: small tensors, published files, and copies of the project.

Libraries that take long to import are imported by the fixtures that use them, so that collecting
the tests stays cheap.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from tests.project import PARTS, ROOT, SEEDS, SHOTS, Project

if TYPE_CHECKING:
    import polars as pl
    import torch

    from vtclip.backbones.backbone import Backbone
    from vtclip.methods.base import Task


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the table of faults."""
    faults: Counter[tuple[str, str]] = Counter()
    for report in chain(*terminalreporter.stats.values()):
        for name, value in getattr(report, "user_properties", ()):
            if name == "fault" and report.when == "teardown":
                faults[value[0], value[1]] += value[2]
    if faults:
        terminalreporter.section("faults tried")
    for (fault, outcome), number in sorted(faults.items()):
        terminalreporter.write_line(f"{fault:<44} {outcome:<32} {number:>5}")


@pytest.fixture
def published() -> Path:
    """The folder of published split files and few-shot picks; set VTCLIP_TEST_DATA to it."""
    folder = Path(os.environ.get("VTCLIP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the published files are not at {folder} (set VTCLIP_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """The small CLIP with random weights."""
    from vtclip.backbones.backbone import load_backbone

    return load_backbone(
        "glyph-clip",
        pretrained=None,
        architecture=ROOT / "config" / "backbones" / "glyph-clip.json",
    )


@pytest.fixture
def manifest() -> pl.DataFrame:
    """Three classes with 6 train, 5 val and 2 test images each, in mixed order."""
    import polars as pl

    rows = [
        (f"{split}/{number}-{label}.png", label, f"class {label}", split)
        for split, size in (("train", 6), ("val", 5), ("test", 2))
        for number in range(size)
        for label in (2, 0, 1)
    ]
    schema = {"image": pl.String, "label": pl.Int32, "class_name": pl.String, "split": pl.String}
    return pl.DataFrame(rows, schema=schema, orient="row")


@pytest.fixture
def task() -> Task:
    """Random features: 4 classes, 3 shots, 2 views, 5 spatial tokens, 16 wide."""
    import torch

    from vtclip.methods.base import Samples, Task, Texts

    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    labels = torch.arange(4).repeat_interleave(3)
    texts = torch.nn.functional.normalize(normal(4, 16), dim=-1)
    return Task(
        texts=Texts(texts, 100.0, means=texts * torch.tensor([[0.5], [1.0], [2.0], [4.0]])),
        train=Samples(normal(12, 2, 16), normal(12, 2, 5, 16), labels),
        val=Samples(normal(12, 1, 16), normal(12, 1, 5, 16), labels),
        seed=1,
        projection=(normal(16, 16), normal(16)),
    )


@pytest.fixture(scope="session")
def fresh(tmp_path_factory) -> Project:
    """The project as in a fresh clone; not to be changed."""
    folder = tmp_path_factory.mktemp("fresh") / "project"
    folder.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / part, ignore=skip)
        else:
            shutil.copy2(source, folder / part)
    return Project(folder)


@pytest.fixture(scope="session")
def once(request, tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Make a folder of a name once for all processes of pytest-xdist."""
    shared = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        shared = shared.parent

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def finished(fresh, once) -> Project:
    """The finished embedded experiment at `SHOTS` and `SEEDS`; not to be changed."""

    def run(folder: Path) -> None:
        project = fresh.copy(folder)
        project.edit("config/demo.yaml", "shots: [1, 2, 4, 8, 16]", f"shots: {list(SHOTS)}")
        project.edit("config/demo.yaml", "seeds: [1, 2, 3]", f"seeds: {list(SEEDS)}")
        project.run()

    return Project(once("finished", run))


@pytest.fixture
def changed(finished, tmp_path) -> Project:
    """A finished run that a test may change."""
    return finished.copy(tmp_path / "project")

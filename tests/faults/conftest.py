"""A small experiment to break: one archive, one run of each method, and its undisturbed end."""

import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from tests.project import Project

CONFIG = "config/broken.yaml"
CLIP = "glyph-clip-glyphs"
WEIGHTS = f"resources/backbones/{CLIP}"
CLASSES = ("circle", "cross", "square")
EACH = {"train": 6, "val": 4, "test": 10}  # images per class
# Everything that the experiment makes, except the weights.
MADE = (
    "resources/archives/shapes", "resources/images/shapes", "resources/images/shapes.json",
    "results", ".snakemake",
)  # fmt: skip


@pytest.fixture
def tally(record_property) -> Iterator[Counter[tuple[str, str]]]:
    """(fault, how it ended) -> how often; pytest prints the sums at its end."""
    counts: Counter[tuple[str, str]] = Counter()
    yield counts
    for (fault, outcome), number in counts.items():
        record_property("fault", (fault, outcome, number))


@dataclass(frozen=True)
class Broken:
    """The small experiment in a copy of the project."""

    project: Project

    @property
    def folder(self) -> Path:
        return self.project.folder

    def run(self) -> str:
        """Run it as a user does after a fault."""
        return self.project.run(config=[CONFIG])

    def command(self, *arguments: str) -> list[str]:
        return self.project.command(*arguments, config=[CONFIG])

    def tables(self) -> dict[str, bytes]:
        """The bytes of each table."""
        folder = self.folder / "results/broken/tables"
        return {
            path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }

    def heads(self) -> dict[str, dict[str, list[float]]]:
        """Every tensor of every head."""
        return {
            str(path.relative_to(self.folder)): {
                name: tensor.flatten().tolist() for name, tensor in load_file(path).items()
            }
            for path in sorted((self.folder / "results/broken/heads").rglob("*.safetensors"))
        }

    def remove_outputs(self) -> None:
        """Remove everything that it has made, except the weights."""
        for path in MADE:
            if (self.folder / path).is_dir():
                shutil.rmtree(self.folder / path)
            else:
                (self.folder / path).unlink(missing_ok=True)

    def copy(self, folder: Path) -> "Broken":
        return Broken(self.project.copy(folder))


@pytest.fixture(scope="session")
def undisturbed(finished, once) -> Broken:
    """The small experiment, finished without any fault; not to be changed."""
    return Broken(Project(once("undisturbed", lambda folder: _run(finished.folder, folder))))


@pytest.fixture
def broken(undisturbed, tmp_path) -> Broken:
    """A copy that a test may change."""
    return undisturbed.copy(tmp_path / "project")


def _run(source: Path, folder: Path) -> None:
    """Run the small experiment, with the weights of a finished run."""
    shutil.copytree(
        source, folder, symlinks=True,
        ignore=lambda path, names: (
            {"results", "images", "logs", ".snakemake"} & set(names)
            if Path(path) in (source, source / "resources") else set()
        ),
    )  # fmt: skip
    _write_archive(folder / "mirror" / "shapes")
    dataset = {
        "title": "Shapes", "split": "split.json", "templates": ["the digit {}"],
        "archives": [
            {"file": "shapes.zip", "urls": ["mirror/shapes/shapes.zip"]},
            {"file": "split.json", "urls": ["mirror/shapes/split.json"]},
        ],
        "counts": {split: 3 * number for split, number in EACH.items()} | {"classes": 3},
    }  # fmt: skip
    (folder / "config/datasets/shapes.yaml").write_text(yaml.safe_dump(dataset))
    config = yaml.safe_load((folder / "config/demo.yaml").read_text())
    config |= {"datasets": ["shapes"], "shots": [2], "seeds": [1]}
    config["views"] = {"number": 1}
    config["methods"] = {"zero_shot": None, "linear_probe": None, "vt_clip": {"epochs": 3}}
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))
    Broken(Project(folder)).run()


def _write_archive(folder: Path) -> None:
    """Sixty drawings with a split file in CoOp's form."""
    folder.mkdir(parents=True)
    split: dict[str, list[tuple[str, int, str]]] = {part: [] for part in EACH}
    with zipfile.ZipFile(folder / "shapes.zip", "w") as archive:
        for label, name in enumerate(CLASSES):
            parts = [part for part, number in EACH.items() for _ in range(number)]
            for number, part in enumerate(parts):
                path = f"{name}/{number:02}.png"
                with archive.open(path, "w") as file:
                    _draw(name, number).save(file, format="PNG")
                split[part].append((path, label, name))
    (folder / "split.json").write_text(json.dumps(split))


def _draw(name: str, number: int) -> Image.Image:
    picture = Image.new("L", (32, 32), 8 * (number % 5))
    pen, low, high = ImageDraw.Draw(picture), 4 + number % 5, 20 + number % 8
    if name == "circle":
        pen.ellipse((low, low, high, high), fill=220)
    elif name == "square":
        pen.rectangle((low, low, high, high), fill=220)
    else:
        pen.line((low, low, high, high), fill=220, width=3)
        pen.line((low, high, high, low), fill=220, width=3)
    return picture

"""docs/methods.md holds a method that works as it stands."""

import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.test_train import on_disk  # noqa: F401  (a fixture)
from vtclip import methods
from vtclip.methods import METHODS
from vtclip.methods.base import Images
from vtclip.training.train import train_head

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The page's example, saved and registered as the page says."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    (tmp_path / "prototypes.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(methods._REGISTRY, "prototypes", "prototypes:Prototypes")
    yield code
    sys.modules.pop("prototypes", None)


def test_the_example_is_at_most_30_lines_long(example):
    assert len([line for line in example.splitlines() if line.strip()]) <= 30


def test_the_example_trains_a_head_that_classifies(example, on_disk, task):  # noqa: F811
    train_head(
        "prototypes", {"share": 1.0}, on_disk / "texts.parquet", on_disk / "shots.parquet",
        on_disk / "features.parquet", on_disk / "run", seed=1, device=torch.device("cpu"),
    )  # fmt: skip
    head = load_file(on_disk / "run" / "head.safetensors")
    method = METHODS["prototypes"](METHODS["prototypes"].settings_type(share=1.0))
    logits = method.classifier(head, task.texts)(Images(task.train.pooled[[9, 0, 6, 3], 0], None))
    assert logits.argmax(1).tolist() == [3, 0, 2, 1], "each shot is nearest to itself"


def test_the_page_tells_of_every_method():
    page = PAGE.read_text()
    assert all(f"| `{name}`" in page for name in METHODS)

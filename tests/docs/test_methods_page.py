"""docs/methods.md contains a method that works as it is."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.methods.test_folder import add_method  # noqa: F401  (a fixture)
from tests.training.test_images import fit, folder, predict  # noqa: F401
from vtclip.cost import Shape, Size, training_memory, training_minutes
from vtclip.methods import METHODS, check_methods
from vtclip.methods.base import Images, Method
from vtclip.training.predict import Trained

PAGE = Path(__file__).parents[2] / "docs" / "methods.md"


@pytest.fixture
def example(add_method):  # noqa: F811
    """The code of the page's example, saved as a method."""
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1)
    add_method("prototypes", code)
    return code


def make(**settings):
    """The example with an experiment's settings."""
    checked = check_methods({"prototypes": settings}, source="mine.yaml")["prototypes"]
    return METHODS["prototypes"](checked)


def test_the_example_makes_a_head_that_classifies(example, task):
    method, rows = make(share=1.0), [9, 0, 6, 3]  # one image a class
    labels = task.train.labels[rows]
    shots = replace(task.train, pooled=task.train.pooled[rows], labels=labels)
    task = replace(task, train=shots)
    head = method.initial_head(task)
    assert method.learner(head, task) is None
    logits = method.classifier(head, task.texts)(Images(shots.pooled[:, 0], None))
    assert torch.equal(logits.argmax(1), labels), "each shot is nearest to itself"


def test_the_example_has_a_title_and_costs_little_by_default(example):
    method = make()
    assert method.title == "Prototypes"
    size = Size(Shape(50, 1024, 1024), classes=1000, shots=16, images=16_000, views=5)
    work = method.work(size)
    assert training_minutes(work, on_gpu=False) < 5
    assert training_memory(size, work) < 3000


def test_the_example_that_trains_the_towers_learns_from_images_and_names_new_classes(
    add_method,  # noqa: F811
    folder,  # noqa: F811
    tmp_path,
):
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    add_method("bitfit", code)
    head = fit(folder, tmp_path / "run", method="bitfit", dataset="letters@base")
    assert sum(name.endswith("/bias") for name in head if "centres" not in name) == 33
    trained = Trained("letters@base", folder / "texts.parquet", folder / "manifest.parquet")
    found = predict(
        folder, tmp_path / "run", tmp_path / "new.parquet", method="bitfit", tested="letters@new",
        trained=trained,
    )  # fmt: skip
    assert set(found["prediction"]) <= {2, 3}


def test_the_page_lists_every_method_and_everything_that_a_method_can_define():
    page = PAGE.read_text()
    assert all(f"| `{name}`" in page for name in METHODS)
    public = {name for name in vars(Method) if not name.startswith("_")}
    assert [name for name in public if f"`{name}" not in page] == []


def test_the_page_of_settings_names_the_methods_whose_heads_name_new_classes():
    page = " ".join((PAGE.parent / "settings.md").read_text().split())
    _, _, after = page.partition("## Which heads can be tested on what")
    named = after.partition("All other methods")[0]
    for method in METHODS.values():
        if method.names_new_classes:
            assert method.title.removesuffix(" CLIP") in named

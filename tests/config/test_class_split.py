"""Base and new classes: the published protocol, against the published split files and picks."""

import json

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from vtclip.config.dataset import ClassSplit, dataset_name
from vtclip.data.manifest import read_coop_split
from vtclip.data.shots import sample_shots
from vtclip.features.store import open_features_writer
from vtclip.features.texts import write_texts
from vtclip.task import unit
from vtclip.training.tasks import Sources
from vtclip.training.train import train_head

# Classes base/new, validation images of base, test images base/new: counted in the split files by
# the rule of CoOp's own code, and confirmed by accuracies that others have logged.
PUBLISHED = {
    "Caltech101": (50, 50, 1036, 1549, 916),
    "DescribableTextures": (24, 23, 576, 864, 828),
    "EuroSAT": (5, 5, 2800, 4200, 3900),
    "OxfordFlowers": (51, 51, 696, 1053, 1410),
    "OxfordPets": (19, 18, 377, 1881, 1788),
    "StanfordCars": (98, 98, 812, 4002, 4039),
    "UCF101": (51, 50, 975, 1934, 1849),
}
PICKS = {  # dataset -> its split file, and the folder that begins the paths of the picks
    "caltech101": ("Caltech101", "101_ObjectCategories/"),
    "dtd": ("DescribableTextures", "images/"),
    "eurosat": ("EuroSAT", "2750/"),
}


@pytest.mark.parametrize(("classes", "base"), [(2, 1), (3, 2), (4, 2), (101, 51), (1000, 500)])
def test_base_is_the_first_and_the_larger_half_of_the_labels(classes, base):
    assert ClassSplit.parse("a@base").labels(classes) == range(base)
    assert ClassSplit.parse("a@new").labels(classes) == range(base, classes)
    assert ClassSplit.parse("a").labels(classes) == range(classes)


def test_a_half_is_named_after_its_dataset():
    assert str(ClassSplit("letters", "new")) == "letters@new"
    assert ClassSplit.parse("letters@new") == ("letters", "new", "")
    assert ClassSplit.parse("letters@fold12") == ("letters", "", "fold12")
    assert str(ClassSplit("letters", fold="fold12")) == "letters@fold12"
    assert dataset_name("letters@new") == dataset_name("letters") == "letters"
    for name in ("me@home", "new", "base"):
        assert ClassSplit.parse(name) == (name, "", "")


@pytest.mark.parametrize("name", PUBLISHED)
def test_classes_and_images_of_the_halves_are_the_published_ones(name, published):
    split = read_coop_split(published / "coop-splits" / f"split_zhou_{name}.json")
    classes = split["label"].n_unique()
    base, new = (ClassSplit("x", half).labels(classes) for half in ("base", "new"))
    count = {
        (part, half): split.filter(split=part)["label"].is_in(list(labels)).sum()
        for part in ("val", "test")
        for half, labels in (("base", base), ("new", new))
    }
    found = len(base), len(new), count["val", "base"], count["test", "base"], count["test", "new"]
    assert found == PUBLISHED[name]


@pytest.mark.parametrize("name", PICKS)
@pytest.mark.parametrize("run", ["1shot-seed1", "4shot-seed2", "16shot-seed3"])
def test_a_head_of_the_base_half_learns_the_published_picks_of_its_classes(
    name, run, published, tmp_path
):
    """Tip-Adapter keeps what it has learned: a key for each image, and its label."""
    split = read_coop_split(published / "coop-splits" / f"split_zhou_{PICKS[name][0]}.json")
    names = split.unique("label").sort("label")["class_name"].to_list()
    shots, seed = (int(part) for part in run.split("shot-seed"))
    sample = sample_shots(split, shots=shots, seed=seed)
    codes = torch.randn(sample.height, 8, generator=torch.Generator().manual_seed(0)).half()
    with open_features_writer(tmp_path / "features.parquet", {}) as writer:
        rows = sample.with_columns(view=pl.lit(0))
        writer.write(rows, codes, torch.zeros(len(codes), 1, 1))
    write_texts(tmp_path / "texts.parquet", names, torch.randn(len(names), 8), {"logit_scale": 1.0})
    train_head(
        "tip_adapter", {},
        Sources(tmp_path / "texts.parquet", [tmp_path / "features.parquet"], f"{name}@base"),
        tmp_path / "run", shots=shots, seed=seed, device=torch.device("cpu"),
    )  # fmt: skip
    picks = json.loads((published / "coop-shots" / f"{name}.json").read_text())[run]["train"]
    picks = [pick.removeprefix(PICKS[name][1]) for pick in picks]
    label = dict(split.select("image", "label").iter_rows())
    base = ClassSplit(name, "base").labels(len(names))
    kept = [pick for pick in picks if label[pick] in base]
    place = {image: row for row, image in enumerate(sample["image"])}
    head = load_file(tmp_path / "run" / "head.safetensors")
    torch.testing.assert_close(head["keys"], unit(codes[[place[pick] for pick in kept]].float()))
    assert head["labels"].tolist() == [label[pick] for pick in kept]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["dataset"], record["classes"]) == (f"{name}@base", -(-len(names) // 2))

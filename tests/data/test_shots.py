import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtclip.data.layouts import SCHEMA
from vtclip.data.manifest import read_coop_split
from vtclip.data.shots import keep_uneven, sample_shots
from vtclip.paths import ALL

PUBLISHED = {
    "caltech101": ("split_zhou_Caltech101.json", "101_ObjectCategories/"),
    "dtd": ("split_zhou_DescribableTextures.json", "images/"),
    "eurosat": ("split_zhou_EuroSAT.json", "2750/"),
}


@pytest.mark.parametrize("dataset", PUBLISHED)
def test_the_picks_are_coops_in_all_fifteen_files_in_order(published, dataset):
    split, prefix = PUBLISHED[dataset]
    picks = json.loads((published / "coop-shots" / f"{dataset}.json").read_text())
    manifest = read_coop_split(published / "coop-splits" / split)
    assert len(picks) == 15
    for name, expected in picks.items():
        shots, _, seed = name.partition("shot-seed")
        sampled = sample_shots(manifest, shots=int(shots), seed=int(seed))
        for part in ("train", "val"):
            images = [prefix + image for image in sampled.filter(split=part)["image"]]
            assert images == expected[part], name


def test_train_rows_come_first_and_val_has_four_a_class_at_most(manifest):
    sampled = sample_shots(manifest, shots=5, seed=1)
    assert sampled["split"].to_list() == ["train"] * 15 + ["val"] * 12
    assert sampled.group_by("label", "split").len()["len"].sort().to_list() == [4] * 3 + [5] * 3


def test_a_class_with_too_few_images_gives_all_it_has(manifest):
    sampled = sample_shots(manifest, shots=100, seed=1)
    assert sampled.filter(split="train").height == 18


def test_all_shots_are_every_training_image_whatever_the_seed_and_four_to_validate(manifest):
    uneven = manifest[1:]  # class 2 has one training image less
    for seed in (1, 2):
        sampled = sample_shots(uneven, shots=ALL, seed=seed)
        train = sampled.filter(split="train")
        assert train.sort("image").equals(uneven.filter(split="train").sort("image"))
        assert train.group_by("label").len().sort("label")["len"].to_list() == [6, 6, 5]
        assert sampled.filter(split="val").height == 3 * 4


def test_without_val_rows_the_validation_shots_are_unpicked_training_images(manifest):
    rows = manifest.filter(split="train")
    sampled = sample_shots(rows, shots=2, seed=1)
    train, val = sampled.filter(split="train"), sampled.filter(split="val")
    assert train.equals(sample_shots(manifest, shots=2, seed=1).filter(split="train"))
    assert val.group_by("label").len()["len"].to_list() == [2, 2, 2]
    assert not set(train["image"]) & set(val["image"])
    assert set(val["image"]) < set(rows["image"])


def test_shots_below_one_are_refused(manifest):
    with pytest.raises(ValueError, match="found 0"):
        sample_shots(manifest, shots=0, seed=1)


@settings(deadline=None)  # a busy machine is no fault
@given(
    labels=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    shots=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
def test_every_class_gives_distinct_train_images_of_its_own(labels, shots, seed):
    rows = [(f"{row}.png", label, str(label), "train") for row, label in enumerate(labels)]
    manifest = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    sampled = sample_shots(manifest, shots=shots, seed=seed)
    assert sampled.equals(sample_shots(manifest, shots=shots, seed=seed))
    assert sampled["image"].is_unique().all()
    train = sampled.filter(split="train")
    assert train.join(manifest, on=manifest.columns, how="anti").is_empty()
    for label in set(labels):
        assert train.filter(label=label).height == min(shots, labels.count(label))


def uneven(**fields):
    return {"min": 1, "max": 5, "seed": 7, "classes": {}} | fields


def test_uneven_numbers_are_the_same_from_the_same_seed_and_keep_the_first_of_each_draw(manifest):
    counts = []
    for seed in (1, 2):
        drawn = sample_shots(manifest, shots=5, seed=seed)
        kept = keep_uneven(drawn, **uneven())
        assert kept.equals(keep_uneven(drawn, **uneven()))
        numbers = kept.group_by("label", "split").len().sort("label", "split")
        counts.append(numbers)
        for label in (0, 1, 2):
            train = kept.filter(label=label, split="train")
            assert train.equals(drawn.filter(label=label, split="train")[: train.height])
            assert kept.filter(label=label, split="val").height == min(train.height, 4)
    assert counts[0].equals(counts[1])  # of one seed of the numbers, whatever images are drawn
    train = counts[0].filter(split="train")["len"]
    assert train.min() >= 1
    assert train.n_unique() > 1
    others = keep_uneven(sample_shots(manifest, shots=5, seed=1), **uneven(seed=8))
    assert not others.group_by("label", "split").len().sort("label", "split").equals(counts[0])


def test_a_class_may_have_a_number_of_its_own_and_an_unknown_one_is_refused(manifest):
    drawn = sample_shots(manifest, shots=5, seed=1)
    kept = keep_uneven(drawn, **uneven(classes={"class 1": 2, "class 0": 5}))
    assert kept.filter(class_name="class 1", split="train").height == 2
    assert kept.filter(class_name="class 0", split="train").height == 5
    with pytest.raises(ValueError, match="there is no class 'class 9'"):
        keep_uneven(drawn, **uneven(classes={"class 9": 2}))

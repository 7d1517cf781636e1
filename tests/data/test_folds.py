"""Folds of a manifest, and samples out of them."""

import numpy as np
import polars as pl
import pytest

from vtclip.data.layouts import SCHEMA, ManifestError
from vtclip.data.manifest import deal_folds
from vtclip.data.shots import sample_shots
from vtclip.paths import ALL


def make(*sizes):
    rows = [
        (f"{label}/{number}.jpg", label, f"class {label}", "")
        for label, size in enumerate(sizes)
        for number in range(size)
    ]
    return pl.DataFrame(rows, SCHEMA, orient="row")


def deal(manifest, folds=5, groups=None):
    groups = np.arange(manifest.height) if groups is None else groups
    return deal_folds(manifest, folds, groups, source="photographs")


@pytest.mark.parametrize("sizes", [(10, 10, 10), (3, 7, 20), (12, 5)])
def test_each_class_is_dealt_evenly_and_always_the_same_way(sizes):
    manifest = make(*sizes)
    divided = deal(manifest)
    counts = divided.pivot("split", index="label", values="image", aggregate_function="len")
    per_fold = counts.drop("label").fill_null(0).to_numpy()
    assert per_fold.shape[1] == 5
    assert (per_fold.max(axis=1) - per_fold.min(axis=1) <= 1).all()
    assert set(divided["image"]) == set(manifest["image"])
    assert divided.equals(deal(manifest))


def test_near_duplicates_are_in_one_fold_whatever_their_classes():
    manifest = make(10, 10)
    groups = np.arange(20)
    groups[[3, 4, 15]] = 3
    divided = deal(manifest, groups=groups)
    found = divided.filter(pl.col("image").is_in(["0/3.jpg", "0/4.jpg", "1/5.jpg"]))
    assert found["split"].n_unique() == 1


def test_a_class_that_a_fold_would_leave_without_images_is_refused():
    with pytest.raises(ManifestError, match="class 'class 1' has too few images for folds: 2"):
        deal(make(9, 2))
    with pytest.raises(ManifestError, match="class 'class 0' has too few images for folds: 6"):
        deal(make(6, 9), groups=np.array([0] * 5 + [*range(5, 15)]))
    with pytest.raises(ManifestError, match="expected at most 4"):
        deal(make(4, 3))


@pytest.mark.parametrize("shots", [1, 4, ALL])
def test_a_sample_takes_no_image_of_the_fold_that_is_left_out(shots):
    divided = deal(make(20, 20, 3))
    sampled = sample_shots(divided, shots=shots, seed=1, without="fold2")
    unseen = set(divided.filter(split="fold2")["image"])
    assert not unseen & set(sampled["image"])
    assert sampled["image"].is_unique().all()
    counts = {key: group.height for key, group in sampled.group_by("label", "split")}
    assert counts[0, "train"] == min(shots, 12)
    assert counts[0, "val"] == min(shots, 4)
    assert counts[2, "train"] == counts[2, "val"] == 1
    if shots == ALL:
        assert set(sampled["image"]) | unseen == set(divided["image"])

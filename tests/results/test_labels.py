"""Wrong labels, near-duplicates and classes that are alike are found by the features."""

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from tests.data.test_duplicates import draw
from vtclip.features.store import open_features_writer
from vtclip.parquet import write_parquet
from vtclip.results.labels import (
    check_labels,
    describe_check,
    describe_copies,
    find_test_copies,
    leave_one_out,
    ridge_system,
)

NAMES = {0: "ant", 1: "bee", 2: "cat", 3: "dog", 4: "elk"}


@pytest.fixture
def features():
    """Five classes of twenty images, apart from one another."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(5, 32)).repeat(20, axis=0) + generator.normal(size=(100, 32)) / 2


def table(labels):
    names = [f"{number}.jpg" for number in range(len(labels))]
    splits = ["train", "test"] * (len(labels) // 2)
    return pl.DataFrame({"image": names, "label": labels, "split": splits})


LABELS = np.arange(5).repeat(20)


def test_leave_one_out_equals_fitting_again_without_each_of_a_hundred_images(features):
    rows, strength = ridge_system(features)
    targets = np.eye(5)[LABELS]
    again = np.empty((100, 5))
    for left in range(100):
        kept = np.arange(100) != left
        system = rows[kept].T @ rows[kept] + strength * np.eye(33)
        again[left] = rows[left] @ np.linalg.solve(system, rows[kept].T @ targets[kept])
    assert np.abs(leave_one_out(features, LABELS) - again).max() < 1e-8


def test_flipped_labels_are_the_suspicious_ones_with_the_class_they_look_like(features):
    labels = LABELS.copy()
    labels[[3, 50, 99]] = [1, 4, 0]
    found = check_labels(table(labels), features).suspicious
    looks = dict(found.select("image", "looks_like").iter_rows())
    assert looks == {"3.jpg": 0, "50.jpg": 2, "99.jpg": 4}
    assert found["margin"].is_sorted(descending=True)
    assert all(20 * 2 <= int(n[:-4]) < 20 * 3 for n in found.filter(image="50.jpg")["nearest"][0])


def test_right_labels_give_no_findings_and_no_lines_to_paste(features):
    check = check_labels(table(LABELS), features)
    assert check.suspicious.is_empty()
    assert check.alike.is_empty()
    assert "leave_out:" not in describe_check(check, NAMES)


def test_classes_of_one_kind_are_alike(features):
    features[20:40] = features[:20] + np.random.default_rng(1).normal(size=(20, 32)) / 2
    check = check_labels(table(LABELS), features)
    assert check.alike.select("one", "other").rows() == [(0, 1)]
    assert "  ant and bee: " in "\n".join(describe_check(check, NAMES))


def test_lines_to_paste_leave_out_suspicious_images_and_copies_across_splits(features):
    labels = LABELS.copy()
    labels[3] = 1
    features[61] = features[60]
    lines = describe_check(check_labels(table(labels), features), NAMES)
    pasted = yaml.safe_load("\n".join(lines[lines.index("leave_out:") :]))
    assert pasted == {"leave_out": ["3.jpg", "61.jpg"]}
    assert "- 3.jpg  # bee, looks like ant" in lines
    assert "- 61.jpg  # the picture of 60.jpg (train and test)" in lines


@pytest.fixture
def planted(tmp_path):
    """Eight images drawn and eight test images; copies of the first two are test images."""
    for number in range(16):
        draw(number).save(tmp_path / f"{number}.png")
    draw(3).save(tmp_path / "4.png")  # copies in one split do not count
    draw(14).save(tmp_path / "15.png")
    draw(0).save(tmp_path / "8.png", "JPEG", quality=30)
    draw(1).crop((10, 8, 115, 88)).save(tmp_path / "9.png")
    images = pl.DataFrame({"image": [f"{number}.png" for number in range(16)]})
    manifest = images.with_columns(split=pl.Series(["train"] * 8 + ["test"] * 8))
    write_parquet(tmp_path / "manifest.parquet", manifest)
    for run in (1, 2):  # the runs of two seeds have four images in common
        write_parquet(tmp_path / f"seed{run}.parquet", manifest[(run - 1) * 2 : 4 + run * 2])
    return tmp_path


def write_features(folder, pooled):
    rows = pl.DataFrame({"image": [f"{n}.png" for n in range(16)], "label": [0] * 16})
    rows = rows.with_columns(split=pl.lit("train"), view=pl.lit(0))
    with open_features_writer(folder / "features.parquet", {}) as writer:
        writer.write(rows, pooled, torch.zeros(16, 1, pooled.shape[1]))
    return [folder / "features.parquet"]


def search(folder, *, seeds=(1, 2), features=()):
    samples = [folder / f"seed{seed}.parquet" for seed in seeds]
    return find_test_copies(
        folder / "copies", manifest=folder / "manifest.parquet", samples=samples, images=folder,
        features=features,
    )  # fmt: skip


def describe(folder):
    tested = pl.Series([f"{number}.png" for number in range(8, 16)] * 2)
    return describe_copies(folder / "copies.parquet", tested, lambda image: None)


def test_test_images_that_are_compressed_copies_of_images_drawn_are_found_and_counted(planted):
    found = search(planted)
    assert found.select("test_image", "image").rows() == [("8.png", "0.png")]
    assert found["cosine"].null_count() == 1
    assert found["bits"][0] <= 16
    assert (planted / "copies.csv").read_text().startswith("test_image,image,cosine,bits\n8.png,0")
    shown = describe(planted)
    assert (shown["number"], shown["by_hash"], shown["tested"]) == (1, 1, 8)
    assert shown["pairs"] == [[("8.png", None), ("0.png", None)]]


def test_features_find_a_cropped_copy_too(planted):
    pooled = torch.randn(16, 64, generator=torch.manual_seed(0))
    pooled[8:10] = pooled[:2] + 0.1 * torch.randn(2, 64, generator=torch.manual_seed(1))
    found = search(planted, features=write_features(planted, pooled))
    assert found.select("test_image", "image").rows() == [("8.png", "0.png"), ("9.png", "1.png")]
    assert found["cosine"].min() > 0.95
    assert (describe(planted)["number"], describe(planted)["by_hash"]) == (2, 1)


def test_images_that_no_run_has_drawn_do_not_count(planted):
    pooled = torch.eye(16)
    assert search(planted, seeds=[2], features=write_features(planted, pooled)).is_empty()
    shown = describe(planted)
    assert (shown["number"], shown["tested"], shown["pairs"]) == (0, 8, [])

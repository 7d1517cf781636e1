"""Wrong labels, near-duplicates and classes that are alike are found by the features."""

import numpy as np
import polars as pl
import pytest
import yaml

from vtclip.results.labels import check_labels, describe_check, leave_one_out, ridge_system

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

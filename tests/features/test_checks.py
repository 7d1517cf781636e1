"""Features and texts that are not those of the dataset are refused."""

import polars as pl
import pytest

from vtclip.features.store import FeatureError
from vtclip.features.texts import check_labels, check_test_images, check_texts

NAMES = ["class 0", "class 1", "class 2"]


@pytest.fixture
def path(manifest, tmp_path):
    manifest.write_parquet(tmp_path / "manifest.parquet")
    return tmp_path / "manifest.parquet"


def test_the_datasets_own_pass(manifest, path):
    rows = manifest.filter(split="test")
    check_texts("texts", NAMES, path)
    check_test_images(["test"], rows, path)
    check_labels("test", rows, "texts", 3)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (NAMES[:2], "expected 3 classes"),
        ([*NAMES, "class 3"], "found 4"),
        ([NAMES[1], NAMES[0], NAMES[2]], "class 0: expected 'class 0'"),
        ([*NAMES[:2], "class\u00a02"], r"'class 2', .* letter 6 on: U\+0020 in the first, U\+00A0"),
    ],
)
def test_texts_of_other_classes_or_in_another_order_are_refused(path, names, expected):
    with pytest.raises(FeatureError, match=f"texts.*{expected}"):
        check_texts("texts", names, path)


def test_half_of_the_test_images_are_refused(manifest, path):
    rows = manifest.filter(split="test")
    with pytest.raises(FeatureError, match="part: expected the 6 test images of .* found 3"):
        check_test_images(["part"], rows[:3], path)


def test_other_images_and_other_labels_are_refused(manifest, path):
    rows = manifest.filter(split="test")
    with pytest.raises(FeatureError, match="expected test/0-2.png with label 2"):
        check_test_images(["test"], rows.reverse(), path)
    swapped = rows.with_columns(label=2 - pl.col("label"))
    with pytest.raises(FeatureError, match="found test/0-2.png with label 0"):
        check_test_images(["test"], swapped, path)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_without_a_text_is_refused_with_its_image(manifest, label):
    rows = manifest.with_columns(
        label=pl.when(pl.col("image") == "val/1-0.png").then(label).otherwise("label")
    )
    with pytest.raises(FeatureError, match=rf"val/1-0.png: label {label}: texts has"):
        check_labels("features", rows, "texts", 3)

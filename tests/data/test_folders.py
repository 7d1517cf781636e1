import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vtclip.data.folders import list_images
from vtclip.data.trees import ManifestError, check_folder, read_tree


@pytest.fixture
def root(tmp_path):
    return tmp_path / "photos"


def fill(root, *paths):
    """Files without content."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def images(root, **class_names):
    return [image for image, *_ in list_images(root, class_names)]


CLASSES = ("cat/1.png", "dog/1.png")
SPLIT = [f"{split}/{image}" for split in ("train", "test") for image in CLASSES]


def test_images_come_by_split_then_class_then_path(root):
    fill(root, *SPLIT, "val/dog/2.png", "val/cat/b-1.png", "val/cat/b/1.png", "train/cat/10.png")
    assert list_images(root, {"dog": "a dog"}) == [
        ("train/cat/1.png", 0, "cat", "train"),
        ("train/cat/10.png", 0, "cat", "train"),
        ("train/dog/1.png", 1, "a dog", "train"),
        ("val/cat/b/1.png", 0, "cat", "val"),
        ("val/cat/b-1.png", 0, "cat", "val"),
        ("val/dog/2.png", 1, "a dog", "val"),
        ("test/cat/1.png", 0, "cat", "test"),
        ("test/dog/1.png", 1, "a dog", "test"),
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("Train", "Valid", "Test"), ("TRAIN", "VAL", "TEST"), ("training", "validation", "testing"),
        ("train", "dev", "test"),
    ],
)  # fmt: skip
def test_split_folders_are_known_in_any_case_and_by_their_usual_names(root, names):
    fill(root, *(f"{split}/{image}" for split in names for image in CLASSES))
    assert read_tree(root).splits == {"train", "val", "test"}
    assert [split for *_, split in list_images(root, {})] == ["train"] * 2 + ["val"] * 2 + [
        "test"
    ] * 2


AMBIGUOUS = {
    "two folders for one split": [*SPLIT, "Train/cat/2.png"],
    "two folders for validation": [*SPLIT, "val/cat/1.png", "valid/cat/1.png"],
    "splits beside classes": [*SPLIT, "bird/1.png"],
    "a class called as a split": ["train/1.png", "car/1.png", "bus/1.png"],
    "train alone": ["train/cat/1.png", "train/dog/1.png"],
    "train and val": ["train/cat/1.png", "train/dog/1.png", "val/cat/1.png", "val/dog/1.png"],
    "one class": ["cat/1.png"],
    "a folder around it": [f"mine/{path}" for path in SPLIT],
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_what_could_be_read_in_two_ways_is_refused_by_the_names_of_the_folders_alone(root, kind):
    fill(root, *AMBIGUOUS[kind])
    with pytest.raises(ManifestError, match=re.escape(str(root))):
        check_folder(root, {})
    with pytest.raises(ManifestError, match="expected"):
        list_images(root, {})


def test_class_folders_that_contain_split_folders_are_refused(root):
    fill(root, *(f"{name}/{split}/1.png" for name in ("cat", "dog") for split in ("Train", "test")))
    with pytest.raises(ManifestError, match="contain train, val or test folders: cat, dog"):
        list_images(root, {})


def test_a_folder_without_images_beside_the_split_folders_is_none_of_the_classes(root, caplog):
    fill(root, *SPLIT, "annotations/1.xml")
    assert images(root) == SPLIT
    assert "annotations/1.xml (in no class folder)" in caplog.text


def test_a_class_without_an_image_is_named(root):
    fill(root, *CLASSES, "dog/notes.txt")
    (root / "dog/1.png").unlink()
    with pytest.raises(ManifestError, match=r"class folders without an image: dog\."):
        list_images(root, {})


def test_a_class_in_another_case_in_one_split_is_named_from_the_names_alone(root):
    fill(root, *SPLIT[:3], "test/Dog/1.png")
    with pytest.raises(ManifestError, match=r"(?s)to train with: Dog.*mean 'dog'"):
        check_folder(root, {})


def test_hidden_folders_of_images_are_named_and_those_of_systems_are_not(root, caplog):
    fill(root, *CLASSES, ".NET/1.png", "cat/old~/2.png", "cat/3.png~", ".config/a.txt")
    fill(root, ".ipynb_checkpoints/1.png", "__MACOSX/1.png", ".AppleDouble/1.png")
    assert images(root) == [*CLASSES]
    assert (
        "2 skipped: .NET (a folder of images, hidden by its name: rename it), cat/old~"
        in (caplog.messages[0])
    )


def test_a_class_name_for_a_folder_that_is_not_there_is_refused(root):
    fill(root, *CLASSES)
    check_folder(root, {"cat": "a cat"})
    for ask in (check_folder, list_images):
        with pytest.raises(ManifestError, match="no class folder 'Cat'; found: cat, dog.*'cat'"):
            ask(root, {"Cat": "a cat"})


def test_pictures_of_any_suffix_are_taken_and_the_rest_is_counted_and_named(root, caplog):
    fill(root, *CLASSES, "cat/2.jfif", "cat/3.JPE", "cat/notes.txt", "loose.png", "dog/._1.png")
    picture = Image.fromarray(np.zeros((4, 4), np.uint8))
    for name in ("4", "5.jpg_large"):
        picture.save(root / "cat" / name, format="JPEG")
    (root / "dog" / "2.png").symlink_to("nowhere")
    Path(os.fsdecode(bytes(root) + b"/dog/\xe9.png")).touch()
    taken = ["cat/1.png", "cat/2.jfif", "cat/3.JPE", "cat/4", "cat/5.jpg_large", "dog/1.png"]
    assert images(root) == taken
    said = caplog.messages[0]
    assert "4 skipped" in said
    for expected in (
        "loose.png (in no class folder)",
        "cat/notes.txt (Pillow cannot read it as an image)",
        "dog/2.png (a link that leads nowhere)",
        "dog/\\xe9.png (its name is not UTF-8)",
    ):
        assert expected in said
    assert "._1.png" not in said


def test_pictures_in_linked_folders_and_in_folders_inside_a_class_are_taken(root, tmp_path):
    fill(root, *CLASSES, "cat/more/2.png")
    fill(tmp_path / "outside", "3.png")
    (root / "bird").symlink_to(tmp_path / "outside")
    (root / "dog" / "linked").symlink_to(tmp_path / "outside")
    assert images(root) == [
        "bird/3.png", "cat/1.png", "cat/more/2.png", "dog/1.png", "dog/linked/3.png"
    ]  # fmt: skip


def test_the_plan_opens_no_file(root):
    fill(root, *SPLIT)
    os.mkfifo(root / "train" / "cat" / "2.dat")  # who opens it waits for ever
    check_folder(root, {})
    assert images(root) == SPLIT

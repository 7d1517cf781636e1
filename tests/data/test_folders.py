"""Class folders are accepted, with their images; what could be read in two ways is refused."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from vtclip.config.dataset import Dataset
from vtclip.data import walk
from vtclip.data.folders import check_folder, list_images
from vtclip.data.walk import ManifestError, read_tree


def fill(root, *paths):
    """Files without content; a/{b,c}/1.png stands for two."""
    for path in paths:
        before, brace, rest = path.partition("{")
        if brace:
            inside, _, after = rest.partition("}")
            fill(root, *(f"{before}{part}{after}" for part in inside.split(",")))
        else:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()


@pytest.fixture
def root(tmp_path):
    return tmp_path / "photos"


NOT_CLASSES = {
    "splits by other names": ["{trn,tst}/{cat,dog}/1.png"],
    "queries and a gallery": ["{query,gallery}/{0001,0002}/1.png"],
    "folds": ["{fold1,fold2,fold3,fold4,fold5}/{cat,dog}/1.png"],
    "domains": ["{art,clipart,sketch}/{cat,dog,bird}/1.png"],
    "a hierarchy": ["animal/{cat,dog}/1.png", "plant/{oak,elm}/1.png"],
    "splits inside classes": ["{cat,dog}/{train,test}/1.png"],
    "images beside labels": ["images/{a,b}/1.png", "labels/{a,b}/1.txt"],
    "images beside previews": ["images/{a,b}/1.png", "previews/1.png"],
    "splits of images and of labels": ["{images,labels}/{train,val}/1.png"],
    "years and months": ["{2023,2024}/{01,02,03}/1.png"],
    "splits of another set in each": ["{old,new}/{Training,Testing}/{cat,dog}/1.png"],
    "a folder in each of the same name": ["{training_set,test_set}/images/{cat,dog}/1.png"],
    "one hierarchy among classes": ["car/1.png", "bus/1.png", "animal/{cat,dog}/1.png"],
    "a hierarchy in splits": ["{train,test}/{animal,plant}/{a,b}/1.png"],
    "domains with a preview each": ["{art,sketch}/0.png", "{art,sketch}/{cat,dog}/{1,2}.png"],
    "domains with a note each": ["{art,sketch}/README.txt", "{art,sketch}/{cat,dog}/1.png"],
    "one folder too many": ["archive/{train,test}/{cat,dog}/1.png"],
    "two folders for one split": ["{train,test,Train}/{cat,dog}/1.png"],
    "two folders for validation": ["{train,test}/{cat,dog}/1.png", "{val,valid}/cat/1.png"],
    "splits beside classes": ["{train,test}/{cat,dog}/1.png", "bird/1.png"],
    "a class called as a split": ["{train,car,bus}/1.png"],
    "train alone": ["train/{cat,dog}/1.png"],
    "train and val": ["{train,val}/{cat,dog}/1.png"],
    "one class": ["cat/1.png"],
}
ACCEPTED = {
    "class folders": ["{cat,dog}/1.png"],
    "many with images of the same names": ["{a,b,c,d,e,f}/{1,2,3}.png"],
    "numbers": ["{0,1,2}/1.png"],
    "splits": ["{train,val,test}/{cat,dog}/1.png"],
    "splits in other cases": ["{Train,VALID,testing}/{cat,dog}/1.png"],
    "images in a folder inside a class too": ["{cat,dog}/1.png", "cat/more/2.png"],
    "one folder for more images in each": ["{cat,dog}/1.png", "{cat,dog}/more/{2,3}.png"],
    "as many masks and drawings as images": ["{a,b}/{1,2}.png", "{a,b}/{masks,lines}/1.png"],
    "notes beside": ["{cat,dog}/1.png", "README.md", "cat/notes.txt"],
    "annotations beside splits": ["{train,test}/{cat,dog}/1.png", "xml/{cat,dog}/1.xml"],
    "names of other scripts": ["{чайка,鶴,café}/1.png"],
    "hidden folders inside": ["{cat,dog}/1.png", "{cat,dog}/.cache/1.png"],
    "names of months": ["{January,February}/1.png"],
    "classes named as domains": ["{art,sketch}/{1,2}.png"],
}


WITH_IMAGES = {"domains with a preview each", "domains with a note each"}  # or another file


@pytest.mark.parametrize("kind", NOT_CLASSES)
def test_a_tree_that_is_not_one_folder_per_class_is_refused_by_names_alone_where_they_say_so(
    root, kind
):
    fill(root, *NOT_CLASSES[kind])
    for read in (list_images, check_folder)[: 1 if kind in WITH_IMAGES else 2]:
        with pytest.raises(ManifestError, match=rf"{re.escape(str(root))}(?s:.*)expected"):
            read(root, {})


@pytest.mark.parametrize("kind", ACCEPTED)
def test_class_folders_are_accepted(root, kind):
    fill(root, *ACCEPTED[kind])
    check_folder(root, {})
    assert len({label for _, label, *_ in list_images(root, {})}) >= 2


def find_readings(error):
    """The keys that the error offers, each as in a dataset's file."""
    text = str(error.value).partition("`vtclip new`:")[2]
    return [yaml.safe_load(option) for option in re.split("(?m)^ *# .*$", text)[1:]]


@pytest.mark.parametrize(
    ("kind", "offered"),
    [
        ("splits by other names", [1, 2, {"trn": "train", "tst": "test"}]),
        ("queries and a gallery", [1, 2, {"gallery": "train", "query": "test"}]),
        ("a hierarchy", [1, 2]),
        (
            "a folder in each of the same name",
            [1, 3, {"test_set": "train", "training_set": "test"}],
        ),
        ("one hierarchy among classes", [1, None]),
        ("images beside previews", [1, None]),
        ("a hierarchy in splits", [1, 2]),
        ("domains with a preview each", [1, 2, {"art": "train", "sketch": "test"}]),
    ],
)
def test_the_refusal_shows_the_tree_and_every_key_that_it_offers_is_accepted(root, kind, offered):
    fill(root, *NOT_CLASSES[kind])
    with pytest.raises(ManifestError, match=r"found:\n    \w") as error:
        list_images(root, {})
    readings = find_readings(error)
    assert [keys.get("split_folders", keys.get("levels")) for keys in readings] == offered
    for keys in readings:
        dataset = Dataset(**{"title": "Mine", "layout": "folders", "folder": str(root)} | keys)
        given = {"levels": dataset.levels, "split_folders": dataset.split_folders}
        assert list_images(dataset.folder, {}, **given)


def test_levels_count_the_folders_down_to_the_classes_and_join_those_of_one_name(root):
    fill(root, *NOT_CLASSES["domains"])
    rows = list_images(root, {"dog": "a dog"}, levels=2)
    assert [row[1:3] for row in rows] == [(0, "bird")] * 3 + [(1, "cat")] * 3 + [(2, "a dog")] * 3
    assert rows[0][0] == "art/bird/1.png"


def test_split_folders_may_have_any_name_and_several_may_be_one_split(root):
    fill(root, *NOT_CLASSES["folds"])
    splits = dict.fromkeys(["fold1", "fold2", "fold3"], "train") | {"fold4": "val", "fold5": "test"}
    rows = list_images(root, {}, split_folders=splits)
    assert [split for *_, split in rows] == ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    with pytest.raises(ManifestError, match=r"beside other folders of images \(fold4, fold5\)"):
        read_tree(root, split_folders={"fold1": "train", "fold2": "train", "fold3": "test"})
    with pytest.raises(ManifestError, match=r"there is no folder 'fold6'.*Did you mean 'fold"):
        read_tree(root, split_folders={"fold1": "train", "fold6": "test"})


def test_one_folder_too_many_around_the_dataset_is_named(root):
    for paths, expected in (
        (["archive/{cat,dog}/1.png"], "Did you mean {}/archive, which contains cat, dog"),
        (["a/b/{train,test}/{cat,dog}/1.png"], "Did you mean {}/a/b, which contains test, train"),
        (["1.png"], "name the folder above"),
        (["{train,test}/images/{cat,dog}/1.png"], "write: levels: 2"),
    ):
        inside = root / str(len(expected))
        fill(inside, *paths)
        with pytest.raises(ManifestError, match=re.escape(expected.format(inside))):
            check_folder(inside, {})


def test_a_folder_that_cannot_be_read_is_named_with_the_reason(root, monkeypatch):
    fill(root, "{cat,dog}/1.png")
    listed = walk.Path.iterdir

    def refuse(path):
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(walk.Path, "iterdir", refuse)
    for closed in (root, root / "dog"):
        with pytest.raises(ManifestError, match=rf"{closed}: .* cannot be read: Permission denied"):
            check_folder(root, {})


@pytest.mark.parametrize("name", [" ", "\u3000", "_", "\u200b"])
def test_a_class_without_a_visible_name_is_refused(root, name):
    fill(root, "cat/1.png", f"{name}/1.png")
    with pytest.raises(ManifestError, match="is blank in a prompt"):
        check_folder(root, {})
    check_folder(root, {name: "a word"})
    with pytest.raises(ManifestError, match="is blank in a prompt"):
        check_folder(root, {name: "a word", "cat": ""})


def test_an_error_about_two_similar_names_shows_where_they_differ(root):
    fill(root, "{cat,cafe\u0301}/1.png")
    with pytest.raises(ManifestError, match=r"from letter 4 on: U\+00E9 in .*, U\+0065 U\+0301 in"):
        check_folder(root, {"caf\u00e9": "a place"})
    fill(root / "split", "{train,test}/cat/1.png", "train/caf\u00e9/1.png", "test/cafe\u0301/1.png")
    with pytest.raises(ManifestError, match=r"from letter 4 on: U\+00"):
        check_folder(root / "split", {})


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


def test_too_many_levels_are_named_with_those_that_fit(root):
    fill(root, "{cat,dog}/1.png")
    message = "expected two class folders or more 2 levels below, found none. If the classes are "
    with pytest.raises(ManifestError, match=f"{message}cat, dog, write: levels: 1"):
        list_images(root, {}, levels=2)

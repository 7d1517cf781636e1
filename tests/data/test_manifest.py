import json
import shutil

import polars as pl
import pytest

from vtclip.data.manifest import ManifestError, prepare_manifest, read_coop_split
from vtclip.files import DamagedError, build_folder, check_folder, sha256_of, write_record

SPLIT = {
    "train": [["a/1.png", 0, "cat"], ["b/2.png", 1, "dog"], ["b/5.png", 1, "dog"]],
    "val": [["a/3.png", 0, "cat"]],
    "test": [["b/4.png", 1, "dog"], ["a/6.png", 0, "cat"]],
}
COUNTS = {"train": 3, "val": 1, "test": 2, "classes": 2}


def coop(**changes):
    """The dataset's file, as plain values."""
    return {"layout": "coop", "split": "split.json", "images": "", "counts": COUNTS} | changes


@pytest.fixture
def dataset(tmp_path):
    """A folder with a split file and its images."""
    for rows in SPLIT.values():
        for image, *_ in rows:
            (tmp_path / image).parent.mkdir(exist_ok=True)
            (tmp_path / image).write_bytes(b"")
    write_split(tmp_path, SPLIT)
    return tmp_path


def write_split(folder, content):
    (folder / "split.json").write_text(json.dumps(content))


def test_the_manifest_on_disk_is_the_split_in_file_order(dataset):
    prepare_manifest(coop(), dataset, dataset / "manifest.parquet")
    expected = [(*row, split) for split, rows in SPLIT.items() for row in rows]
    assert read_coop_split(dataset / "split.json").rows() == expected
    assert pl.read_parquet(dataset / "manifest.parquet").rows() == expected


def test_image_paths_start_from_the_folder_that_the_datasets_file_names(dataset):
    (dataset / "photos").mkdir()
    for part in ("a", "b"):
        (dataset / part).rename(dataset / "photos" / part)
    manifest = prepare_manifest(coop(images="photos"), dataset, dataset / "m")
    assert manifest["image"][0] == "photos/a/1.png"


def test_a_slash_in_a_class_name_is_just_a_letter(dataset):
    names = {"cat": "2012 Ram C/V Cargo Van", "dog": "F-16A/B"}
    split = {
        part: [[image, label, names[name]] for image, label, name in rows]
        for part, rows in SPLIT.items()
    }
    write_split(dataset, split)
    manifest = prepare_manifest(coop(), dataset, dataset / "m")
    assert manifest["class_name"].unique().sort().to_list() == sorted(names.values())


def test_other_counts_than_the_datasets_file_promises_are_refused(dataset):
    with pytest.raises(ManifestError, match="expected .*'train': 4.*, found .*'train': 3"):
        prepare_manifest(coop(counts=COUNTS | {"train": 4}), dataset, dataset / "m")
    assert not (dataset / "m").exists()


def test_images_that_the_datasets_file_leaves_out_are_left_out_and_recorded(dataset):
    (dataset / "b/2.png").unlink()
    manifest = prepare_manifest(coop(leave_out=["b/2.png"]), dataset, dataset / "m")
    assert "b/2.png" not in manifest["image"]
    assert manifest.height == 5
    assert json.loads(pl.read_parquet_metadata(dataset / "m")["left_out"]) == ["b/2.png"]


def test_an_image_to_leave_out_that_the_split_does_not_have_is_refused(dataset):
    with pytest.raises(ManifestError, match=r"leave_out: the split has no 'c/9\.png'"):
        prepare_manifest(coop(leave_out=["c/9.png"]), dataset, dataset / "m")


WITHOUT = {
    "left out of training": ({"leave_out": ["b/2.png", "b/5.png"]}, SPLIT, "a training image: dog"),
    "left out of the test": ({"leave_out": ["a/6.png"]}, SPLIT, "a test image: cat"),
    "left out wholly": (
        {"leave_out": ["a/1.png", "a/3.png", "a/6.png"]}, SPLIT, "a training image: cat"
    ),
    "all left out of training": (
        {"leave_out": ["a/1.png", "b/2.png", "b/5.png"]}, SPLIT, "a training image: cat, dog"
    ),
    "not to train with in the split": (
        {}, SPLIT | {"train": SPLIT["train"][:1]}, "a training image: dog"
    ),
    "not to test with in the split": ({}, SPLIT | {"test": SPLIT["test"][:1]}, "a test image: cat"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WITHOUT)
def test_a_class_without_images_to_train_or_to_test_with_is_refused(dataset, kind):
    keys, split, expected = WITHOUT[kind]
    write_split(dataset, split)
    with pytest.raises(ManifestError, match=f"classes without {expected}\\.") as error:
        prepare_manifest(coop(counts=None, **keys), dataset, dataset / "m")
    assert ("leave_out names" in str(error.value)) == bool(keys)
    assert not (dataset / "m").exists()


def test_a_class_in_one_split_folder_alone_is_refused_in_a_users_folder_too(tmp_path):
    for image in ("train/cat/1.png", "train/dog/1.png", "test/dog/2.png"):
        (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / image).touch()
    (tmp_path / "test" / "cat").mkdir()
    mine = {"layout": "folders", "class_names": {}, "counts": None}
    with pytest.raises(ManifestError, match="classes without a test image: cat"):
        prepare_manifest(mine, tmp_path, tmp_path / "m")


def test_a_dataset_that_only_tests_needs_no_training_image(dataset):
    write_split(dataset, SPLIT | {"train": [], "val": []})
    assert prepare_manifest(coop(counts=None), dataset, dataset / "m").height == 2


def test_a_class_without_a_validation_image_gives_a_warning(dataset, caplog):
    prepare_manifest(coop(), dataset, dataset / "m")
    assert "classes without a validation image: dog." in caplog.text


@pytest.mark.parametrize("name", ["", " ", "_", "\u200b\u2003"])
def test_a_blank_class_name_is_refused(dataset, name):
    rows = {part: [[image, label, name if label else "cat"] for image, label, _ in SPLIT[part]]
            for part in SPLIT}  # fmt: skip
    write_split(dataset, rows)
    with pytest.raises(ManifestError, match="blank in a prompt"):
        prepare_manifest(coop(), dataset, dataset / "m")


@pytest.mark.parametrize(
    ("wanted", "there", "hint"),
    [
        ("b/4.png", "archive/b/4.png", r"There is 'archive/b/4\.png'\."),
        ("b/caf\u00e9.png", "b/cafe\u0301.png", "There is .* differ from letter 6 on: U.00E9 in"),
    ],
    ids=["one folder deeper", "another form"],
)
def test_an_image_that_is_in_another_place_or_form_is_named_there(dataset, wanted, there, hint):
    (dataset / "archive/b").mkdir(parents=True)
    (dataset / "b/4.png").rename(dataset / there)
    write_split(dataset, SPLIT | {"test": [[wanted, 1, "dog"], ["a/6.png", 0, "cat"]]})
    with pytest.raises(ManifestError, match=rf"(?s)missing:.*{hint}"):
        prepare_manifest(coop(), dataset, dataset / "m")


def test_images_that_are_not_there_are_all_named(dataset):
    (dataset / "a/1.png").unlink()
    (dataset / "b/4.png").unlink()
    with pytest.raises(ManifestError, match=r"2 of 6 .*missing:\n  a/1\.png\n  b/4\.png"):
        prepare_manifest(coop(), dataset, dataset / "m")


@pytest.mark.parametrize(
    ("part", "row", "places"),
    [
        ("test", ["a/1.png", 0, "cat"], r"train as 'cat' \(0\), and in test as 'cat' \(0\)"),
        ("test", ["a/./1.png", 0, "cat"], "train as .*, and in test as"),
        ("test", ["b/4.png", 1, "dog"], "test as 'dog' .*, and in test as 'dog'"),
        ("train", ["a/1.png", 1, "dog"], "train as 'cat' .*, and in train as 'dog'"),
    ],
    ids=["in two splits", "spelled otherwise", "in one split", "under two labels"],
)
def test_an_image_that_comes_twice_is_refused_with_both_places(dataset, part, row, places):
    write_split(dataset, SPLIT | {part: [*SPLIT[part], row]})
    with pytest.raises(ManifestError, match=rf"image '{row[0]}' is listed twice.\n.*{places}"):
        prepare_manifest(coop(counts=None), dataset, dataset / "m")
    assert not (dataset / "m").exists()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Dog", "'dog' of b/2.png, and 'Dog' of b/4.png"),
        ("dog ", "and 'dog ' of b/4.png .they differ from letter 4 on: nothing in .*, U.0020 in"),
    ],
)
def test_two_spellings_of_one_class_are_both_shown(dataset, name, shown):
    write_split(dataset, SPLIT | {"test": [["b/4.png", 1, name], ["a/6.png", 0, "cat"]]})
    with pytest.raises(ManifestError, match=rf"label 1 has two class names.*\n.*{shown}"):
        read_coop_split(dataset / "split.json")


def test_a_label_that_no_image_has_is_named(dataset):
    write_split(dataset, SPLIT | {"val": [["a/3.png", 10**6, "lynx"]]})
    with pytest.raises(ManifestError, match=r"no image has the label 2.*\n.*3 labels, up to"):
        read_coop_split(dataset / "split.json")


def test_two_classes_of_one_name_are_legal(dataset):
    split = {part: [[image, label, "crane"] for image, label, _ in SPLIT[part]] for part in SPLIT}
    write_split(dataset, split)
    assert prepare_manifest(coop(), dataset, dataset / "m")["label"].n_unique() == 2


@pytest.mark.parametrize("image", ["../a.png", "a/../../a.png", "/etc/a.png", ".."])
def test_an_image_outside_the_datasets_folder_is_refused_though_it_is_there(dataset, image):
    write_split(dataset, SPLIT | {"val": [[image, 0, "cat"]]})
    for read in (read_coop_split, lambda path: prepare_manifest(coop(), dataset, dataset / "m")):
        with pytest.raises(ManifestError, match=rf"'{image}' would be read outside"):
            read(dataset / "split.json")
    write_split(dataset, SPLIT)
    with pytest.raises(ManifestError, match=r"'\.\./x/a/1\.png' would be read outside"):
        prepare_manifest(coop(images="../x"), dataset, dataset / "m")


def written_with(dataset, **arguments) -> bytes:
    prepare_manifest(coop(), dataset, dataset / "m", **arguments)
    return (dataset / "m").read_bytes()


def test_the_manifest_is_another_one_once_an_image_is_though_names_and_sizes_stay(dataset):
    (dataset / "b/4.png").write_bytes(b"one")
    before = written_with(dataset)
    assert written_with(dataset) == before
    (dataset / "b/4.png").write_bytes(b"two")
    assert written_with(dataset) != before


def test_the_manifest_is_another_one_once_the_receipt_is_of_other_images(dataset):
    receipt = dataset / "receipt.json"
    receipt.write_text('{"sha256": "a"}')
    before = written_with(dataset, receipt=receipt)
    receipt.write_text('{"sha256": "b"}')
    assert written_with(dataset, receipt=receipt) != before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"images": 4}'])
def test_a_receipt_without_a_checksum_is_refused_with_what_to_do(dataset, text):
    (dataset / "receipt.json").write_text(text)
    with pytest.raises(DamagedError, match=r"receipt\.json: .*Delete it and run again"):
        written_with(dataset, receipt=dataset / "receipt.json")


def test_a_split_file_that_changed_after_it_was_unpacked_is_refused_by_name(tmp_path):
    def fill(new):
        (new / "split.json").write_text(json.dumps(SPLIT))
        return {"split.json": sha256_of(new / "split.json")}

    folder, receipt = tmp_path / "images", tmp_path / "images.json"
    build_folder(folder, receipt, fill, sources="")
    check_folder(folder, receipt)
    (folder / "split.json").write_text(json.dumps(SPLIT) + " ")
    match = r"split\.json: the file is damaged: .* Delete .*images\.json and run again"
    with pytest.raises(DamagedError, match=match):
        check_folder(folder, receipt)


def test_a_receipt_of_images_that_was_edited_is_refused_by_name(dataset):
    receipt = dataset / "receipt.json"
    write_record(receipt, {"files": 4, "sha256": "a"})
    written_with(dataset, receipt=receipt)
    receipt.write_text(receipt.read_text().replace('"a"', '"b"', 1))
    with pytest.raises(DamagedError, match=r"receipt\.json: the file is damaged"):
        written_with(dataset, receipt=receipt)


@pytest.fixture
def distinct(dataset):
    """The dataset, each image with a content of its own."""
    for number, image in enumerate(image for rows in SPLIT.values() for image, *_ in rows):
        (dataset / image).write_bytes(bytes([number]))
    return dataset


def test_images_that_all_differ_give_no_warning(distinct, caplog):
    written_with(distinct)
    assert pl.read_parquet_metadata(distinct / "m")["repeated"] == "0"
    assert "same content" not in caplog.text


@pytest.mark.parametrize(
    ("copy", "expected"),
    [
        ("a/3.png", "a/1.png (train, cat) = a/3.png (val, cat)"),
        ("b/2.png", "a/1.png (train, cat) = b/2.png (train, dog)"),
        ("b/4.png", "a/1.png (train, cat) = b/4.png (test, dog)"),
    ],
    ids=["two splits", "two classes", "both"],
)
def test_equal_images_in_two_splits_or_classes_give_a_warning(distinct, caplog, copy, expected):
    shutil.copy(distinct / "a/1.png", distinct / copy)
    written_with(distinct)
    assert pl.read_parquet_metadata(distinct / "m")["repeated"] == "1"
    assert expected in caplog.text


def test_a_missing_split_file_is_an_error_and_no_invented_split(dataset):
    with pytest.raises(ManifestError, match="never invented"):
        read_coop_split(dataset / "other.json")


OTHER_FORMS = {
    "a list": [],
    "no test": {"train": []},
    "label is text": SPLIT | {"val": [["a/3.png", "0", "cat"]]},
    "no name": SPLIT | {"val": [["a/3.png", 0]]},
    "two names": SPLIT | {"val": [["a/3.png", 0, "lynx"]]},
    "label 2 is missing": SPLIT | {"val": [["a/3.png", 3, "lynx"]]},
    "label is true": SPLIT | {"val": [["a/3.png", True, "dog"]]},
    "huge label": SPLIT | {"val": [["a/3.png", 10**20, "dog"]]},
    "negative label": SPLIT | {"val": [["a/3.png", -1, "dog"]]},
    "half a letter": SPLIT | {"val": [["a/\ud800.png", 0, "cat"]]},
    "a number": SPLIT | {"val": 3},
    "null": SPLIT | {"val": None},
}


@pytest.mark.parametrize("kind", OTHER_FORMS)
def test_a_split_of_another_form_is_refused_by_name(dataset, kind):
    write_split(dataset, OTHER_FORMS[kind])
    with pytest.raises(ManifestError, match=r"split\.json"):
        read_coop_split(dataset / "split.json")

import pytest

from vtclip.data.layouts import ManifestError, read_layout, read_wanted


def folders(**changes):
    fractions = {"train": 0.5, "val": 0.2, "seed": 0}
    return {"layout": "folders", "class_names": {}, "fractions": fractions} | changes


@pytest.fixture
def photographs(tmp_path):
    """Two class folders of ten and five files, and a note that is no image."""
    for name, number in (("zebra", 10), ("ant", 5)):
        (tmp_path / name).mkdir()
        for image in range(number):
            (tmp_path / name / f"{image}.JPG").touch()
    (tmp_path / "zebra" / "notes.txt").touch()
    return tmp_path


def counts(manifest):
    return {
        (split, name): group.height
        for (split, name), group in manifest.group_by("split", "class_name")
    }


def test_one_folder_of_class_folders_is_split_by_fractions_class_by_class(photographs):
    manifest = read_layout(folders(), photographs)
    assert counts(manifest) == {
        ("train", "zebra"): 5, ("val", "zebra"): 2, ("test", "zebra"): 3,
        ("train", "ant"): 2, ("val", "ant"): 1, ("test", "ant"): 2,
    }  # fmt: skip
    assert manifest["image"].is_unique().all()
    assert manifest.filter(class_name="ant")["label"].unique().to_list() == [0]


def test_the_fractions_seed_decides_the_split(photographs):
    once, again = (read_layout(folders(), photographs) for _ in range(2))
    other = read_layout(folders(fractions={"train": 0.5, "val": 0.2, "seed": 1}), photographs)
    assert once.equals(again)
    assert not once.equals(other)


def test_train_val_and_test_folders_are_copied(tmp_path):
    for split, number in (("train", 3), ("test", 2)):
        for name in ("b", "a"):
            (tmp_path / split / name).mkdir(parents=True)
            for image in range(number):
                (tmp_path / split / name / f"{image}.png").touch()
    manifest = read_layout(folders(class_names={"b": "bee"}), tmp_path)
    assert counts(manifest) == {
        ("train", "a"): 3, ("train", "bee"): 3, ("test", "a"): 2, ("test", "bee"): 2
    }  # fmt: skip
    assert manifest.filter(class_name="bee")["label"].unique().to_list() == [1]


@pytest.mark.parametrize("layout", ["no folder", "one class", "too few images"])
def test_a_folder_that_cannot_be_split_is_refused_by_name(tmp_path, layout):
    root = tmp_path / "photos"
    if layout != "no folder":
        (root / "cat").mkdir(parents=True)
    if layout == "too few images":
        (root / "dog").mkdir()
        (root / "dog" / "1.png").touch()
        (root / "cat" / "1.png").touch()
    with pytest.raises(ManifestError, match="photos|class 'cat'"):
        read_layout(folders(), root)


def test_fgvc_aircraft_is_read_from_its_variant_lists(tmp_path):
    data = tmp_path / "fgvc" / "data"
    data.mkdir(parents=True)
    (data / "variants.txt").write_text("F/A-18\n707-320\n")
    for split, line in (("train", "01 707-320"), ("val", "02 F/A-18"), ("test", "03 707-320")):
        (data / f"images_variant_{split}.txt").write_text(f"{line}\n")
    manifest = read_layout({"layout": "fgvc", "images": "fgvc/data"}, tmp_path)
    assert manifest.rows() == [
        ("fgvc/data/images/01.jpg", 1, "707-320", "train"),
        ("fgvc/data/images/02.jpg", 0, "F/A-18", "val"),
        ("fgvc/data/images/03.jpg", 1, "707-320", "test"),
    ]


def test_fgvc_aircraft_without_its_lists_is_an_error_and_no_invented_split(tmp_path):
    with pytest.raises(ManifestError, match=r"variants\.txt: the file is missing"):
        read_layout({"layout": "fgvc", "images": ""}, tmp_path)


def test_an_aircraft_of_a_variant_that_is_not_listed_is_named(tmp_path):
    (tmp_path / "variants.txt").write_text("707-320\n")
    (tmp_path / "images_variant_train.txt").write_text("01 747-400\n")
    with pytest.raises(ManifestError, match=r"'01 747-400': variants\.txt has no such variant"):
        read_layout({"layout": "fgvc", "images": ""}, tmp_path)


def test_a_split_names_the_files_to_unpack(tmp_path):
    (tmp_path / "s.json").write_text(
        '{"train": [["a.jpg", 0, "x"]], "val": [["b.jpg", 1, "y"]], "test": []}'
    )
    dataset = {"layout": "coop", "split": "s.json", "images": "jpg"}
    assert read_wanted(dataset, tmp_path) == {"jpg/a.jpg", "jpg/b.jpg"}
    assert read_wanted({"layout": "fgvc"}, tmp_path) is None

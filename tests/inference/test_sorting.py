import os

import pytest
import torch
from PIL import Image

from tests.cli.conftest import NAMES
from vtclip.inference.classifier import Prediction
from vtclip.inference.sorting import JOURNAL, name_folders, sorting


def predict(image, *probabilities, **more):
    return Prediction(str(image), NAMES, torch.tensor(probabilities), **more)


def start(folder, *, copies=False, refuse=None):
    return sorting(folder, NAMES, copies=copies, made_by={"head": "a", "--refuse": refuse})


def test_a_set_of_two_classes_is_unsure_and_a_refusal_is_unknown(tmp_path):
    image = tmp_path / "1.png"
    Image.new("RGB", (4, 4)).save(image)
    folders = [
        (predict(image, 0.2, 0.7, 0.1), "a & b"),
        (predict(image, 0.2, 0.7, 0.1, classes=["a & b"]), "a & b"),
        (predict(image, 0.2, 0.7, 0.1, classes=["a & b", "cow"]), "unsure"),
        (predict(image, 0.2, 0.7, 0.1, classes=[]), "unsure"),
        (predict(image, 0.2, 0.7, 0.1, classes=["a & b"], is_unknown=True), "unknown"),
    ]
    with start(tmp_path / "sorted") as sorter:
        for prediction, folder in folders:
            assert sorter.place(prediction) == folder
            assert (tmp_path / "sorted" / folder / "1.png").samefile(image)


@pytest.mark.parametrize("copies", [False, True])
def test_a_file_that_is_there_is_never_written_over(tmp_path, copies):
    theirs = tmp_path / "sorted" / "cow" / "1.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    image = tmp_path / "1.png"
    image.write_text("mine")
    with start(tmp_path / "sorted", copies=copies) as sorter:
        sorter.place(predict(image, 0, 0, 1))
    assert theirs.read_text() == "theirs"
    assert theirs.with_name("1-2.png").read_text() == "mine"


@pytest.mark.parametrize("copies", [False, True])
def test_what_was_killed_at_any_moment_goes_on_without_loss_and_without_doubles(tmp_path, copies):
    images = [tmp_path / f"{number}.png" for number in range(3)]
    for image in images:
        image.write_text(image.name)
    folder = tmp_path / "sorted"
    with start(folder, copies=copies) as sorter:
        for image in images[:2]:
            sorter.place(predict(image, 0, 0, 1))
    journal = folder / JOURNAL
    os.truncate(journal, journal.stat().st_size - 9)  # killed within the line of the second image
    with start(folder, copies=copies) as sorter:
        assert sorter.left(map(str, images)) == [str(image) for image in images[1:]]
        for image in images[1:]:
            sorter.place(predict(image, 0, 0, 1))
        assert sorter.left(map(str, images)) == []
    assert sorted(path.name for path in (folder / "cow").iterdir()) == ["0.png", "1.png", "2.png"]


def test_two_processes_do_not_sort_into_one_folder(tmp_path):
    with (
        start(tmp_path),
        pytest.raises(ValueError, match="another process is sorting"),
        start(tmp_path),
    ):
        pass


def test_no_name_of_a_class_leads_out_of_its_folder_or_meets_another():
    names = ["../etc", "a/b", "a:b", "unsure", "Cow", "cow", "..", "", "x" * 500, "été"]
    folders = name_folders(names)
    assert len({name.casefold() for name in folders} | {"unsure", "unknown"}) == len(names) + 2
    assert all(0 < len(name) < 80 and not set(name) & set("/\\:\0") for name in folders)
    assert not {".", ".."} & set(folders)
    assert folders[-1] == "été"


def test_a_folder_of_another_head_or_of_other_options_is_refused(tmp_path):
    with start(tmp_path, refuse=None):
        pass
    message = "sorted into it with another --refuse. Sort into another folder."
    with (
        pytest.raises(ValueError, match=message),
        start(tmp_path, refuse=0.1),
    ):
        pass


def test_images_that_are_all_in_the_folder_to_sort_into_are_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="all images are in the folder"),
        start(tmp_path) as sorter,
    ):
        sorter.left([str(tmp_path / "cow" / "1.png")])

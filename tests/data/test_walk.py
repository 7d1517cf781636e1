import os
from pathlib import Path

import pytest

from vtclip.data.walk import list_entries, walk


@pytest.fixture
def photos(tmp_path):
    """A folder of pictures, with one in a class folder."""
    root = tmp_path / "photos"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "1.png").touch()
    return root


def paths(root, kind):
    return sorted(entry.path for entry in walk(root) if entry.kind == kind)


def test_paths_start_at_the_root(photos):
    assert paths(photos, "folder") == ["cat"]
    assert paths(photos, "file") == ["cat/1.png"]


def test_links_are_followed_to_files_and_to_folders(photos, tmp_path):
    (tmp_path / "outside" / "inner").mkdir(parents=True)
    (tmp_path / "outside" / "inner" / "2.png").touch()
    (photos / "dog").symlink_to(tmp_path / "outside")
    (photos / "cat" / "3.png").symlink_to(photos / "cat" / "1.png")
    assert paths(photos, "folder") == ["cat", "dog", "dog/inner"]
    assert paths(photos, "file") == ["cat/1.png", "cat/3.png", "dog/inner/2.png"]


@pytest.mark.parametrize("target", ["photos", "photos/cat", "."])
def test_a_link_back_to_a_folder_above_is_passed_over(photos, tmp_path, target):
    (photos / "cat" / "loop").symlink_to(tmp_path / target)
    assert paths(photos, "file") == ["cat/1.png"]
    [loop] = [entry for entry in walk(photos) if entry.kind == "passed over"]
    assert loop.note == "a folder inside itself"


def test_two_links_to_one_folder_are_both_followed(photos):
    for name in ("train", "test"):
        (photos / name).symlink_to(photos / "cat")
    assert paths(photos, "file") == ["cat/1.png", "test/1.png", "train/1.png"]


HIDDEN = [".DS_Store", "._0.png", ".ipynb_checkpoints", "Thumbs.db", "THUMBS.DB", "desktop.ini",
          "__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information",
          "1.png~"]  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_and_system_entries_are_not_looked_into(photos, name):
    (photos / name).mkdir()
    (photos / name / "2.png").touch()
    (photos / "cat" / name).touch()
    assert paths(photos, "file") == ["cat/1.png"]
    assert [e.path for e in list_entries(photos) if e.kind == "folder"] == ["cat"]
    assert paths(photos, "hidden") == sorted([name, f"cat/{name}"])


def test_what_cannot_be_used_is_passed_over_with_the_reason(photos):
    (photos / "cat" / "2.png").symlink_to("nowhere.png")
    (photos / "cat" / "3.png").symlink_to("3.png")
    os.mkfifo(photos / "cat" / "4.png")
    Path(os.fsdecode(bytes(photos) + b"/caf\xe9")).mkdir()
    Path(os.fsdecode(bytes(photos) + b"/cat/\xe9.png")).touch()
    passed = {entry.path: entry.note for entry in walk(photos) if entry.kind == "passed over"}
    assert passed == {
        "cat/2.png": "a link that leads nowhere",
        "cat/3.png": "a link that leads nowhere",
        "cat/4.png": "no plain file",
        "caf\\xe9": "its name is not UTF-8",
        "cat/\\xe9.png": "its name is not UTF-8",
    }
    "".join(passed).encode()  # a log can contain them
    assert paths(photos, "file") == ["cat/1.png"]


def test_a_folder_that_is_not_there_is_passed_over(tmp_path):
    [entry] = walk(tmp_path / "none")
    assert (entry.kind, entry.note) == ("passed over", "No such file or directory")

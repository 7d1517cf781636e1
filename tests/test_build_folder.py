import json
import logging
import threading
import time
from contextlib import suppress

import pytest

from vtclip.files import build_folder, sha256_of


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "images" / "dtd"


def make(folder, files, sources="this", before=lambda: None):
    """Make a folder of these files; `before` runs before the first is written."""

    def fill(new):
        before()
        for path, content in files.items():
            (new / path).write_text(content)
        return {path: sha256_of(new / path) for path in files}

    return build_folder(folder, folder.with_suffix(".json"), fill, sources=sources)


def receipt(folder):
    return json.loads(folder.with_suffix(".json").read_text())


def read(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def fail():
    raise OSError("no space")


def hidden(folder):
    return {path.name for path in folder.parent.glob(".*")} - {f".{folder.name}.json.lock"}


def test_the_receipt_follows_paths_and_contents_and_nothing_else(folder):
    def made(**files):
        assert make(folder, files) == len(files)
        return receipt(folder)

    first = made(a="1", b="2")
    assert first["files"] == 2
    assert made(b="2", a="1") == first
    for other in ({"a": "1", "b": "3"}, {"a": "1", "c": "2"}, {"a": "1"}):
        assert made(**other)["sha256"] != first["sha256"]
    assert read(folder) == {"a": "1"}
    assert hidden(folder) == set()


def test_a_failure_leaves_the_old_folder_without_a_receipt_and_nothing_beside_it(folder):
    make(folder, {"a": "1"})
    with pytest.raises(OSError, match="no space"):
        make(folder, {"a": "2"}, before=fail)
    assert read(folder) == {"a": "1"}
    assert not folder.with_suffix(".json").exists()
    assert hidden(folder) == set()


def test_files_that_are_not_there_get_no_receipt(folder):
    with pytest.raises(RuntimeError, match="1 files were written, but 0 are there"):
        build_folder(folder, folder.with_suffix(".json"), lambda new: {"a": "0"}, sources="this")
    assert not folder.exists()
    assert not folder.with_suffix(".json").exists()


def test_what_killed_processes_left_is_removed_and_nothing_else(folder):
    mine, others = folder.parent / ".dtd.abcd_ef1", folder.parent / ".dtd.more.abcd_ef1"
    for path in (mine, others):
        (path / "new").mkdir(parents=True)
    make(folder, {"a": "1"})
    assert hidden(folder) == {others.name}


def test_a_new_folder_is_as_readable_as_the_umask_lets_it_be(folder):
    make(folder, {"a": "1"})
    (folder.parent / "plain").mkdir()
    assert folder.stat().st_mode == (folder.parent / "plain").stat().st_mode


def test_a_link_to_another_disk_is_replaced_and_what_it_leads_to_stays(folder, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "kept").touch()
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "disk")
    make(folder, {"a": "1"})
    assert read(folder) == {"a": "1"}
    assert (tmp_path / "disk" / "kept").exists()


@pytest.mark.parametrize(
    ("sources", "before", "expected"),
    [
        ("this", lambda: None, {"a": "first"}),  # taken as it is
        ("that", lambda: None, {"a": "second"}),
        ("this", fail, {"a": "second"}),
    ],
    ids=["the same", "another", "the same, but it failed"],
)
def test_a_folder_that_another_process_makes_is_waited_for(
    folder, caplog, sources, before, expected
):
    caplog.set_level(logging.INFO)
    begun, go = threading.Event(), threading.Event()

    def first():
        begun.set()
        go.wait()
        before()

    def quietly():
        with suppress(OSError):
            make(folder, {"a": "first"}, before=first)

    threads = [
        threading.Thread(target=quietly),
        threading.Thread(target=make, args=(folder, {"a": "second"}, sources)),
    ]
    threads[0].start()
    begun.wait()
    threads[1].start()
    while "another process is at work: waiting" not in caplog.text:
        time.sleep(0.01)
    go.set()
    for thread in threads:
        thread.join()
    assert read(folder) == expected
    assert receipt(folder)["files"] == 1

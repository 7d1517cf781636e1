import errno
import json
import os
import stat
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from vtclip.files import (
    BLANK,
    MARK,
    DamagedError,
    atomic_write,
    check_receipt,
    check_seal,
    name_file_in_errors,
    owner,
    read_record,
    remove_leftovers,
    write_json,
    write_receipt,
    write_record,
)
from vtclip.tensors import write_tensors


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_appears_only_when_the_block_has_ended(tmp_path):
    path = tmp_path / "deep" / "table.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"


def test_json_is_written_with_its_letters(tmp_path):
    write_json(tmp_path / "x.json", {"name": "São"})
    assert "São" in (tmp_path / "x.json").read_text(encoding="utf-8")


def test_what_a_library_keeps_to_itself_gets_the_usual_permissions(tmp_path):
    before = os.umask(0o022)
    try:
        with atomic_write(tmp_path / "head.safetensors") as temporary:
            save_file({"x": torch.zeros(2)}, temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "head.safetensors").stat().st_mode) == 0o644


KILLED = """
import os, signal, sys
from vtclip.files import atomic_write
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("half")
    temporary.with_name(".tmpABCDEF").write_text("as safetensors writes beside it")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_next_writer_removes_what_a_killed_one_left(tmp_path):
    path = tmp_path / "table.txt"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    (left,) = tmp_path.iterdir()
    with atomic_write(path) as temporary, atomic_write(tmp_path / "other.txt") as other:
        assert not left.exists()
        temporary.write_text("whole")
        other.write_text("whole")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["other.txt", "table.txt"]


def test_only_what_dead_processes_of_this_machine_left_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = owner().replace(str(os.getpid()), str(ended.pid))
    kept = [f"a-{owner()}.x1", f"b-{dead}.x1", f"a-other.{ended.pid}.x1", f"a-{dead}"]
    for name in [*kept, f"a-{dead}.x1"]:
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path, "a-")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match=r"head\.safetensors: .*No space left"):
        write_tensors(tmp_path / "head.safetensors", {"x": torch.zeros(2)})
    match = r"No space left.*table\.txt"
    with pytest.raises(OSError, match=match), atomic_write(tmp_path / "table.txt"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_no_flipped_bit_of_a_sealed_file_passes(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": torch.ones(3)}, {"seal": MARK + BLANK})
    check_seal(path)
    written = path.read_bytes()
    for place in range(8 * len(written)):
        damaged = bytearray(written)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"x\.safetensors"):
            check_seal(path)


def test_no_flipped_bit_of_a_record_gives_other_values(tmp_path):
    path, content = tmp_path / "run.json", {"method": "vt_clip", "seconds": 1.25, "name": "São"}
    write_record(path, content)
    written = path.read_bytes()
    assert read_record(path) == content
    for place in range(8 * len(written)):
        damaged = bytearray(written)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = read_record(path)
        except DamagedError:
            continue
        assert {key: found[key] for key in content} == content  # a flip in the seal's own name


def test_a_record_that_somebody_else_wrote_passes(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"seconds": 2}))
    assert read_record(tmp_path / "run.json") == {"seconds": 2}


def test_a_file_that_differs_from_its_receipt_is_refused_by_name(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"whole")
    write_receipt(path)
    check_receipt(path)
    path.write_bytes(b"whale")
    with pytest.raises(DamagedError, match=r"weights\.safetensors: the file is damaged.*Delete it"):
        check_receipt(path)


def test_a_disk_that_fails_is_no_damaged_file():
    with pytest.raises(PermissionError), name_file_in_errors("x"):
        raise PermissionError(13, "no")

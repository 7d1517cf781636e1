"""Every command ends in one line for a failure that can be expected."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from safetensors import SafetensorError

from vtclip.__main__ import main, make_parser
from vtclip.cli import classify, export, status

EXPORT = ["export", "mine/pets/vt_clip/1shot-seed1", "pets.safetensors"]
FAILURES = {
    "a full disk": (OSError(28, "No space left on device", "x"), "No space left on device: 'x'"),
    "no permission": (PermissionError(13, "Permission denied", "x"), "Permission denied: 'x'"),
    "no memory": (MemoryError(), "out of memory: it needs more than"),
    "PyTorch's lack of memory": (
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        "out of memory: DefaultCPUAllocator",
    ),
    "a library's own kind": (SafetensorError("I/O error: No space left"), "SafetensorError: I/O"),
    "a long message": (zipfile.BadZipFile("no zip\nsecond line"), "BadZipFile: no zip (`vtclip --"),
    "a kind without a message": (EOFError(), "EOFError: "),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_expected_failure_of_any_kind_is_one_line(capsys, monkeypatch, failure):
    error, message = FAILURES[failure]

    def fail(_):
        raise error

    monkeypatch.setattr(export, "run", fail)
    assert main(EXPORT) == 2
    said = capsys.readouterr().err
    assert said.startswith("vtclip: ")
    assert message in said
    assert said.count("\n") == 1
    assert main(["--traceback", *EXPORT]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr(status, "run", lambda _: print("much") or 0)
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["status"]) == 2
    assert capsys.readouterr().err == "vtclip: [Errno 28] No space left on device\n"


def test_without_an_output_a_command_ends_well(monkeypatch):
    monkeypatch.setattr(status, "run", lambda _: print("much") or 0)
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["status"]) == 0


def test_no_argument_of_a_command_is_set_before_it_is_given(monkeypatch):
    seen = {}
    monkeypatch.setattr(classify, "run", lambda given: seen.update(vars(given)) or 0)
    assert main(["classify", "head", "image.png"]) == 0
    assert seen["refuse"] is seen["coverage"] is None


def test_no_option_of_a_command_has_a_name_that_the_parser_itself_uses():
    (commands,) = make_parser()._subparsers._group_actions
    for name, parser in commands.choices.items():
        dests = {action.dest for action in parser._actions}
        assert set(parser._defaults) & dests == set(), name


def test_a_warning_is_a_plain_line_whatever_a_library_asks_for():
    code = (
        "import logging; from vtclip.__main__ import main; main(['new', 'birds', 'nothing']); "
        "logging.basicConfig(); logging.getLogger('vtclip.data').warning('Two images are alike.')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], text=True, stderr=subprocess.PIPE, check=True
    )
    assert done.stderr.splitlines()[-1] == "Two images are alike."

"""Whatever ends a job, its log and the terminal say why."""

import logging
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vtclip.runtime.job import job_log, warn_on_terminal

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path):
    """Run code as a job; gives its status, its log and the output on the terminal."""

    def run(code):
        log = tmp_path / "logs" / "job.log"
        head = f"import os, resource\nfrom vtclip.runtime.job import job\nwith job({str(log)!r}):\n"
        done = subprocess.run(
            [sys.executable, "-c", head + textwrap.indent(code, "    ")], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        return done.returncode, log.read_text(), done.stdout

    return run


def test_an_error_is_whole_in_the_log_and_short_on_the_terminal(run):
    status, log, terminal = run("raise ValueError('too odd')")
    assert status == 1
    assert "Traceback" in log
    assert "ValueError: too odd" in terminal
    assert "(full log: " in terminal
    assert "Traceback" not in terminal
    assert "memory" not in terminal


@pytest.mark.parametrize(
    "output",
    [
        "print('here')",
        r"os.write(1, b'here\n')",
        r"os.write(2, b'here\n')",
        "os.system('echo here')",
    ],
)
def test_all_output_goes_to_the_log(run, output):
    status, log, terminal = run(output)
    assert (status, log.splitlines()[0], terminal) == (0, "here", "")
    took = r".* Took \S+ s, \S+ CPU-seconds, \d+ MB of memory at most\."
    assert re.fullmatch(took, log.splitlines()[1])


def test_a_job_that_dies_of_a_signal_says_where(run):
    status, log, _ = run("os.abort()")
    assert status < 0
    assert "Fatal Python error: Aborted" in log
    assert "line 4 in <module>" in log


@pytest.mark.parametrize(
    "error",
    [
        "MemoryError()",
        "ImportError('libtorch_cpu.so: failed to map segment from shared object')",
        'RuntimeError("DefaultCPUAllocator: can\'t allocate memory: you tried")',
        "OSError(12, 'Cannot allocate memory')",
    ],
)
def test_a_lack_of_memory_is_named(run, error):
    assert "Out of memory: run fewer jobs at a time" in run(f"raise {error}")[2]


def test_too_little_memory_to_import_torch_is_an_error_in_the_log(run):
    status, log, _ = run("resource.setrlimit(resource.RLIMIT_AS, (300 << 20,) * 2)\nimport torch")
    assert status != 0
    assert "torch" in log


def test_a_warning_for_the_user_is_in_the_log_and_on_the_terminal(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])  # a job sets them, and the level
    monkeypatch.setattr(logging.root, "level", logging.INFO)
    with job_log(tmp_path / "a.log"):
        warn_on_terminal("3 files passed over")
        print("a detail")
    assert capfd.readouterr().err == "3 files passed over\n"
    log = (tmp_path / "a.log").read_text()
    assert "3 files passed over" in log
    assert "a detail" in log

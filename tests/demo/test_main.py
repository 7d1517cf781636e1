"""The command behind `make demo` takes no lock away from a process that still runs."""

import subprocess
import sys

import pytest

from vtclip.demo import __main__ as demo

SLEEP = "import time\nprint('ready', flush=True)\ntime.sleep(60)\n"


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """The calls of Snakemake in a folder whose lock was left behind."""
    calls = []

    def run(command, **_):
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    (tmp_path / ".snakemake" / "locks").mkdir(parents=True)
    (tmp_path / ".snakemake" / "locks" / "0.input.lock").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo.subprocess, "run", run)
    return calls


@pytest.fixture
def start(tmp_path):
    """Starts a Python that sleeps, and ends it after the test."""
    started = []

    def start(*arguments, cwd=tmp_path):
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)], cwd=cwd, text=True, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def orphan(start, folder, cwd):
    script = folder / ".snakemake" / "scripts" / "tmp1.train_head.py"
    script.parent.mkdir(parents=True)
    script.write_text(SLEEP)
    return start(script, cwd=cwd)


def snakemake(start, folder, cwd):
    (cwd / "snakemake.py").write_text(SLEEP)
    return start("-m", "snakemake", cwd=cwd)


@pytest.mark.parametrize("what", [orphan, snakemake])
def test_where_something_still_runs_its_process_is_named_and_nothing_is_unlocked(
    calls, start, tmp_path, capsys, what
):
    process = what(start, tmp_path, tmp_path)
    assert demo.run_demo([]) == 1
    assert f"`kill {process.pid}`" in capsys.readouterr().out
    assert calls == []


@pytest.mark.parametrize("what", [orphan, snakemake])
def test_a_process_in_another_folder_stops_nothing(calls, start, tmp_path, capsys, what):
    other = tmp_path / "other"
    other.mkdir()
    what(start, other, other)
    assert demo.run_demo([]) == 0
    assert ["--unlock" in call for call in calls] == [True, False]
    assert "continuing where it stopped" in capsys.readouterr().out

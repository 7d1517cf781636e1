"""Runs that are killed at any moment, and started again: the end is that of an undisturbed run."""

import os
import random
import signal
import subprocess
import time
from contextlib import suppress

import psutil
import pytest

pytestmark = pytest.mark.workflow

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WHOM = ("a job", "a launcher", "the warm parent", "Snakemake", "all of them")
LONGEST = 8  # seconds after which a run is killed at the latest
QUICK, EACH = 5, 5  # kills in `make test-slow`; kills of one run
CAMPAIGN = 10  # runs of `make test-faults`


def at_work(folder):
    """The launchers, the warm parents and the jobs that they have forked, in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline()).replace("/", ".")
            if "vtclip.runtime." in command and process.cwd() == str(folder):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def find(run, folder, whom):
    """One process of a kind, or none."""
    launchers, parents, jobs = [], [], []
    for process in at_work(folder):
        with suppress(psutil.NoSuchProcess):
            is_launcher = any(part.endswith("launcher.py") for part in process.cmdline())
            is_parent = process.ppid() == run.pid
            (launchers if is_launcher else parents if is_parent else jobs).append(process)
    return {"a job": jobs, "a launcher": launchers, "the warm parent": parents}[whom][:1]


def kill(run, folder, whom, number):
    """Send a signal to one process, to Snakemake, or to the whole group; whether anyone was hit."""
    if run.poll() is not None:
        return False
    if whom == "all of them":
        os.killpg(run.pid, number)
    elif whom == "Snakemake":
        run.send_signal(number)
    else:
        found = find(run, folder, whom)
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return bool(found)
    return True


def assert_nothing_is_left(folder):
    deadline = time.monotonic() + 10
    while left := at_work(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def disturb(broken, draw, kills, tally):
    """Run anew and kill, again and again; then let it end as a user does after the last fault."""
    broken.start_anew()
    for _ in range(kills):
        subprocess.run(broken.command("--unlock", "--quiet"), cwd=broken.folder, check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        run = subprocess.Popen(
            broken.command(), cwd=broken.folder, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(draw.uniform(1, LONGEST))
        whom, number = draw.choice(WHOM), draw.choice(SIGNALS)
        hit = kill(run, broken.folder, whom, number)
        fault = f"{signal.Signals(number).name} to {whom}" if hit else "a kill that came too late"
        try:
            run.wait(timeout=60 if number != signal.SIGKILL else 30)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
        assert_nothing_is_left(broken.folder)
        tally[fault, "survived"] += 1
    subprocess.run(broken.command("--unlock", "--quiet"), cwd=broken.folder, check=False,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    broken.run()


def check(broken, undisturbed):
    assert broken.tables() == undisturbed.tables()
    assert broken.heads() == undisturbed.heads()
    images = broken.folder / "resources/images/shapes"
    assert len(list(images.rglob("*.png"))) == 60
    left = [path.name for path in broken.folder.joinpath("results").rglob(".*.tmp")]
    assert len(left) <= len(list(broken.folder.joinpath("results").rglob("*"))) // 10, left


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_as_if_nothing_had_been(broken, undisturbed, tally):
    disturb(broken, random.Random(0), QUICK, tally)
    check(broken, undisturbed)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(1, CAMPAIGN + 1))
def test_fifty_kills_change_nothing(broken, undisturbed, tally, seed):
    disturb(broken, random.Random(seed), EACH, tally)
    check(broken, undisturbed)

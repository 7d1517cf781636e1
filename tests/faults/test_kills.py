"""A run that is killed at any moment and started again ends as an undisturbed run does."""

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
TARGETS = ("a job", "a launcher", "the warm parent", "Snakemake", "all of them")
LONGEST = 8  # seconds after which a run is killed at the latest
KILLS = 5  # of one run
CAMPAIGN = 10  # runs of `make test-faults`; `make test-slow` has one


def list_processes(folder):
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


def find(run, folder, target):
    """One process of a kind, if there is one."""
    launchers, parents, jobs = [], [], []
    for process in list_processes(folder):
        with suppress(psutil.NoSuchProcess):
            is_launcher = any(part.endswith("launcher.py") for part in process.cmdline())
            is_parent = process.ppid() == run.pid
            (launchers if is_launcher else parents if is_parent else jobs).append(process)
    return {"a job": jobs, "a launcher": launchers, "the warm parent": parents}[target][:1]


def kill(run, folder, target, number):
    """Send a signal to a process as soon as there is one; False if the run ends before."""
    while run.poll() is None:
        if target == "all of them":
            os.killpg(run.pid, number)
            return True
        if target == "Snakemake":
            run.send_signal(number)
            return True
        for process in find(run, folder, target):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
                return True
        time.sleep(0.05)
    return False


def assert_nothing_is_left(folder):
    deadline = time.monotonic() + 10
    while left := list_processes(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def disturb(broken, draw, tally):
    """Start from nothing, kill the run a number of times, then unlock and let it end."""
    broken.remove_outputs()
    for _ in range(KILLS):
        subprocess.run(broken.command("--unlock", "--quiet"), cwd=broken.folder, check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        run = subprocess.Popen(
            broken.command(), cwd=broken.folder, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(draw.uniform(1, LONGEST))
        target, number = draw.choice(TARGETS), draw.choice(SIGNALS)
        hit = kill(run, broken.folder, target, number)
        fault = f"{signal.Signals(number).name} to {target}" if hit else "a run that ended before"
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


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(0, marks=pytest.mark.slow),
        *(pytest.param(seed, marks=pytest.mark.faults) for seed in range(1, CAMPAIGN + 1)),
    ],
)
def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_run(
    broken, undisturbed, tally, seed
):
    disturb(broken, random.Random(seed), tally)
    check(broken, undisturbed)

"""Runs that are killed at any moment, and started again: the end is that of an undisturbed run."""

import os
import random
import signal
import subprocess
import time

import psutil
import pytest

pytestmark = pytest.mark.workflow

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
WHOM = ("a job", "Snakemake", "all of them")
LONGEST = 20  # seconds after which a run is killed at the latest
QUICK, EACH = 5, 5  # kills in `make test`; kills of one run
CAMPAIGN = 10  # runs of `make test-faults`


def jobs_of(folder):
    """The processes of jobs that are at work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            at_work = ".snakemake/scripts/" in " ".join(process.cmdline())
            if at_work and process.cwd() == str(folder):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def kill(run, folder, whom, number):
    """Send a signal to one job, to Snakemake, or to the whole group; whether anyone was hit."""
    if run.poll() is not None:
        return False
    if whom == "a job":
        jobs = jobs_of(folder)
        for job in jobs[:1]:
            job.send_signal(number)
        return bool(jobs)
    if whom == "Snakemake":
        run.send_signal(number)
    else:
        os.killpg(run.pid, number)
    return True


def disturb(broken, draw, kills, tally):
    """Run anew and kill, again and again; then let it end as a user does after the last fault."""
    broken.start_anew()
    for _ in range(kills):
        # An orphaned job may be at work: what it writes must not harm the next run.
        subprocess.run(broken.command("--unlock", "--quiet"), cwd=broken.folder, check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        run = subprocess.Popen(
            broken.command(), cwd=broken.folder, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(draw.uniform(2, LONGEST))
        whom, number = draw.choice(WHOM), draw.choice(SIGNALS)
        hit = kill(run, broken.folder, whom, number)
        fault = f"{signal.Signals(number).name} to {whom}" if hit else "a kill that came too late"
        try:
            run.wait(timeout=60 if number != signal.SIGKILL else 30)
        except subprocess.TimeoutExpired:
            run.kill()
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


def test_a_run_killed_again_and_again_ends_as_if_nothing_had_been(broken, undisturbed, tally):
    disturb(broken, random.Random(0), QUICK, tally)
    check(broken, undisturbed)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(1, CAMPAIGN + 1))
def test_fifty_kills_change_nothing(broken, undisturbed, tally, seed):
    disturb(broken, random.Random(seed), EACH, tally)
    check(broken, undisturbed)

"""The embedded experiment on a real Slurm of one node with two pretend GPUs."""

import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise

import psutil
import pytest

from tests.workflow.slurm.cluster import missing_programs, running_cluster

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing_programs()), reason=f"not installed: {missing_programs()}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="slurmd takes root"),
]

TABLE = "results/small/tables/results.csv"
# This test's cluster keeps no accounts, and nothing here is far away.
HERE = (
    "--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "3",
    "--latency-wait", "10",
)  # fmt: skip


# Enough trainings for two submissions, so that both GPUs have work at once.
SMALL = """
datasets: [digits, letters]
shots: [1, 2]
seeds: [1, 2]
methods:
  zero_shot:
  linear_probe:
  tip_adapter_f:
  vt_clip: {epochs: 100}
"""
CONFIG = "config/small.yaml"


@pytest.fixture(scope="module")
def project(fresh, tmp_path_factory):
    """The project with a smaller embedded experiment; not to be changed."""
    project = fresh.copy(tmp_path_factory.mktemp("slurm") / "project")
    head = (project.folder / "config" / "demo.yaml").read_text().split("datasets:")[0]
    (project.folder / CONFIG).write_text(head + SMALL)
    return project


@pytest.fixture(scope="module")
def local(project, tmp_path_factory):
    """That experiment, run on this machine without Slurm."""
    local = project.copy(tmp_path_factory.mktemp("local") / "project")
    local.run(config=[CONFIG])
    return local


@pytest.fixture(scope="module")
def cluster():
    with running_cluster() as cluster:
        yield cluster


def submit(project, cluster):
    """Snakemake through the slurm profile, started."""
    profile = ("--workflow-profile", "workflow/profiles/slurm", *HERE)
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *profile, "--configfile", CONFIG],
        cwd=project.folder, env=cluster.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_the_table_is_the_local_runs_and_no_gpu_had_two_jobs_at_once(
    project, local, cluster, tmp_path
):
    remote = project.copy(tmp_path / "project")
    run = submit(remote, cluster)
    said, _ = run.communicate(timeout=1500)
    assert run.returncode == 0, said[-5000:]
    assert (remote.folder / TABLE).read_text() == (local.folder / TABLE).read_text()
    command = ("squeue", "--states=all", "--noheader", "--format=%C")
    cores = subprocess.check_output(command, env=cluster.environment, text=True).split()
    assert max(map(int, cores)) <= 2, "a submission requests more than one of its trainings does"
    held = remote.leases()
    assert set(held) == {"0", "1"}
    # Trainings but for the linear probe's, which is scikit-learn's; predictions; extractions.
    assert sum(len(times) for times in held.values()) >= 18 + 8 + 8 + 2
    for times in held.values():
        for (_, end), (start, _) in pairwise(sorted(times)):
            assert end <= start


def test_a_run_whose_node_dies_in_mid_training_ends_with_the_same_table(
    project, local, cluster, tmp_path
):
    remote = project.copy(tmp_path / "project")
    for made in ("resources", "results/features", "results/manifests", "results/shots"):
        shutil.copytree(local.folder / made, remote.folder / made)
    run = submit(remote, cluster)
    training = wait_for_training(remote.folder, run)
    assert training in cluster.kill_node(), "the training had ended before the node died"
    time.sleep(15)  # the controller sees that the node is down, and its jobs with it
    cluster.start_node()
    said, _ = run.communicate(timeout=1500)
    if run.returncode != 0:  # a job had no attempt left: the same command again
        again = submit(remote, cluster)
        said, _ = again.communicate(timeout=1500)
        assert again.returncode == 0, said[-5000:]
    assert (remote.folder / TABLE).read_text() == (local.folder / TABLE).read_text()


def wait_for_training(folder, process):
    """A training of this folder that has been at work for a second."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended before any training"
        for found in psutil.process_iter():
            try:
                if "train_head.py" in " ".join(found.cmdline()) and found.cwd() == str(folder):
                    time.sleep(1)
                    return found
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        time.sleep(0.2)
    raise AssertionError("no training began")

"""Memory that is left: the machine's, or below the limits of control groups."""

import psutil
import pytest

from vtclip.runtime.devices import available_memory


def limit(root, folder, most, used, cached=0):
    """Write the files of a control group."""
    group = root / "sys/fs/cgroup" / folder
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{most}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon {used}\nfile {cached}\ninactive_file {cached}\n")


@pytest.mark.parametrize(
    ("group", "limits", "left"),
    [
        pytest.param(None, {}, 10_000, id="no control groups"),
        pytest.param("/", {}, 10_000, id="a group without a limit"),
        pytest.param("/", {"": (4000, 1500)}, 2500, id="a container"),
        pytest.param("/", {"": (50_000, 1500)}, 10_000, id="a limit above the machine's memory"),
        pytest.param("/", {"": (4000, 3900, 3000)}, 3100, id="cached files are free"),
        pytest.param("/", {"": (4000, 4100)}, 0, id="over the limit"),
        pytest.param("/docker/ab", {"": (4000, 2500)}, 1500, id="a container with the host's path"),
        pytest.param(
            "/slurm/job_7/task_0",
            {"slurm/job_7/task_0": ("max", 1), "slurm/job_7": (3000, 1200), "slurm": (9000, 2000)},
            1800,
            id="Slurm's limit on a group further up",
        ),
    ],
)  # fmt: skip
def test_available_memory_is_the_least_of_the_machines_and_each_groups(
    tmp_path, monkeypatch, group, limits, left
):
    free = psutil.virtual_memory()._replace(available=10_000)
    monkeypatch.setattr("vtclip.runtime.devices.psutil.virtual_memory", lambda: free)
    if group is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(f"1:name=systemd:{group}\n0::{group}\n")
    for folder, numbers in limits.items():
        limit(tmp_path, folder, *numbers)
    assert available_memory(tmp_path) == left

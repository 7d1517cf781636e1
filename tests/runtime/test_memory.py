import psutil
import pytest

from vtclip.runtime.devices import available_memory

UNLIMITED = 9223372036854771712  # as the first version of control groups writes it


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder in place of `/`, on a machine with 10,000 bytes free."""
    free = psutil.virtual_memory()._replace(available=10_000)
    monkeypatch.setattr("vtclip.runtime.devices.psutil.virtual_memory", lambda: free)
    (tmp_path / "proc/self").mkdir(parents=True)
    return tmp_path


def belong(root, *lines):
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))


def write(root, folder, **files):
    folder = root / "sys/fs/cgroup" / folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"memory.{name}").write_text(f"{content}\n")


def limit(root, folder, most, used, cache=0):
    """A control group of the second version."""
    stat = f"anon {used}\nfile {cache}\ninactive_file {cache}"
    write(root, folder, max=most, current=used, stat=stat)


def limit_v1(root, folder, most, used, cache=0):
    """A control group of the first version."""
    stat = f"inactive_file 0\ntotal_inactive_file {cache}"
    write(root, f"memory/{folder}", limit_in_bytes=most, usage_in_bytes=used, stat=stat)


def test_without_control_groups_it_is_what_the_machine_has(root):
    assert available_memory(root) == 10_000
    belong(root, "0::/")
    assert available_memory(root) == 10_000


def test_a_containers_limit_holds_less_what_is_used_of_it(root):
    belong(root, "0::/")
    limit(root, "", 4000, 1500)
    assert available_memory(root) == 2500


def test_a_limit_above_what_the_machine_has_changes_nothing(root):
    belong(root, "0::/")
    limit(root, "", 50_000, 1500)
    assert available_memory(root) == 10_000


def test_cached_files_count_as_free(root):
    belong(root, "0::/")
    limit(root, "", 4000, 3900, cache=3000)
    assert available_memory(root) == 3100


def test_the_limit_of_a_group_further_up_holds_too_as_slurm_sets_it(root):
    belong(root, "0::/slurm/job_7/step_0/task_0")
    limit(root, "slurm/job_7/step_0/task_0", "max", 1000)
    limit(root, "slurm/job_7", 3000, 1200)
    limit(root, "slurm", 20_000, 5000)
    assert available_memory(root) == 1800


def test_a_group_that_is_over_its_limit_has_nothing_left(root):
    belong(root, "0::/")
    limit(root, "", 4000, 4100)
    assert available_memory(root) == 0


def test_the_first_version_of_control_groups_is_read_as_well(root):
    belong(root, "12:cpu,cpuacct:/docker/ab", "4:memory:/docker/ab", "0::/")
    limit_v1(root, "", UNLIMITED, 9000)
    assert available_memory(root) == 10_000
    limit_v1(root, "docker/ab", 4000, 2500, cache=500)
    assert available_memory(root) == 2000


def test_inside_a_container_its_limit_stands_at_the_mount_and_its_path_is_the_hosts(root):
    belong(root, "4:memory:/docker/ab")
    limit_v1(root, "", 4000, 2500)
    assert available_memory(root) == 1500

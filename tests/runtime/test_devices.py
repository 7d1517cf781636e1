import errno
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from unittest import mock

import psutil
import pytest
import torch

from tests.project import ROOT
from vtclip.runtime import devices
from vtclip.runtime.devices import PRETEND, DeviceMemoryError, free_memory
from vtclip.runtime.gpus import NoDeviceError

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@pytest.fixture(autouse=True)
def pretend(monkeypatch):
    """No scheduler, and GPUs that can be leased."""
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(PRETEND, "1")


@contextmanager
def lease_device(wanted, *, folder=None, **options):
    """Lease a device with the locks in a folder."""
    chosen = {} if folder is None else {"VTCLIP_LEASES": str(folder)}
    with mock.patch.dict(os.environ, chosen), devices.lease_device(wanted, **options) as device:
        yield device


def see(monkeypatch, visible, **more):
    for name, value in ({"CUDA_VISIBLE_DEVICES": visible} | more).items():
        monkeypatch.setenv(name, value)


def test_only_the_devices_that_cuda_may_see_are_leased(monkeypatch, tmp_path):
    see(monkeypatch, "3,1")
    with lease_device("auto", folder=tmp_path):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3,1"


def test_cpu_takes_no_lease(monkeypatch, tmp_path):
    see(monkeypatch, "0")
    with lease_device("cpu", folder=tmp_path) as device:
        assert device == torch.device("cpu")
    assert list(tmp_path.iterdir()) == []


@NO_GPU
def test_without_a_gpu_auto_uses_the_cpu_and_logs_it_once(monkeypatch, caplog):
    see(monkeypatch, "")
    with caplog.at_level(logging.INFO), lease_device("auto") as device:
        assert device == torch.device("cpu")
    assert [record.message for record in caplog.records] == [
        "No GPU (CUDA_VISIBLE_DEVICES is ''): computing on the CPU."
    ]


@NO_GPU
@pytest.mark.parametrize(
    ("visible", "reason"),
    [("", "CUDA_VISIBLE_DEVICES is ''"), (None, "/dev/nvidia")],
)
def test_cuda_without_a_gpu_is_an_error_with_the_reason_and_a_fix(
    monkeypatch, tmp_path, visible, reason
):
    if visible is not None:
        see(monkeypatch, visible)
    with (
        pytest.raises(NoDeviceError, match=f"{reason}.*device: auto"),
        lease_device("cuda", folder=tmp_path),
    ):
        pass


@NO_GPU
@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_gpu_that_is_assigned_and_does_not_work_is_an_error_with_pytorchs_reason_and_a_fix(
    monkeypatch, tmp_path, wanted
):
    monkeypatch.delenv(PRETEND)
    see(monkeypatch, "0")
    with pytest.raises(RuntimeError) as reason:
        torch.ones(1, device="cuda")
    with (
        pytest.raises(NoDeviceError) as error,
        lease_device(wanted, folder=tmp_path),
    ):
        pass
    assert str(reason.value).partition("\n")[0] in str(error.value)
    assert "GPU 0 is assigned" in str(error.value)
    assert "Install a PyTorch that fits the driver and the card" in str(error.value)
    assert "`device: cpu`" in str(error.value)


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (RuntimeError("CUDA error: no kernel image is available\nCompile with"), "Install a PyTor"),
        (torch.cuda.DeferredCudaCallError("CUDA call failed lazily"), "Install a PyTorch"),
        (torch.AcceleratorError("CUDA error: out of memory"), "End other programs that use it, or"),
        (torch.AcceleratorError("CUDA-capable device(s) is/are busy or unavailable"), "-c DEFAULT"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_found_before_the_job_begins_with_the_advice_that_fits(
    monkeypatch, tmp_path, reason, advice
):
    monkeypatch.delenv(PRETEND)
    see(monkeypatch, "0")
    monkeypatch.setattr(torch, "ones", mock.Mock(side_effect=reason))
    with (
        pytest.raises(NoDeviceError, match=r"cannot use it: CUDA") as error,
        lease_device("auto", folder=tmp_path),
    ):
        pass
    assert advice in str(error.value)
    assert "Compile with" not in str(error.value)


@pytest.mark.parametrize("slots", [1, 4])
def test_a_full_gpu_is_one_error_that_says_what_to_do(monkeypatch, tmp_path, slots):
    see(monkeypatch, "0")
    full = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20 MiB. Of the allocated memory 70 GiB is ..."
    )
    with (
        pytest.raises(DeviceMemoryError) as error,
        lease_device("auto", slots=slots, folder=tmp_path),
    ):
        raise full
    assert "CUDA out of memory. Tried to allocate 20 MiB.\n" in str(error.value)
    assert "`device: cpu`" in str(error.value)
    assert ("slots_per_gpu: 4" in str(error.value)) == (slots == 4)


def test_another_error_of_a_job_stays_what_it_is(monkeypatch, tmp_path):
    see(monkeypatch, "0")
    with pytest.raises(RuntimeError, match=r"^odd$"), lease_device("auto", folder=tmp_path):
        raise RuntimeError("odd")


def see_apples(monkeypatch, *, available, built=True):
    monkeypatch.delenv(PRETEND)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: available)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)


def test_apples_gpu_is_leased_where_it_is_requested_and_cudas_devices_stay_as_they_are(
    monkeypatch, tmp_path
):
    see(monkeypatch, "0,1")
    see_apples(monkeypatch, available=True)
    with lease_device("mps", slots=2, folder=tmp_path) as device:
        assert device == torch.device("mps")
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
        (lock,) = tmp_path.glob("*/*.lock")
        assert lock.name == "gpu-mps-slot0.lock"
        monkeypatch.setattr("vtclip.runtime.devices.available_memory", lambda: 1000)
        assert free_memory(device) == 500, "two jobs may share it"


@NO_GPU
def test_apples_gpu_is_not_taken_by_itself(monkeypatch):
    see(monkeypatch, "")
    see_apples(monkeypatch, available=True)
    with lease_device("auto") as device:
        assert device == torch.device("cpu")


@pytest.mark.parametrize(
    ("built", "reason"), [(False, "was built without it"), (True, "Apple silicon")]
)
def test_apples_gpu_where_there_is_none_is_an_error_with_the_reason_and_a_fix(
    monkeypatch, tmp_path, built, reason
):
    see(monkeypatch, "0")
    see_apples(monkeypatch, available=False, built=built)
    with (
        pytest.raises(NoDeviceError, match=f"device: mps.*{reason}.*device: auto"),
        lease_device("mps", folder=tmp_path),
    ):
        pass


def test_a_second_slot_is_taken_only_when_every_device_has_a_job(tmp_path):
    found, holders = [], []
    for _ in range(4):
        holders.append(start_holder(tmp_path, "0,1", slots=2))
        found.append(taken(holders[-1]))
    for holder in holders:
        holder.kill()
    assert found == [("0", "0"), ("1", "0"), ("0", "1"), ("1", "1")]


def test_who_does_not_wait_is_refused_where_no_slot_that_jobs_use_is_free(monkeypatch, tmp_path):
    holders = [start_holder(tmp_path, "0", slots=2) for _ in range(2)]
    assert {taken(holder) for holder in holders} == {("0", "0"), ("0", "1")}
    see(monkeypatch, "0")
    with (
        pytest.raises(NoDeviceError, match="taken by another job"),
        lease_device("auto", slots=None, folder=tmp_path, waits=False),
    ):
        pass
    holders[1].kill()
    holders[1].wait()
    with lease_device("auto", slots=None, folder=tmp_path, waits=False):
        pass  # in the second slot
    holders[0].kill()


def test_a_lease_ends_with_its_process_also_where_its_worker_lives_on(tmp_path):
    code = KEEP.replace("time.sleep", "os.fork() or time.sleep(60); time.sleep")
    holder = start_holder(tmp_path, "0", code=code)
    assert taken(holder) == ("0", "0")
    time.sleep(0.3)
    (worker,) = psutil.Process(holder.pid).children()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    after = start_holder(tmp_path, "0")
    assert taken(after) == ("0", "0")
    assert worker.is_running(), "the lease ended with its process, not with the worker"
    after.kill()
    worker.kill()


# Keeps a lease for some time, without importing torch: many of these must start quickly.
KEEP = """
import logging, os, sys, time, types
torch = types.ModuleType("torch")
torch.device = str
sys.modules["torch"] = torch
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
from vtclip.runtime.devices import lease_device
os.environ["VTCLIP_LEASES"], slots, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with lease_device("auto", slots=slots):
    print("from", time.monotonic(), flush=True)
    time.sleep(seconds)
    print("to", time.monotonic(), flush=True)
"""


def start_holder(folder, visible, *, slots=1, seconds=60.0, code=KEEP):
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(slots), str(seconds)],
        env=os.environ
        | {"CUDA_VISIBLE_DEVICES": visible, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        | {PRETEND: "1"},
        text=True, stdout=subprocess.PIPE,
    )  # fmt: skip


def taken(holder):
    """(device, slot) once the process has its lease."""
    for line in holder.stdout:
        found = re.match(r"GPU (\S+), slot (\d+): taken", line)
        if found:
            return found.groups()
    raise AssertionError("no lease was taken")


def run_holder(folder, number):
    """Run a job, of which each fifth is killed while it has its lease; gives device, start, end."""
    killed = None
    seconds = random.Random(number).uniform(0.0, 0.05) if number % 5 else 60.0
    with start_holder(folder, "0,1", seconds=seconds) as holder:
        lines = []
        for line in holder.stdout:
            lines.append(line)
            if line.startswith("from") and number % 5 == 0:
                killed = time.monotonic()
                holder.kill()
    text = "".join(lines)
    start, end = (re.search(rf"^{word} (\S+)", text, re.M) for word in ("from", "to"))
    return re.search(r"GPU (\S+), slot", text)[1], float(start[1]), killed or float(end[1])


@pytest.mark.parametrize("number", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_of_many_jobs_some_of_them_killed_no_two_ever_have_the_same_slot(tmp_path, number):
    with ThreadPoolExecutor(8) as pool:
        leases = sorted(pool.map(partial(run_holder, tmp_path), range(number)))
    assert {device for device, _, _ in leases} == {"0", "1"}
    for (device, _, end), (other, start, _) in pairwise(leases):
        assert device != other or end <= start


def test_a_file_system_without_locks_is_an_error_with_a_fix(monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    see(monkeypatch, "0")
    monkeypatch.setattr("vtclip.runtime.gpus.fcntl.lockf", refuse)
    with (
        pytest.raises(NoDeviceError, match="No locks available.*export VTCLIP_LEASES=/dev/shm"),
        lease_device("auto", folder=tmp_path),
    ):
        pass


def make_pipe(path, tmp_path):
    os.mkfifo(path)


def make_link(path, tmp_path):
    path.symlink_to(tmp_path / "target")


@pytest.mark.parametrize("make", [make_pipe, make_link])
@pytest.mark.parametrize("place", ["leases", "leases/a-node", "leases/a-node/gpu-0-slot0.lock"])
def test_a_link_or_pipe_in_place_of_a_lock_is_neither_followed_nor_waited_for(
    monkeypatch, tmp_path, make, place
):
    see(monkeypatch, "0")
    monkeypatch.setattr("vtclip.runtime.gpus.socket.gethostname", lambda: "a-node")
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path, tmp_path)
    message = f"{re.escape(str(path))}: no lease can be taken: .*export VTCLIP_LEASES=/dev/shm"
    with (
        pytest.raises(NoDeviceError, match=message),
        lease_device("auto", folder=tmp_path / "leases"),
    ):
        pass
    assert not (tmp_path / "target").exists()


def test_a_folder_that_others_own_or_may_write_to_is_refused(monkeypatch, tmp_path):
    see(monkeypatch, "0")
    folder = tmp_path / "leases"
    with lease_device("auto", folder=folder):
        assert {path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())} == {0o700}
    folder.chmod(0o1777)
    with pytest.raises(NoDeviceError, match="may write there"), lease_device("auto", folder=folder):
        pass
    folder.chmod(0o700)
    monkeypatch.setattr("vtclip.runtime.gpus.os.getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(NoDeviceError, match="another user"), lease_device("auto", folder=folder):
        pass


def test_machines_that_share_a_folder_do_not_share_its_leases(monkeypatch, tmp_path):
    see(monkeypatch, "0")
    monkeypatch.setattr("vtclip.runtime.gpus.socket.gethostname", lambda: "a-node")
    with lease_device("auto", folder=tmp_path):
        other = start_holder(tmp_path, "0")
        assert taken(other) == ("0", "0")
        other.kill()


def test_jobs_that_share_a_gpu_share_what_is_free_of_it(monkeypatch, tmp_path):
    see(monkeypatch, "0")
    gpu, free, reserved, allocated = torch.device("cuda"), 8000, 500, 200
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)
    with lease_device("auto", slots=4, folder=tmp_path):
        assert free_memory(gpu) == 8000 / 4 + 300
        with lease_device("auto", folder=tmp_path / "other"):
            assert free_memory(gpu) == 8000 + 300
        assert free_memory(gpu) == 8000 / 4 + 300
    assert free_memory(gpu) == 8000 + 300


@pytest.mark.parametrize(("cores", "threads", "jobs"), [(8, 2, 4), (8, 3, 2), (2, 4, 1)])
def test_jobs_that_share_the_cores_share_what_is_free_of_main_memory(
    monkeypatch, cores, threads, jobs
):
    monkeypatch.setattr("vtclip.runtime.devices.available_memory", lambda: 1000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert free_memory(torch.device("cpu")) == 1000 // jobs

"""The device that a job computes on, and its memory.

Snakemake counts GPUs but assigns none: of two jobs that request a GPU on a machine with two, both
would take the first. Here a job has a lease, a lock on one slot of one device, as long as it
computes. The lock is a file in a folder of this machine, and the kernel frees it when the process
ends, however it ends. It must be taken before the first call of CUDA: then CUDA sees that device
alone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import resource
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

APPLE = "mps"  # PyTorch's name of Apple's GPU
VISIBLE = "CUDA_VISIBLE_DEVICES"
# The GPUs of a Slurm step or job, by the node's own numbers, whatever the step sees of them.
ASSIGNED = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
FOLDER = "VTCLIP_LEASES"  # the environment variable that names another folder for the locks
POLL = 0.2  # seconds between two attempts to take a lease

_inherited = 0  # bytes of a forked process that are its parent's
_slots = 1  # of the GPU that this process has leased: the number of jobs that may share it


class NoDeviceError(RuntimeError):
    """The configuration requires a GPU, and there is none, or no lease on it can be taken."""


class Device(NamedTuple):
    """A GPU that this job may take."""

    visible: str  # its name in CUDA_VISIBLE_DEVICES
    name: str  # on the whole machine


@contextmanager
def lease_device(
    wanted: str, *, slots: int = 1, folder: str | Path | None = None
) -> Iterator[torch.device]:
    """Lease a device while the block runs.

    Of the GPUs that CUDA_VISIBLE_DEVICES or a scheduler leaves to this process, the first free slot
    is taken; where none is free the job waits. A second slot of a device is taken only when every
    device has a job. Must be entered before the first call of CUDA.

    Args:
        wanted: "auto" for a CUDA GPU where there is one, "cpu", "cuda", or "mps" for Apple's.
        slots: the number of jobs that may share a GPU, 1 or more.
        folder: of the locks; left out, one for this user in the machine's temporary folder, or
            the one that VTCLIP_LEASES names.

    Yields:
        The device: "cuda" or "mps", or "cpu" where there is no GPU.

    Raises:
        NoDeviceError: "cuda" or "mps" where there is no such GPU, or a folder in which locks are
            not safe.
    """
    devices = list_devices(wanted)
    if not devices:
        yield _without_gpu(wanted)
        return
    with _take_slot(devices, slots, _lock_folder(folder)) as (device, number):
        logger.info("GPU %s, slot %d: taken.", device.name, number)
        try:
            with _use(device, slots):
                yield _find_gpu(wanted)
        finally:
            logger.info("GPU %s, slot %d: given back.", device.name, number)


def list_devices(wanted: str = "auto") -> list[Device]:
    """List the GPUs that this process may use, without calling CUDA.

    CUDA_VISIBLE_DEVICES counts where it is set, also when it is empty. Under Slurm each is known by
    the node's own number: with control groups two jobs on two GPUs both see "0". Apple's GPU is
    listed wherever it is wanted: only PyTorch knows if there is one.
    """
    if wanted in ("cpu", APPLE):
        return [Device(APPLE, APPLE)] if wanted == APPLE else []
    visible = os.environ.get(VISIBLE)
    if visible is None:
        files = [re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*")]
        numbers = sorted(int(file[1]) for file in files if file)
        return [Device(str(place), str(number)) for place, number in enumerate(numbers)]
    names = [name.strip() for name in visible.split(",")]
    names = [name for name in names if name not in ("", "-1", "NoDevFiles")]
    assigned = next((os.environ[key].split(",") for key in ASSIGNED if os.environ.get(key)), names)
    if len(assigned) != len(names):
        assigned = names
    return [Device(name, whole) for name, whole in zip(names, assigned, strict=True)]


def peak_memory() -> int:
    """The most bytes of main memory that this process has had, without a warm parent's."""
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - _inherited


def leave_out_inherited_memory() -> None:
    """Let `peak_memory` count from now on: after a fork, all resident memory is the parent's."""
    global _inherited
    _inherited += peak_memory()


def available_memory(root: str | Path = "/") -> int:
    """Bytes of main memory that this process may still take.

    A container or a Slurm job is limited by control groups (version 2), which psutil does not read:
    a process that takes all that the machine has free would be killed. `root` contains `proc` and
    `sys`.
    """
    return min([psutil.virtual_memory().available, *_left_in_groups(Path(root))])


def _left_in_groups(root: Path) -> Iterator[int]:
    """Bytes left below each limit of this process's control group and of those above it."""
    lines = _read(root / "proc/self/cgroup").splitlines()
    # Inside a container the group's path may be the host's and not exist here; the container's own
    # limit is then that of the mount itself.
    path = PurePosixPath(next((line[4:] for line in lines if line.startswith("0::/")), ""))
    for group in (path, *path.parents):
        folder = root / "sys/fs/cgroup" / group
        limit, used = (_read(folder / f"memory.{name}").strip() for name in ("max", "current"))
        if limit.isdigit() and used.isdigit():  # "max" for no limit; no text where no such group is
            # Cached files count as used, but are free to any process that allocates.
            cached = re.search(r"^inactive_file (\d+)$", _read(folder / "memory.stat"), re.M)
            yield max(0, int(limit) - max(0, int(used) - int(cached[1] if cached else 0)))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def free_memory(device: torch.device) -> int:
    """Bytes that this job may still allocate on a device.

    Free memory is shared with the jobs that may come beside this one: on a GPU as many as the lease
    has slots, on a CPU as many as its cores can serve.
    """
    import torch

    if device.type == "cuda":
        # Memory that PyTorch has reserved and does not use is free too, and for this job alone.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] // _slots + idle
    if device.type == APPLE:  # it has no memory of its own
        return available_memory() // _slots
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return available_memory() // max(1, cores // torch.get_num_threads())


def half_precision(device: torch.device) -> torch.autocast:
    """A context in which layers compute in bfloat16 on a GPU that can, and else in float32."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    """Check if a device computes in bfloat16 natively: a GPU since 2020, NVIDIA's Ampere.

    `torch.cuda.is_bf16_supported` also counts emulation, which is slower than float32.
    """
    import torch

    if device.type != "cuda":
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


@contextmanager
def _use(device: Device, slots: int) -> Iterator[None]:
    """Let CUDA see one device alone, and `free_memory` count with so many jobs on it."""
    global _slots
    visible, slots_before = os.environ.get(VISIBLE), _slots
    if device.visible != APPLE:
        os.environ[VISIBLE] = device.visible
    _slots = slots
    try:
        yield
    finally:
        _slots = slots_before
        os.environ.pop(VISIBLE, None)
        if visible is not None:
            os.environ[VISIBLE] = visible


def _find_gpu(wanted: str) -> torch.device:
    """The GPU that PyTorch finds."""
    import torch

    kind = APPLE if wanted == APPLE else "cuda"
    found = torch.backends.mps.is_available() if kind == APPLE else torch.cuda.is_available()
    return torch.device(kind) if found else _without_gpu(wanted)


def _without_gpu(wanted: str) -> torch.device:
    import torch

    if wanted in ("cuda", APPLE):
        raise NoDeviceError(
            f"The configuration requires `device: {wanted}`, but there is no such GPU here: "
            f"{_why_no_gpu(wanted)}. Write `device: auto` to use a CUDA GPU or the CPU."
        )
    if wanted == "auto":
        logger.info("No GPU (%s): computing on the CPU.", _why_no_gpu(wanted))
    return torch.device("cpu")


def _why_no_gpu(wanted: str) -> str:
    import torch

    if wanted == APPLE:
        if torch.backends.mps.is_built():
            return "it needs a Mac with Apple silicon and macOS 12.3 or newer"
        return f"PyTorch {torch.__version__} was built without it"
    if list_devices():
        return f"PyTorch finds none of {', '.join(device.visible for device in list_devices())}"
    if VISIBLE in os.environ:
        return f"{VISIBLE} is '{os.environ[VISIBLE]}'"
    return (
        f"no /dev/nvidia<number>; if `torch.cuda.is_available()` all the same, export {VISIBLE}=0"
    )


def _lock_folder(folder: str | Path | None) -> Path:
    """The folder of the locks on this machine, made where it does not exist.

    The temporary folder is shared by all users: the folder may be another user's link, and locks
    made behind it would overwrite the files that it leads to.
    """
    default = Path(tempfile.gettempdir()) / f"vtclip-leases-{os.getuid()}"
    chosen = Path(folder or os.environ.get(FOLDER) or default)
    # The machine's name, in case the folder is shared between machines.
    for path in (chosen, chosen / socket.gethostname()):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
            status = path.lstat()
        except OSError as error:
            raise _no_lease(path, str(error)) from None
        if not stat.S_ISDIR(status.st_mode):
            raise _no_lease(path, "it is no folder, or a link to one")
        if status.st_uid != os.getuid():
            raise _no_lease(path, "the folder belongs to another user")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _no_lease(path, "other users may write there (`chmod go-w` ends that)")
    return path


def _no_lease(path: Path, reason: str) -> NoDeviceError:
    return NoDeviceError(
        f"{path}: no lease can be taken: {reason}. Name a folder of yours, on this machine: "
        f"export {FOLDER}=/dev/shm/vtclip-leases-{os.getuid()}"
    )


@contextmanager
def _take_slot(devices: Sequence[Device], slots: int, folder: Path) -> Iterator[tuple[Device, int]]:
    """Lock the first free slot, or wait for one: each device's first comes before any second."""
    waiting = False
    while True:
        for number, device in product(range(slots), devices):
            name = re.sub(r"[^A-Za-z0-9-]", "_", device.name)
            lock = _lock(folder / f"gpu-{name}-slot{number}.lock")
            if lock is not None:
                try:
                    yield device, number
                finally:
                    os.close(lock)
                return
        if not waiting:
            logger.info("Every GPU is taken: waiting.")
            waiting = True
        time.sleep(POLL)


def _lock(path: Path) -> int | None:
    """Lock a file until its descriptor, which is returned, is closed; None where it is locked.

    A lock of `lockf` belongs to the process alone. One of `flock`, which filelock and portalocker
    take, would live on in worker processes that are left behind when the process is killed.
    """
    try:
        # A pipe would block, and a link be followed.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise _no_lease(path, str(error)) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no plain file")
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError | PermissionError):  # another process has it
            return None
        raise _no_lease(path, f"the file cannot be locked ({error})") from None

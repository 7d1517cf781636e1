"""Which device a job computes on, and no two jobs on the same one.

Snakemake counts GPUs but assigns none: two jobs that ask for a GPU on a machine with two would
both take the first. Here a job holds a lease, a lock on one slot of one device, as long as it
computes. The lock is a file in a folder of this machine, and the kernel frees it when the process
ends, however it ends. It must be taken before anything asks CUDA for something: then CUDA sees that
device alone.
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
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    import torch


GROUPS = "sys/fs/cgroup"
UNIFIED = ("memory.max", "memory.current", "inactive_file")
LEGACY = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")

_inherited = 0  # bytes of a forked process that are its parent's


def peak_memory() -> int:
    """The most bytes of main memory that this process has had, beside those of a warm parent."""
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - _inherited


def leave_out_what_is_resident() -> None:
    """Let `peak_memory` count from now on: after a fork, what is resident is the parent's."""
    global _inherited
    _inherited += peak_memory()


def available_memory(root: str | Path = "/") -> int:
    """Bytes of main memory that are left: of the machine's, or below a limit of this process.

    A container and a job of Slurm's are limited by control groups, which psutil does not look at:
    whoever takes what the machine has free is killed.

    Args:
        root: the folder in which `proc` and `sys` lie.
    """
    return min([psutil.virtual_memory().available, *_left_in_groups(Path(root))])


def _left_in_groups(root: Path) -> Iterator[int]:
    """What is left below each limit that holds for this process."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            mount, names = root / GROUPS, UNIFIED
        elif "memory" in controllers.split(","):
            mount, names = root / GROUPS / "memory", LEGACY
        else:
            continue
        # A group obeys the limits of those above it too. Inside a container its path may be the
        # host's and not be there; the container's own limit then stands at the mount itself.
        path = PurePosixPath(group.strip("/"))
        for folder in (path, *path.parents):
            yield from _left_in_group(mount / folder, *names)


def _left_in_group(folder: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    most, used = _read(folder / limit).strip(), _read(folder / usage).strip()
    if not (most.isdigit() and used.isdigit()):
        return  # "max" for no limit; nothing where there is no such group
    # Files that were read and may be dropped count as used, but are free to whoever asks.
    pairs = (line.split() for line in _read(folder / "memory.stat").splitlines())
    cache = next((int(number) for name, number in pairs if name == reclaimable), 0)
    yield max(0, int(most) - max(0, int(used) - cache))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


logger = logging.getLogger(__name__)

APPLE = "mps"  # what PyTorch calls Apple's GPU
VISIBLE = "CUDA_VISIBLE_DEVICES"
# What Slurm gave to a step or a job, as the node counts its GPUs, whatever a step sees of them.
ASSIGNED = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
FOLDER = "VTCLIP_LEASES"  # the environment variable that names another folder for the locks
LOOK_AGAIN = 0.2  # seconds

_slots = 1  # of the GPU that this process holds: how many jobs may be on it


class NoDeviceError(RuntimeError):
    """The configuration asks for a GPU, and there is none, or no lease on it can be taken."""


class Device(NamedTuple):
    """A GPU that this job may take."""

    visible: str
    """what CUDA_VISIBLE_DEVICES calls it"""
    name: str
    """what the whole machine calls it"""


class Slot(NamedTuple):
    """One place on one device."""

    device: Device
    number: int


@contextmanager
def lease_device(
    wanted: str, *, slots: int = 1, folder: str | Path | None = None
) -> Iterator[torch.device]:
    """Hold a device while the block runs.

    Of the GPUs that CUDA_VISIBLE_DEVICES or a scheduler leaves to this process, the first free slot
    is taken; where none is free the job waits. A second slot of a device is taken only when every
    device has a job. Must be entered before anything asks CUDA for something.

    Args:
        wanted: "auto" for a GPU of CUDA's where there is one, "cpu", "cuda", or "mps" for Apple's.
        slots: how many jobs may share a GPU, 1 or more.
        folder: of the locks; left out, one for this user in the machine's temporary folder, or
            what VTCLIP_LEASES names.

    Yields:
        The device: "cuda" or "mps", or "cpu" where there is no GPU.

    Raises:
        NoDeviceError: "cuda" or "mps" where there is no such GPU, or a folder that cannot hold
            locks safely.
    """
    devices = list_devices(wanted)
    if not devices:
        yield _without_gpu(wanted)
        return
    with _hold(_open_slots(devices, slots, _lock_folder(folder))) as slot, _sharing(slots):
        logger.info("GPU %s, slot %d: taken.", slot.device.name, slot.number)
        try:
            with _seeing(slot.device):
                yield _find_gpu(wanted)
        finally:
            logger.info("GPU %s, slot %d: given back.", slot.device.name, slot.number)


def list_devices(wanted: str = "auto") -> list[Device]:
    """The GPUs that this process may use, without asking CUDA, which would settle on one.

    CUDA_VISIBLE_DEVICES counts where it is set, also when it is empty. Under Slurm each is known by
    the node's own number: with control groups two jobs on two GPUs both see "0".

    Args:
        wanted: as for `lease_device`. Apple's GPU is one wherever it is wanted: whether it is there
            PyTorch alone knows.
    """
    if wanted in ("cpu", APPLE):
        return [Device(APPLE, APPLE)] if wanted == APPLE else []
    visible = os.environ.get(VISIBLE)
    if visible is None:
        numbers = sorted(
            int(path.name.removeprefix("nvidia"))
            for path in Path("/dev").glob("nvidia*")
            if re.fullmatch(r"nvidia\d+", path.name)
        )
        return [Device(str(place), str(number)) for place, number in enumerate(numbers)]
    names = [name.strip() for name in visible.split(",") if name.strip()]
    names = [name for name in names if name not in ("-1", "NoDevFiles")]
    assigned = next((os.environ[key].split(",") for key in ASSIGNED if os.environ.get(key)), names)
    if len(assigned) != len(names):
        assigned = names
    return [Device(name, whole) for name, whole in zip(names, assigned, strict=True)]


def free_memory(device: torch.device) -> int:
    """Bytes that this job may still allocate on a device.

    What is free is shared with the jobs that may come beside this one: on a GPU as many as the
    lease has slots, on a CPU as many as its cores can serve.
    """
    if device.type == "cuda":
        import torch

        # What PyTorch has reserved and does not use is free for it as well, and for nobody else.
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] // _slots + idle
    # Apple's GPU has no memory of its own.
    return available_memory() // (_slots if device.type == APPLE else _jobs_on_cpu())


def half_precision(device: torch.device) -> torch.autocast:
    """A context in which layers compute in bfloat16 on a GPU that can, and else in float32."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself: a GPU since 2020, NVIDIA's Ampere.

    `torch.cuda.is_bf16_supported` also counts emulation, which is slower than float32.
    """
    import torch

    if device.type != "cuda":
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


@contextmanager
def _seeing(device: Device) -> Iterator[None]:
    """Let CUDA see one device alone; Apple's GPU is always the one that there is."""
    if device.visible == APPLE:
        yield
        return
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = device.visible
    try:
        yield
    finally:
        os.environ.pop(VISIBLE)
        if before is not None:
            os.environ[VISIBLE] = before


@contextmanager
def _sharing(slots: int) -> Iterator[None]:
    """Remember how many jobs may be on the GPU, while this one holds a slot of it."""
    global _slots
    before, _slots = _slots, slots
    try:
        yield
    finally:
        _slots = before


def _jobs_on_cpu() -> int:
    """How many jobs of as many threads as this one the cores that it may use can serve."""
    import torch

    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, cores // torch.get_num_threads())


def _find_gpu(wanted: str) -> torch.device:
    """The GPU that PyTorch finds."""
    import torch

    kind = APPLE if wanted == APPLE else "cuda"
    found = torch.backends.mps.is_available() if kind == APPLE else torch.cuda.is_available()
    return torch.device(kind) if found else _without_gpu(wanted)


def _without_gpu(wanted: str) -> torch.device:
    import torch

    if wanted in ("cuda", APPLE):
        reason = _explain_no_apple() if wanted == APPLE else _explain_none()
        raise NoDeviceError(
            f"The configuration says `device: {wanted}`, but there is no such GPU here: {reason}. "
            "Write `device: auto` to go on with a GPU of CUDA's, or with the CPU."
        )
    if wanted == "auto":
        logger.info("No GPU (%s): computing on the CPU.", _explain_none())
    return torch.device("cpu")


def _explain_none() -> str:
    """Why this process has no GPU."""
    if list_devices():
        return f"PyTorch finds none of {', '.join(device.visible for device in list_devices())}"
    if VISIBLE in os.environ:
        return f"{VISIBLE} is '{os.environ[VISIBLE]}'"
    return (
        f"no /dev/nvidia<number>; if `torch.cuda.is_available()` all the same, export {VISIBLE}=0"
    )


def _explain_no_apple() -> str:
    """Why this process has no GPU of Apple's."""
    import torch

    if not torch.backends.mps.is_built():
        return f"PyTorch {torch.__version__} was built without it"
    return "it takes a Mac with Apple silicon and macOS 12.3 or newer"


def _lock_folder(folder: str | Path | None) -> Path:
    """The folder of the locks on this machine, made where it is not there.

    The temporary folder is everybody's: what lies there under the name may be another user's link,
    and locks made behind it would overwrite what it leads to.
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


def _open_slots(devices: Sequence[Device], slots: int, folder: Path) -> list[tuple[Slot, Path]]:
    """Every slot and its lock file: the first slot of each device before any second one."""
    return [
        (Slot(device, number), folder / f"gpu-{_file_name(device.name)}-slot{number}.lock")
        for number in range(slots)
        for device in devices
    ]


def _file_name(device: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "_", device)


@contextmanager
def _hold(slots: Sequence[tuple[Slot, Path]]) -> Iterator[Slot]:
    """Hold the first slot that is free; wait for one."""
    told = False
    while True:
        for slot, path in slots:
            with _lock(path) as locked:
                if locked:
                    yield slot
                    return
        if not told:
            logger.info("Every GPU is taken: waiting.")
            told = True
        time.sleep(LOOK_AGAIN)


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Lock a file while the block runs, if nobody has; gives whether it is locked.

    A lock of `lockf` belongs to the process alone: unlike one of `flock`, it does not live on in
    worker processes that are left behind when the process is killed.
    """
    try:
        # A pipe would be waited for, and a link followed.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise _no_lease(path, str(error)) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _no_lease(path, "it is no plain file")
        yield _try_lock(descriptor, path)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # somebody has it
        return False
    except OSError as error:
        raise _no_lease(path, f"this file system has no locks ({error})") from None
    return True

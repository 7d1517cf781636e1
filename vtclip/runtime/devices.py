"""The device that a job computes on, and its memory.

A job has a lease on its GPU (`vtclip.runtime.gpus`) as long as it computes. It must be taken
before the first call of CUDA: then CUDA sees that device alone.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import psutil

from vtclip.runtime.gpus import (
    APPLE,
    CUDA,
    Device,
    NoDeviceError,
    known_slots,
    list_devices,
    lock_folder,
    read_text,
    selecting_variable,
    set_variable,
    take_slot,
)

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

# What PyTorch says where a GPU's memory is full, beside its own error's type.
MEMORY_SIGNS = (
    "out of memory",  # of CUDA, HIP and Apple
    "_STATUS_ALLOC_FAILED", "StatusAllocFailed", "rocblas_status_memory_error",  # of libraries
    "_STATUS_NOT_INITIALIZED",  # of CUDA's libraries, which found no room for themselves
    "unable to find an engine",  # of cuDNN: each convolution that was tried found no room
)  # fmt: skip

PRETEND = "VTCLIP_PRETEND_GPUS"  # for tests: leases are taken, and the CPU computes

_inherited = 0  # bytes of a forked process that are its parent's
_slots = 1  # of the GPU that this process has leased: the number of jobs that may share it


class DeviceMemoryError(RuntimeError):
    """A GPU's memory is full."""


@contextmanager
def lease_device(
    wanted: str, *, slots: int | None = 1, waits: bool = True
) -> Iterator[torch.device]:
    """Lease a device, "cpu" where there is no GPU, while the block runs.

    Of the GPUs that CUDA_VISIBLE_DEVICES or a scheduler leaves to this process, the first free slot
    is taken; where none is free the job waits, or fails. A second slot of a device is taken only
    when every device has a job. The GPU is tried: without one, a job that was planned for it takes
    hours. Must be entered before the first call of CUDA.

    Args:
        wanted: "auto" for a CUDA GPU where there is one, "cpu", "cuda", or "mps" for Apple's.
        slots: the number of jobs that may share a GPU, 1 or more; None for as many as have shared
            one on this machine.
        waits: False for an error where no lease is free, in place of a wait.
    """
    devices = list_devices(wanted)
    if not devices:
        yield _without_gpu(wanted)
        return
    locks = lock_folder()
    slots = known_slots(locks) if slots is None else slots
    with take_slot(devices, slots, locks, waits=waits) as (device, number):
        logger.info("GPU %s, slot %d: taken.", device.name, number)
        try:
            with _use(device, slots):
                found = _find_gpu(wanted, device)
                with _explaining_memory(slots):
                    yield found
        finally:
            logger.info("GPU %s, slot %d: given back.", device.name, number)


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
    """Bytes of main memory that this process may still take; `root` contains `proc` and `sys`.

    A container or a Slurm job is limited by control groups (version 2), which psutil does not read.
    """
    return min([psutil.virtual_memory().available, *_left_in_groups(Path(root))])


def _left_in_groups(root: Path) -> Iterator[int]:
    """Bytes left below each limit of this process's control group and of those above it."""
    lines = read_text(root / "proc/self/cgroup").splitlines()
    # Inside a container the group's path may be the host's and not exist here; the container's own
    # limit is then that of the mount itself.
    path = PurePosixPath(next((line[4:] for line in lines if line.startswith("0::/")), ""))
    for group in (path, *path.parents):
        folder = root / "sys/fs/cgroup" / group
        limit, used = (read_text(folder / f"memory.{name}").strip() for name in ("max", "current"))
        if limit.isdigit() and used.isdigit():  # "max" for no limit; no text where no such group is
            # Cached files count as used, but are free to any process that allocates.
            cached = re.search(r"^inactive_file (\d+)$", read_text(folder / "memory.stat"), re.M)
            yield max(0, int(limit) - max(0, int(used) - int(cached[1] if cached else 0)))


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


def is_out_of_memory(error: Exception) -> bool:
    """Check that an error of PyTorch's says that a GPU's memory is full: it has several kinds."""
    import torch

    is_named = any(sign in str(error) for sign in MEMORY_SIGNS)
    return isinstance(error, torch.OutOfMemoryError) or is_named


@contextmanager
def _explaining_memory(slots: int) -> Iterator[None]:
    """Say what to do where a GPU's memory is full."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0].partition(" Of the allocated memory")[0]
        share = f"`slots_per_gpu: {slots}` lets jobs share it: write 1. " if slots > 1 else ""
        raise DeviceMemoryError(
            f"The GPU has too little memory for this job: {reason or 'it is full'}\n  {share}End "
            "other programs that use it, use a GPU with more memory, or write `device: cpu`."
        ) from error


def half_precision(device: torch.device) -> torch.autocast:
    """A context in which layers compute in bfloat16 on a GPU that can, and else in float32."""
    import torch

    # With a cache, the first of several chunks alone would cast the weights, and a checkpoint
    # refuses to compute a chunk again by other operations than the first time.
    enabled = has_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=False)


def has_bfloat16(device: torch.device) -> bool:
    """Check that a device computes in bfloat16 natively: a GPU since 2020, NVIDIA's Ampere.

    `torch.cuda.is_bf16_supported` also counts emulation, which is slower than float32.
    """
    import torch

    if device.type != "cuda":
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


def has_double(device: torch.device) -> bool:
    """Check that a device computes in double precision, which Apple's GPU does not."""
    return device.type != APPLE


@contextmanager
def _use(device: Device, slots: int) -> Iterator[None]:
    """Let CUDA see one device alone, and `free_memory` count with so many jobs on it."""
    global _slots
    variable = selecting_variable()
    before, slots_before = os.environ.get(variable), _slots
    if device.visible != APPLE:
        os.environ[variable] = device.visible
    _slots = slots
    try:
        yield
    finally:
        _slots = slots_before
        os.environ.pop(variable, None)
        if before is not None:
            os.environ[variable] = before


def _find_gpu(wanted: str, device: Device) -> torch.device:
    """The leased GPU, after it has computed a number."""
    import torch

    if PRETEND in os.environ:
        return torch.device("cpu")
    if wanted == APPLE:
        return torch.device(APPLE) if torch.backends.mps.is_available() else _without_gpu(wanted)
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:
        reason = str(error).strip().partition("\n")[0]
        advice = "Install a PyTorch that fits the driver and the card (docs/clusters.md says how)"
        if is_out_of_memory(error):
            advice = "End other programs that use it"
        elif "unavailable" in reason:  # its compute mode lets one process in, and there is one
            advice = "End other programs that use it, or let several in (`nvidia-smi -c DEFAULT`)"
        raise NoDeviceError(
            f"GPU {device.name} is assigned, but PyTorch {torch.__version__} cannot use it: "
            f"{reason}\n  {advice}, or write `device: cpu` to compute without a GPU."
        ) from None
    return torch.device("cuda")


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
    given = set_variable()
    if given is not None:
        return f"{given} is '{os.environ[given]}'"
    return f"no /dev/nvidia<number>; if `torch.cuda.is_available()` all the same, export {CUDA}=0"

"""How much memory is left on this machine, or in its container, and how much this process took."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

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

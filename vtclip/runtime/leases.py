"""Leases on GPUs: a job locks one slot of one device as long as it computes.

Snakemake counts GPUs but assigns none: of two jobs that request a GPU on a machine with two, both
would take the first. The lock is a file in a folder of this machine, and the kernel frees it when
the process ends, however it ends.
"""

import fcntl
import logging
import os
import re
import socket
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

from vtclip.runtime.gpus import Device, NoDeviceError

logger = logging.getLogger(__name__)

FOLDER = "VTCLIP_LEASES"  # the environment variable that names another folder for the locks
POLL = 0.2  # seconds between two attempts to take a lease


def lock_folder(folder: str | Path | None) -> Path:
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


def known_slots(folder: Path) -> int:
    """The most jobs that have shared a GPU of this machine, by the locks that they left."""
    numbers = [re.search(r"-slot(\d+)\.lock$", path.name) for path in folder.iterdir()]
    return 1 + max((int(number[1]) for number in numbers if number), default=0)


@contextmanager
def take_slot(
    devices: Sequence[Device], slots: int, folder: Path, *, waits: bool
) -> Iterator[tuple[Device, int]]:
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
        if not waits:
            raise NoDeviceError("Every GPU is taken by another job.")
        if not waiting:
            logger.warning("Every GPU is taken: waiting. The leases are in %s.", folder)
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

"""The GPUs that this process may use, and leases on them.

GPUs are listed without calling CUDA or ROCm, and without importing PyTorch: planning does without.

A job locks one slot of one GPU as long as it computes. Snakemake counts GPUs but assigns none: of
two jobs that request a GPU on a machine with two, both would take the first. The lock is a file in
a folder of this machine, and the kernel frees it when the process ends, however it ends.
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
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

APPLE = "mps"  # PyTorch's name of Apple's GPU
CUDA, HIP, ROCR = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
# The GPUs of a Slurm step or job, by the node's own numbers, whatever the step sees of them.
ASSIGNED = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
ROOT = Path("/")
FOLDER = "VTCLIP_LEASES"  # the environment variable that names another folder for the locks
POLL = 0.2  # seconds between two attempts to take a lease


class NoDeviceError(RuntimeError):
    """A GPU that is required or assigned and cannot be used, or no lease on one can be taken."""


class Device(NamedTuple):
    """A GPU that this job may take."""

    visible: str  # its name in the environment variable that selects it
    name: str  # on the whole machine


class Installed(NamedTuple):
    """A GPU of this machine."""

    name: str
    uuid: str = ""  # "" where it is not known


def list_devices(wanted: str = "auto") -> list[Device]:
    """List the GPUs that this process may use; Apple's wherever it is wanted.

    A variable such as CUDA_VISIBLE_DEVICES counts where it is set, also when it is empty. A device
    has one name on the machine, whatever the variable calls it: two jobs that name it differently
    must not both take it. Under Slurm that is the node's own number: with control groups two jobs
    on two GPUs both see "0".
    """
    if wanted in ("cpu", APPLE):
        return [Device(APPLE, APPLE)] if wanted == APPLE else []
    installed, given = _list_amd() if is_rocm() else _list_nvidia(), set_variable()
    if is_rocm() and ROCR in os.environ:  # the others number what this one leaves
        installed = [_find(name, installed) for name in parse_names(os.environ[ROCR])]
    if given in (None, ROCR):
        names = [str(place) for place in range(len(installed))]
    else:
        names = parse_names(os.environ[given])
    numbers = next((os.environ[key].split(",") for key in ASSIGNED if os.environ.get(key)), [])
    if given is None or len(numbers) != len(names):
        numbers = [_find(name, installed).name for name in names]
    return [Device(name, number) for name, number in zip(names, numbers, strict=True)]


def is_rocm() -> bool:
    """Check that the PyTorch of this environment was built for AMD's GPUs."""
    return "rocm" in version("torch")


def selecting_variable() -> str:
    """The environment variable that outranks the others and selects a job's GPU."""
    return HIP if is_rocm() else CUDA


def set_variable() -> str | None:
    """The variable by which devices are named here; None where no such variable is set."""
    # As PyTorch reads them: ROCR_VISIBLE_DEVICES before CUDA's, which Slurm sets beside it.
    variables = (HIP, ROCR, CUDA) if is_rocm() else (CUDA,)
    return next((name for name in variables if name in os.environ), None)


def parse_names(names: str) -> list[str]:
    """The devices that a variable lists, as CUDA reads it: up to the first that is none."""
    prefix = next((kind for kind in ("GPU-", "MIG-") if names.startswith(kind)), None)
    found: list[str] = []
    for name in names.split(","):
        number = re.match(r"\+?(\d+)", name.strip())
        if prefix is None and number:
            found.append(str(int(number[1])))
        elif prefix is not None and name.startswith(prefix):
            found.append(name.strip())
        else:
            break
    return found if len(set(found)) == len(found) else []


def _find(name: str, installed: Sequence[Installed]) -> Installed:
    """The device of a name; one of that name where it is not known here."""
    if name.isdecimal():
        return dict(enumerate(installed)).get(int(name), Installed(name))
    found = [device for device in installed if device.uuid.startswith(name)]
    return found[0] if len(found) == 1 else Installed(name)


def _list_nvidia() -> list[Installed]:
    """NVIDIA's GPUs, by the numbers of their device files."""
    files = [re.fullmatch(r"nvidia(\d+)", path.name) for path in (ROOT / "dev").glob("nvidia*")]
    numbers = sorted(int(file[1]) for file in files if file)
    uuids = {}
    for file in (ROOT / "proc/driver/nvidia/gpus").glob("*/information"):
        found = dict(re.findall(r"^(GPU UUID|Device Minor):\s*(\S+)", read_text(file), re.M))
        uuids[found.get("Device Minor")] = found.get("GPU UUID", "")
    if numbers:
        return [Installed(str(number), uuids.get(str(number), "")) for number in numbers]
    # Windows' Subsystem for Linux has NVIDIA's library and no such files.
    libraries = [*(ROOT / "usr/lib/wsl/lib").glob("libcuda.so*")]
    return [Installed("0")] if libraries and (ROOT / "dev/dxg").exists() else []


def _list_amd() -> list[Installed]:
    """AMD's GPUs, by their numbers in the kernel's list, in which a node of ID 0 is a CPU.

    The kernel lets nobody read the nodes of GPUs that a container or a Slurm job has not.
    """
    nodes = (ROOT / "sys/class/kfd/kfd/topology/nodes").glob("*/gpu_id")
    files = sorted(nodes, key=lambda file: int(file.parent.name))
    gpus = [(file, text) for file in files if (text := read_text(file).strip()) != "0"]
    found = []
    for place, (file, text) in enumerate(gpus):
        number = re.search(r"^unique_id (\d+)", read_text(file.with_name("properties")), re.M)
        uuid = f"GPU-{int(number[1]):016x}" if number else ""
        if text:
            found.append(Installed(str(place), uuid))
    return found


def read_text(path: Path) -> str:
    """Read a file of the kernel; "" where there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""


def lock_folder() -> Path:
    """The folder of the locks on this machine, made where it does not exist.

    It is the one that VTCLIP_LEASES names, or one for this user in the temporary folder. That is
    shared by all users: the folder may be another user's link, and locks made behind it would
    overwrite the files that it leads to.
    """
    default = Path(tempfile.gettempdir()) / f"vtclip-leases-{os.getuid()}"
    chosen = Path(os.environ.get(FOLDER) or default)
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

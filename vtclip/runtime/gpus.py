"""The GPUs that this process may use.

They are listed without calling CUDA or ROCm, and without importing PyTorch: planning does without.
"""

import os
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

APPLE = "mps"  # PyTorch's name of Apple's GPU
CUDA, HIP, ROCR = "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"
# The GPUs of a Slurm step or job, by the node's own numbers, whatever the step sees of them.
ASSIGNED = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
ROOT = Path("/")


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
    """List the GPUs that this process may use.

    A variable such as CUDA_VISIBLE_DEVICES counts where it is set, also when it is empty. A device
    has one name on the machine, whatever the variable calls it: two jobs that name it differently
    must not both take it. Under Slurm that is the node's own number: with control groups two jobs
    on two GPUs both see "0". Apple's GPU is listed wherever it is wanted: only PyTorch knows if
    there is one.
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
    """The device of a name; one of that name where the machine does not say it."""
    found: Sequence[Installed]
    if name.isdecimal():
        found = installed[int(name) : int(name) + 1]
    else:
        found = [device for device in installed if device.uuid.startswith(name)]
    return found[0] if len(found) == 1 else Installed(name)


def _list_nvidia() -> list[Installed]:
    """NVIDIA's GPUs, by the numbers of their device files."""
    files = [re.fullmatch(r"nvidia(\d+)", path.name) for path in (ROOT / "dev").glob("nvidia*")]
    numbers = sorted(int(file[1]) for file in files if file)
    uuids = {}
    for file in (ROOT / "proc/driver/nvidia/gpus").glob("*/information"):
        said = dict(re.findall(r"^(GPU UUID|Device Minor):\s*(\S+)", file.read_text(), re.M))
        uuids[said.get("Device Minor")] = said.get("GPU UUID", "")
    if numbers:
        return [Installed(str(number), uuids.get(str(number), "")) for number in numbers]
    # Windows' Subsystem for Linux has NVIDIA's library and no such files.
    has_windows = (ROOT / "dev/dxg").exists() and any(
        (ROOT / "usr/lib/wsl/lib").glob("libcuda.so*")
    )
    return [Installed("0")] if has_windows else []


def _list_amd() -> list[Installed]:
    """AMD's GPUs, in the order of the kernel's list, in which a node without an ID is a CPU."""
    nodes = (ROOT / "sys/class/kfd/kfd/topology/nodes").glob("*/gpu_id")
    found: list[Installed] = []
    for file in sorted(nodes, key=lambda file: int(file.parent.name)):
        if file.read_text().strip() not in ("", "0"):
            said = re.search(r"^unique_id (\d+)", _read(file.with_name("properties")), re.M)
            uuid = f"GPU-{int(said[1]):016x}" if said else ""
            found.append(Installed(str(len(found)), uuid))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""

"""Measurements of several benchmarks: seconds in turn, and the memory that a step adds."""

import ctypes
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Step = Callable[[], object]


def describe_device(device: torch.device) -> str:
    """The device that computes, in words."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name()}, bfloat16"
    return f"CPU, {torch.get_num_threads()} threads, float32"


def time_in_turn(steps: dict[str, Step], rounds: int, *, warm: bool = False) -> dict[str, float]:
    """Median seconds of each, taken in turn so that a slow moment hits all alike.

    Args:
        steps: what is measured, by name.
        rounds: that count.
        warm: whether all have been run already; if not, a round before the others warms up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + (not warm)):
        for name, step in steps.items():
            taken = time_once(step)
            if warm or number:
                seconds[name].append(taken)
    return {name: statistics.median(times) for name, times in seconds.items()}


def count_launches(step: Step) -> int:
    """Operations that a step gives its device: on a GPU each is a kernel to launch, or a few.

    An operation that shows the same numbers in another shape, or takes memory without writing to
    it, is none.
    """
    with _Counting() as counting:
        step()
    return counting.number


class _Counting(TorchDispatchMode):
    """Counts what comes through PyTorch's dispatcher, backward passes included."""

    IDLE = ("aten._unsafe_view", "aten.detach", "aten.empty", "aten.new_empty", "profiler.")

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += not (function.is_view or str(function).startswith(self.IDLE))
        return function(*args, **(kwargs or {}))


def added_memory(step: Step, device: torch.device) -> int:
    """Bytes that a step takes beside the parameters and the optimiser's state."""
    step()  # makes the optimiser's state
    return peak_memory(step, device)


def peak_memory(step: Step, device: torch.device) -> int:
    """Bytes that a step takes at the most, beside what it finds in use."""
    if device.type == "cuda":
        held = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - held
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as peak:  # noqa: PTH123
        peak.write("5")  # the peak counts from here on
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def run_alone(*arguments: object, **environment: str) -> str:
    """The last line that this script prints in a process of its own."""
    command = [sys.executable, sys.argv[0], *map(str, arguments)]
    done = subprocess.run(
        command, check=True, text=True, stdout=subprocess.PIPE, env=os.environ | environment
    )
    return done.stdout.splitlines()[-1]


def measure_alone(*arguments: object) -> int:
    """Bytes that this script prints in a process of its own, whose memory goes back at once."""
    return int(run_alone(*arguments, MALLOC_MMAP_THRESHOLD_="65536"))


def time_once(step: Step) -> float:
    """Seconds on the clock."""
    started = now()
    step()
    return now() - started


def now() -> float:
    """The clock, once a GPU has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _status(key: str) -> int:
    with open("/proc/self/status") as lines:  # noqa: PTH123
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

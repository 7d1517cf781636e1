"""What every job sets up: its log, its threads, its device, and computing that gives the same bits.

The log is opened before PyTorch is imported, so that an import that fails is told in it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtclip.logs import job_log

if TYPE_CHECKING:
    import torch


@contextmanager
def job(log: str | Path, *, threads: int | None = None) -> Iterator[None]:
    """A job that needs no GPU.

    Args:
        log: its log file.
        threads: cores for PyTorch; None for a job without PyTorch.
    """
    with job_log(log):
        if threads is not None:
            _set_threads(threads)
        yield


@contextmanager
def gpu_job(
    log: str | Path,
    *,
    threads: int,
    config: Mapping[str, Any],
    on_gpu: bool = True,
    compiles: bool = False,
) -> Iterator[torch.device]:
    """A job that computes on a GPU where there is one, and holds a lease on it.

    Args:
        log: its log file.
        threads: cores for PyTorch.
        config: the configuration, for `device` and `slots_per_gpu`.
        on_gpu: False for a job that could not use a GPU.
        compiles: whether it uses torch.compile.
    """
    with job_log(log):
        from vtclip.devices import lease_device

        wanted = config.get("device", "auto") if on_gpu else "cpu"
        with lease_device(wanted, slots=config.get("slots_per_gpu", 1)) as device:
            _set_threads(threads)
            _repeat_bits(compiles)
            yield device
    # Else Python looks for cycles among PyTorch's objects as it ends, for 0.4 s or more.
    gc.freeze()


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _repeat_bits(compiles: bool) -> None:
    """Let PyTorch choose what gives the same bits each time."""
    import torch

    if compiles:
        torch.use_deterministic_algorithms(True, warn_only=True)
    else:  # the same, but for a setting of the compiler, which the line above imports
        torch.set_deterministic_debug_mode("warn")
    # Nothing here reads what it did not write; filling 0.8 GB of features costs up to a second.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

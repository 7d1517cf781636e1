"""What a job says: everything into its log, an error also, in short, to the person who waits."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from tqdm import tqdm

from vtclip.runtime.devices import peak_memory
from vtclip.runtime.launcher import NO_PARENT

if TYPE_CHECKING:
    import torch


TOLD = logging.getLogger(f"{__name__}.told")

Item = TypeVar("Item")

# How the system's loader, PyTorch and the system itself say that there is no memory left.
NO_MEMORY = ("failed to map segment", "can't allocate memory", "Cannot allocate memory")


@contextmanager
def job_log(path: str | Path) -> Iterator[None]:
    """Send a job's output to its log file, and name log and reason on the terminal if it fails.

    What libraries and other processes write goes there too, and where a job dies of a signal, the
    place in the code.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("w", encoding="utf-8", buffering=1) as log,
        _redirected(log) as terminal,
        _telling(terminal),
    ):
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
        reason = os.environ.pop(NO_PARENT, "")
        if reason:
            logging.getLogger(__name__).info("Not forked from a warm parent: %s.", reason)
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            _tell(terminal, path, error)
            raise SystemExit(1) from None
        finally:
            _log_cost(time.perf_counter() - started)


def _log_cost(seconds: float) -> None:
    """Log what a job took; its memory without that of a warm parent."""
    logging.getLogger(__name__).info(
        "Took %.2f s, %.2f CPU-seconds, %.0f MB of memory at most.",
        seconds, time.process_time(), peak_memory() / 1e6,
    )  # fmt: skip


@contextmanager
def _redirected(log: TextIO) -> Iterator[TextIO]:
    """Send all output of this process to a log; gives the terminal."""
    saved = {number: os.dup(number) for number in (1, 2)}
    for number in saved:
        os.dup2(log.fileno(), number)
    faulthandler.enable(log)
    try:
        with redirect_stdout(log), redirect_stderr(log), open(saved[2], "w", closefd=False) as end:
            yield end
    finally:
        faulthandler.disable()
        for number, terminal in saved.items():
            os.dup2(terminal, number)
            os.close(terminal)


def progress(items: Iterable[Item], *, what: str, total: int | None = None) -> Iterator[Item]:
    """Go through `items` with a bar on a terminal, and a plain line every 10 s in a log."""
    terminal = sys.stderr.isatty()
    bar = tqdm(
        items,
        desc=what,
        total=total,
        file=sys.stderr,
        mininterval=0.1 if terminal else 10,
        maxinterval=10,
        ascii=not terminal,
        leave=True,
        bar_format=None
        if terminal
        else "{desc}: {n_fmt}/{total_fmt} {rate_fmt} {remaining} left\n",
    )
    yield from bar


def tell(message: str) -> None:
    """Say something in a job's log, and on the terminal too, for the person who waits."""
    TOLD.warning(message)


@contextmanager
def _telling(terminal: TextIO | None) -> Iterator[None]:
    """Let `tell` reach the terminal."""
    handler = logging.StreamHandler(terminal)
    TOLD.addHandler(handler)
    try:
        yield
    finally:
        TOLD.removeHandler(handler)


def _tell(terminal: TextIO, log: Path, error: Exception) -> None:
    hint = ""
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_MEMORY):
        hint = "Out of memory: run fewer jobs at a time (--cores), or let a job have more.\n"
    print(f"\n{type(error).__name__}: {error}\n{hint}(the whole story: {log})\n", file=terminal)


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
        from vtclip.runtime.devices import lease_device

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

"""Job logging: everything to a file, errors also to the terminal."""

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
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from tqdm import tqdm

from vtclip.runtime.devices import lease_device, peak_memory
from vtclip.runtime.launcher import NO_PARENT
from vtclip.wording import bound

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
FOR_TERMINAL = logging.getLogger(f"{__name__}.terminal")

Item = TypeVar("Item")

# The loader's, PyTorch's and the system's messages for a lack of memory.
NO_MEMORY = ("failed to map segment", "can't allocate memory", "Cannot allocate memory")


@contextmanager
def job(log: str | Path, *, threads: int | None = None) -> Iterator[None]:
    """Run a job that needs no GPU; `threads` are PyTorch's, None for a job without it."""
    with job_log(log):
        if threads is not None:
            import torch

            torch.set_num_threads(threads)
        yield


@contextmanager
def gpu_job(
    log: str | Path,
    config: Mapping[str, Any],  # the experiment's `device` and `slots_per_gpu`
    *,
    threads: int,
    on_gpu: bool = True,
    compiles: bool = False,  # it uses torch.compile
) -> Iterator[torch.device]:
    """Run a job with a lease on a GPU, where there is one, and give its device."""
    device = config["device"] if on_gpu else "cpu"
    with job_log(log), lease_device(device, slots=config["slots_per_gpu"]) as found:
        import torch

        torch.set_num_threads(threads)
        _choose_deterministic_kernels(compiles)
        yield found
    # Else Python searches for cycles among PyTorch's objects as it ends, for 0.4 s or more.
    gc.freeze()


def load_tower(given: dict[str, Any] | None, weights: str, device: torch.device) -> Any:
    """Load the tower that a method reads, of a job's `tower`; None if it reads none.

    Its module is imported by name, so that its code is part of the hash of such methods alone.
    """
    if given is None:
        return None
    load = import_module(given["module"]).load_tower
    return load(**given["backbone"], pretrained=weights, device=device)


def load_projection(is_read: bool, weights: str) -> Any:
    """Load the image tower's last linear map, likewise, for a method that reads it."""
    if not is_read:
        return None
    return import_module("vtclip.backbones.checkpoints").read_projection(weights)


@contextmanager
def job_log(path: str | Path) -> Iterator[None]:
    """Send a job's output to its log file, and name log and reason on the terminal if it fails.

    The output of libraries and child processes goes there too, and where a job dies of a signal,
    the place in the code.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("w", encoding="utf-8", buffering=1) as log,
        _redirect(log) as terminal,
        _show_warnings(terminal),
    ):
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
        reason = os.environ.pop(NO_PARENT, "")
        if reason:
            logger.info("Not forked from a warm parent: %s.", reason)
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            _show_error(terminal, path, error)
            raise SystemExit(1) from None
        finally:
            logger.info(
                "Took %.2f s, %.2f CPU-seconds, %.0f MB of memory at most.",
                time.perf_counter() - started, time.process_time(), peak_memory() / 1e6,
            )  # fmt: skip


def warn_on_terminal(message: str) -> None:
    """Log a warning, and show it on the terminal too, also where output goes to a job's log."""
    FOR_TERMINAL.warning(bound(message))


def progress(items: Iterable[Item], *, what: str, total: int | None = None) -> Iterator[Item]:
    """Iterate with a progress bar on a terminal, and with a plain line every 10 s in a log."""
    terminal = sys.stderr.isatty()
    line = "{desc}: {n_fmt}/{total_fmt} {rate_fmt} {remaining} left\n"
    yield from tqdm(
        items,
        desc=what,
        total=total,
        file=sys.stderr,
        mininterval=0.1 if terminal else 10,
        maxinterval=10,
        ascii=not terminal,
        bar_format=None if terminal else line,
    )


@contextmanager
def _redirect(log: TextIO) -> Iterator[TextIO]:
    """Send all output of this process to a log; yields the terminal."""
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


@contextmanager
def _show_warnings(terminal: TextIO) -> Iterator[None]:
    handler = logging.StreamHandler(terminal)
    FOR_TERMINAL.addHandler(handler)
    try:
        yield
    finally:
        FOR_TERMINAL.removeHandler(handler)


def lacks_memory(error: Exception) -> bool:
    """Check that an error comes from a lack of memory."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in NO_MEMORY)


def _show_error(terminal: TextIO, log: Path, error: Exception) -> None:
    advice = "Out of memory: run fewer jobs at a time (--cores), or give each job more memory.\n"
    hint = advice if lacks_memory(error) else ""
    message = bound(f"{type(error).__name__}: {error}")
    print(f"\n{message}\n{hint}(full log: {log})\n", file=terminal)


def _choose_deterministic_kernels(compiles: bool) -> None:
    """Let PyTorch choose kernels that give the same bits each time, where it has them.

    The backward pass of fused attention on a GPU has them only in the strict mode, in which an
    operation without any is an error (PyTorch's attention_backward.cu).
    """
    import torch

    if compiles:
        torch.use_deterministic_algorithms(True, warn_only=True)
    else:  # the same, but for a setting of the compiler, which the line above imports
        torch.set_deterministic_debug_mode("warn")
    # Nothing here reads uninitialised memory; filling 0.8 GB of features costs up to a second.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

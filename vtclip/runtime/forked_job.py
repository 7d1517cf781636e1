"""A job in a child of the warm parent: its surroundings, its script and its end."""

import atexit
import importlib
import os
import runpy
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple, NoReturn

from threadpoolctl import ThreadpoolController

PATH = tuple(sys.path)  # before libraries add to it as they are imported


class Request(NamedTuple):
    """A launcher's request: a script, and the surroundings that it gets from the launcher."""

    command: list[str]
    folder: str
    environment: dict[str, str]
    umask: int
    group: int
    streams: list[int]


def run(request: Request) -> NoReturn:
    """Run a script as `python script` would, and end this process.

    It ends as multiprocessing's children do: Python's own end takes all modules apart, which writes
    to most of the memory that is shared with the parent, and takes 0.3 s.
    """
    _become(request)
    status, interrupted = 0, False
    try:
        runpy.run_path(request.command[0], run_name="__main__")
    except SystemExit as error:
        status = _exit_status(error)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status, interrupted = 1, isinstance(error, KeyboardInterrupt)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # no process reads it, or the job has closed it
            stream.flush()
    if interrupted:  # then Python ends by the signal
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


def _become(request: Request) -> None:
    """Take the surroundings that the job would have as a Python process of its own."""
    for number, stream in enumerate(request.streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    with suppress(OSError):  # where the launcher has died, its group may have too
        os.setpgid(0, request.group)
    os.chdir(request.folder)
    os.umask(request.umask)
    os.environ.clear()
    os.environ.update(request.environment)
    tempfile.tempdir = None  # it was chosen by the parent's environment
    sys.argv = list(request.command)
    sys.path[:] = [str(Path(request.command[0]).resolve().parent), *PATH[1:]]
    import numpy
    import torch

    threads = os.environ.get("OMP_NUM_THREADS", "")  # OpenMP and OpenBLAS have read the parent's
    if threads.isdigit() and int(threads) > 0:
        find_pools().limit(limits=int(threads))
        torch.set_num_threads(int(threads))
    numpy.random.seed()  # noqa: NPY002  the global generator, as it would be in a fresh process
    importlib.import_module("vtclip.runtime.devices").leave_out_inherited_memory()


@cache
def find_pools() -> ThreadpoolController:
    """Find the libraries with thread pools, which takes 20 ms; the parent does it once."""
    return ThreadpoolController()


def _exit_status(error: SystemExit) -> int:
    """The status with which Python ends after `sys.exit`."""
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)
    return 1

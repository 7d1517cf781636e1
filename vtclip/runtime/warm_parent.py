"""The warm parent: a process that has imported the jobs' libraries and forks a child for each job.

multiprocessing's forkserver, Android's zygote and Rails' spring work in the same way. The
forkserver itself does not fit: its child has the environment, folder and streams of the server, and
goes on when the process that requested it is killed.

What a fork after `import torch` keeps, and what it does not:

- Memory is shared until it is written. `gc.freeze` keeps Python's collector from writing to it.
- Threads are not copied, and a lock that one of them has taken stays locked for ever. So the parent
  has no thread but its own, which it checks. One exception: Polars 2 starts a thread at import that
  removes files which a query has moved to disk. It sleeps, has no lock while it does, and no query
  here is that large. The thread pools of OpenMP, OpenBLAS, Polars and Arrow start with their first
  use, in the child. jemalloc's own threads are switched off.
- CUDA cannot be used in a child of a process that has used it. The parent uses no device, which it
  checks; the lease is taken in the child.
- OpenMP and OpenBLAS read their number of threads when they are loaded. It is set again in the
  child, from the job's environment. OMP_WAIT_POLICY cannot be set again: the rules choose "passive"
  for all jobs, so that threads that wait leave the core to others.
- `random` seeds itself after a fork; NumPy's global generator does not, and gets a new seed in the
  child. PyTorch starts with the same seed in each process anyway.
- matplotlib may make a temporary folder at import, which the first process to end removes. It is
  imported in the child.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
import traceback
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple, NoReturn

from threadpoolctl import ThreadpoolController

from vtclip.runtime.launcher import LENGTH, NoParentError, check_user

LIBRARIES = (
    "torch", "torch.utils.data", "numpy", "polars", "pyarrow.parquet", "safetensors.torch",
    "sklearn.linear_model", "scipy.optimize", "PIL.Image", "pydantic", "yaml", "threadpoolctl",
    "tqdm", "psutil", "snakemake.script",
)  # fmt: skip
MODULES = (
    "vtclip.runtime.job", "vtclip.training.train", "vtclip.training.predict",
    "vtclip.features.extract",
)  # fmt: skip
HARMLESS_THREADS = {"polars-ooc-clea"}
PACKAGE = Path(__file__).parents[1]
PATH = tuple(sys.path)  # before libraries add to it as they are imported
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# The libraries with thread pools. It takes 20 ms to find them; the parent does it once.
find_pools = cache(ThreadpoolController)
Stamps = dict[Path, int]  # file -> time of its last change


class Request(NamedTuple):
    """A launcher's request: a script, and the surroundings that it gets from the launcher."""

    command: list[str]
    folder: str
    environment: dict[str, str]
    umask: int
    group: int
    streams: list[int]


class Job(NamedTuple):
    """A child, and the launcher that waits for it."""

    process: int
    watch: int  # descriptor that can be read when the child has ended
    launcher: socket.socket


def import_modules(seen: Stamps) -> Stamps:
    """Import this package's modules again if a file has changed: each job runs the code on disk."""
    if seen and seen == {path: _stamp(path) for path in seen}:
        return seen
    for name in [name for name in sys.modules if name.startswith("vtclip.")]:
        del sys.modules[name]
    importlib.invalidate_caches()
    try:
        for name in MODULES:
            importlib.import_module(name)
    except Exception:  # half an edit: the job that needs this module fails with it too
        traceback.print_exc()
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = [Path(file) for file in files if file and PACKAGE in Path(file).parents]
    return {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> int:
    """Time of a file's last change; zero if it is gone."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def preload() -> Stamps:
    """Import the jobs' libraries, and this package's modules."""
    for name in LIBRARIES:
        importlib.import_module(name)
    seen = import_modules({})
    find_pools()
    torch = importlib.import_module("torch")
    if torch.cuda.is_initialized():
        raise RuntimeError("an import has used a GPU")
    tasks = Path("/proc/self/task").iterdir()
    names = {(task / "comm").read_text().strip() for task in tasks if task.name != str(os.getpid())}
    if names - HARMLESS_THREADS:
        raise RuntimeError(f"an import has started threads: {', '.join(sorted(names))}")
    return seen


class Parent:
    """Forks a child for each launcher's request, until Snakemake ends."""

    def __init__(self, listener: socket.socket, alive: int, seen: Stamps) -> None:
        self.listener = listener  # the launchers' socket
        self.alive = alive  # descriptor that can be read when Snakemake has ended
        self.seen = seen  # the files of the modules that are imported
        self.jobs: dict[int, Job] = {}  # by process
        self.selector = selectors.DefaultSelector()
        self.selector.register(alive, selectors.EVENT_READ)
        self.selector.register(listener, selectors.EVENT_READ)
        # Snakemake lets its jobs end after these, and a child that gets them ends by itself.
        self.handlers = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED}

    def serve(self) -> Request | None:
        """Serve launchers; in a child its request is returned, and None at the end of Snakemake."""
        while True:
            for key, _ in self.selector.select():
                if key.fd == self.alive:
                    self._end()
                    return None
                if key.fileobj is self.listener:
                    request = self._accept()
                    if request is not None:
                        return request
                elif key.data.process in self.jobs:
                    if key.fd == key.data.watch:
                        self._report(key.data)
                    else:  # the connection is closed: the launcher has died
                        self.selector.unregister(key.data.launcher)
                        os.kill(key.data.process, signal.SIGKILL)

    def _accept(self) -> Request | None:
        """Fork a child for a launcher; None in the parent."""
        launcher, _ = self.listener.accept()
        try:
            request = _receive(launcher)
        except (OSError, ValueError, NoParentError) as error:
            print(f"A launcher was not understood: {error}", file=sys.stderr)
            launcher.close()
            return None
        self.seen = import_modules(self.seen)
        process = _fork()
        if process == 0:
            self._forget(launcher)
            return request
        for stream in request.streams:
            os.close(stream)
        job = Job(process, os.pidfd_open(process), launcher)
        with suppress(OSError):  # the launcher has died, and its connection is closed next
            socket.send_fds(launcher, [f"{process}\n".encode()], [job.watch])
        self.jobs[process] = job
        self.selector.register(job.watch, selectors.EVENT_READ, job)
        self.selector.register(launcher, selectors.EVENT_READ, job)
        return None

    def _forget(self, launcher: socket.socket) -> None:
        """Close, in a child, the parent's descriptors, and restore the handlers of signals."""
        self.selector.close()
        self.listener.close()
        os.close(self.alive)
        launcher.close()
        for job in self.jobs.values():
            job.launcher.close()
            os.close(job.watch)
        for number, handler in self.handlers.items():
            signal.signal(number, handler)

    def _report(self, job: Job) -> None:
        """Send a launcher the status of its job, which has ended."""
        _, status = os.waitpid(job.process, 0)
        del self.jobs[job.process]
        self.selector.unregister(job.watch)
        os.close(job.watch)
        with suppress(KeyError, ValueError):  # it has died before
            self.selector.unregister(job.launcher)
        with suppress(OSError):
            job.launcher.sendall(f"{status}\n".encode())
        job.launcher.close()

    def _end(self) -> None:
        """Kill all jobs, and send their launchers the status."""
        for process in self.jobs:
            os.kill(process, signal.SIGKILL)
        for job in list(self.jobs.values()):
            self._report(job)


def _receive(launcher: socket.socket) -> Request:
    """Read a launcher's request."""
    check_user(launcher)
    launcher.settimeout(10)  # seconds
    header, streams, _, _ = socket.recv_fds(launcher, LENGTH.size, 3)
    with launcher.makefile("rb") as rest:
        message = rest.read(LENGTH.unpack(header)[0]) if len(header) == LENGTH.size else b""
    launcher.settimeout(None)
    if not message or len(streams) != 3:
        raise OSError("it ended in the middle of its request")
    return Request(**json.loads(message), streams=streams)


def _fork() -> int:
    """Fork; the child dies with its parent, however that ends."""
    parent = os.getpid()
    with warnings.catch_warnings(action="ignore"):  # of the one thread, which is harmless
        process = os.fork()
    if process == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    return process


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
        status = (error.code or 0) & 0xFF if isinstance(error.code, int | None) else 1
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
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
    sys.path[:] = [str(Path(request.command[0]).resolve().parent), *PATH]
    import numpy
    import torch

    threads = os.environ.get("OMP_NUM_THREADS", "")  # OpenMP and OpenBLAS have read the parent's
    if threads.isdigit() and int(threads) > 0:
        find_pools().limit(limits=int(threads))
        torch.set_num_threads(int(threads))
    numpy.random.seed()  # noqa: NPY002  the global generator, as it would be in a fresh process
    importlib.import_module("vtclip.runtime.devices").leave_out_inherited_memory()


def main(listener: int, alive: int) -> None:
    """Serve launchers until Snakemake ends; in a child, run its script."""
    seen = preload()
    gc.collect()
    gc.freeze()
    request = Parent(socket.socket(fileno=listener), alive, seen).serve()
    if request is None:
        os._exit(0)
    run(request)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

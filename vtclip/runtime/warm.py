"""The warm parent: a process that has imported what jobs share, and forks one child for each job.

A job is short: training Tip-Adapter-F takes 0.3 s, and importing PyTorch takes 1.8 to 3.6 s.
multiprocessing's forkserver, Android's zygote and Rails' spring solve this in the same way. The
forkserver itself does not fit: its child has the environment, folder and streams of the server, and
goes on when the process that asked for it is killed.

What a fork after `import torch` keeps, and what it does not:

- Memory is shared until it is written. `gc.freeze` keeps Python's collector from writing to it.
- Threads are not copied, and a lock that one of them holds stays locked for ever. The parent
  therefore has no thread but its own, which it checks. One exception: Polars 2 starts a thread at
  import that removes files which a query has moved to disk. It sleeps, holds no lock while it does,
  and no query here is that large. The thread pools of OpenMP, OpenBLAS, Polars and Arrow start with
  their first use, in the child. jemalloc's own threads are switched off.
- CUDA cannot be used in a child of a process that has used it. The parent uses no device, which it
  checks; the lease is taken in the child.
- OpenMP and OpenBLAS read their number of threads when they are loaded. It is set again in the
  child, as the job's environment says. OMP_WAIT_POLICY cannot be set again: the rules choose
  "passive" for all jobs, so that threads that wait leave the core to others.
- `random` seeds itself after a fork, NumPy's global generator does not and is seeded anew. PyTorch
  starts with the same seed in each process anyway.
- matplotlib may make a temporary folder at import, which the first process to end removes. It is
  imported in the child.

It is off, and every job a Python of its own, where `is_supported` is false, on a cluster, with
`--sdm conda` or containers, and with VTCLIP_WARM=0. benchmarks/start.py measures what it saves.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import runpy
import secrets
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from vtclip.runtime.launcher import LENGTH, NoParentError, check_user

OFF = "VTCLIP_WARM"
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
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "_RJEM_MALLOC_CONF": "background_thread:false",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}  # fmt: skip
PATH = tuple(sys.path)  # without what libraries add as they are imported
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def is_supported() -> bool:
    """Whether jobs can be forked here: on Linux 5.3 or newer, unless VTCLIP_WARM is 0."""
    if os.environ.get(OFF) == "0" or sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an older kernel, or a container that forbids it
        return False
    return True


def make_launcher(python: str) -> str:
    """Prepare a warm parent, to be started at the first job.

    Args:
        python: the interpreter.

    Returns:
        The command that runs a script as a child of the parent, quoted for a shell.
    """
    address = f"vtclip-{os.getpid()}-{secrets.token_hex(8)}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0" + address)
    listener.listen(1024)
    threading.Thread(target=_start_at_first_job, args=(python, listener), daemon=True).start()
    launcher = str(Path(__file__).with_name("launcher.py"))
    return shlex.join([python, "-I", "-S", launcher, address, str(os.getpid())])


def _start_at_first_job(python: str, listener: socket.socket) -> None:
    """Wait for a launcher; start the parent, and hand the socket over to it.

    The parent reads from a pipe that this process alone holds open: it ends when this one does.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.select()
    alive, held = os.pipe()
    numbers = (listener.fileno(), alive)
    try:
        parent = subprocess.Popen(
            [python, "-m", "vtclip.runtime.warm", *map(str, numbers)],
            stdin=subprocess.DEVNULL, pass_fds=numbers, env=os.environ | ENVIRONMENT,
        )  # fmt: skip
    except OSError as error:
        print(f"No warm parent ({error}): every job starts a Python.", file=sys.stderr)
        return
    finally:
        # Where the parent has died, nobody listens, and launchers see it at once.
        listener.close()
        os.close(alive)
    parent.wait()
    os.close(held)


class Request(NamedTuple):
    """What a launcher asks for: a script, and what it is to have from the launcher."""

    command: list[str]
    folder: str
    environment: dict[str, str]
    umask: int
    group: int
    streams: list[int]


class Job(NamedTuple):
    """A child, and the launcher that waits for it."""

    process: int
    watch: int
    """descriptor that can be read when the child has ended"""
    launcher: socket.socket


class Code:
    """The modules of this package that the parent has imported, as they were on disk."""

    def __init__(self) -> None:
        self.seen: dict[Path, tuple[int, int]] = {}  # file -> time and size

    def renew(self) -> None:
        """Import the modules anew if a file has changed, so that each job runs the code on disk."""
        if self.seen and self.seen == {path: _stamp(path) for path in self.seen}:
            return
        mine = __name__, "vtclip", "vtclip.runtime", "vtclip.runtime.launcher"
        for name in [name for name in sys.modules if name.startswith("vtclip.")]:
            if name not in mine:
                del sys.modules[name]
        importlib.invalidate_caches()
        try:
            for name in MODULES:
                importlib.import_module(name)
        except Exception:  # half an edit: the job that needs this module says so in its log
            traceback.print_exc()
        files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
        package = Path(__file__).parents[1]
        paths = [Path(file) for file in files if file and package in Path(file).parents]
        self.seen = {path: _stamp(path) for path in paths}


def _stamp(path: Path) -> tuple[int, int]:
    """Time and size of a file; zeros if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def preload() -> Code:
    """Import what jobs share.

    Raises:
        RuntimeError: a library has started a thread or used a device, so that no child is safe.
    """
    for name in LIBRARIES:
        importlib.import_module(name)
    code = Code()
    code.renew()
    _find_pools()
    torch = importlib.import_module("torch")
    if torch.cuda.is_initialized():
        raise RuntimeError("an import has used a GPU")
    tasks = Path("/proc/self/task").iterdir()
    names = {(task / "comm").read_text().strip() for task in tasks if task.name != str(os.getpid())}
    if names - HARMLESS_THREADS:
        raise RuntimeError(f"an import has started threads: {', '.join(sorted(names))}")
    return code


class Parent:
    """Forks a child for each launcher that asks, until Snakemake ends.

    Args:
        listener: socket of the launchers.
        alive: descriptor that can be read when Snakemake has ended.
    """

    def __init__(self, listener: socket.socket, alive: int) -> None:
        self.listener, self.alive = listener, alive
        self.jobs: dict[int, Job] = {}  # by process
        self.selector = selectors.DefaultSelector()
        self.selector.register(alive, selectors.EVENT_READ)
        self.selector.register(listener, selectors.EVENT_READ)
        # Snakemake lets its jobs end after these, and a child that gets them ends by itself.
        self.handlers = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED}

    def serve(self, code: Code) -> Request | None:
        """Serve launchers.

        Returns:
            In a child, what it is to run; in the parent None, when Snakemake has ended.
        """
        while True:
            for key, _ in self.selector.select():
                if key.fd == self.alive:
                    self._end()
                    return None
                if key.fileobj is self.listener:
                    request = self._accept(code)
                    if request is not None:
                        return request
                elif key.data.process in self.jobs:
                    if key.fd == key.data.watch:
                        self._report(key.data)
                    else:  # the connection is closed: the launcher has died
                        self.selector.unregister(key.data.launcher)
                        os.kill(key.data.process, signal.SIGKILL)

    def _accept(self, code: Code) -> Request | None:
        """Fork a child for a launcher; None in the parent."""
        launcher, _ = self.listener.accept()
        try:
            request = _receive(launcher)
        except (OSError, ValueError, NoParentError) as error:
            print(f"A launcher was not understood: {error}", file=sys.stderr)
            launcher.close()
            return None
        code.renew()
        process = _fork()
        if process == 0:
            self._forget(launcher)
            return request
        for stream in request.streams:
            os.close(stream)
        job = Job(process, os.pidfd_open(process), launcher)
        with suppress(OSError):  # the launcher has died, which its connection says next
            socket.send_fds(launcher, [f"{process}\n".encode()], [job.watch])
        self.jobs[process] = job
        self.selector.register(job.watch, selectors.EVENT_READ, job)
        self.selector.register(launcher, selectors.EVENT_READ, job)
        return None

    def _forget(self, launcher: socket.socket) -> None:
        """Close, in a child, all that is the parent's."""
        self.selector.close()
        self.listener.close()
        os.close(self.alive)
        launcher.close()
        for job in self.jobs.values():
            job.launcher.close()
            os.close(job.watch)
        self.jobs.clear()
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
    """Read what a launcher asks for.

    Raises:
        OSError: it ended in the middle of its request, or belongs to another user.
    """
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of the one thread that is harmless
        process = os.fork()
    if process == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
    return process


def become(request: Request) -> None:
    """Take what a job would have had as a Python of its own."""
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
    _set_threads(os.environ.get("OMP_NUM_THREADS", ""))
    import numpy

    numpy.random.seed()  # noqa: NPY002  the global generator, as it would be in a fresh process
    importlib.import_module("vtclip.runtime.devices").leave_out_inherited_memory()


@cache
def _find_pools() -> Any:
    """The libraries with threads of their own; the parent looks for them once, in 20 ms."""
    return importlib.import_module("threadpoolctl").ThreadpoolController()


def _set_threads(number: str) -> None:
    """Set what OpenMP and OpenBLAS have read in the parent."""
    import torch

    if number.isdigit() and int(number) > 0:
        _find_pools().limit(limits=int(number))
        torch.set_num_threads(int(number))


def run(request: Request) -> NoReturn:
    """Run a script as `python script` would, and end this process.

    It ends as multiprocessing's children do: Python's own end takes all modules apart, which writes
    to most of the memory that is shared with the parent, and takes 0.3 s.
    """
    become(request)
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
        with suppress(OSError, ValueError):  # nobody reads it, or the job has closed it
            stream.flush()
    if interrupted:  # then Python ends by the signal
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status)


def _exit_status(error: SystemExit) -> int:
    """The status that Python makes of `sys.exit`."""
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def main(listener: int, alive: int) -> None:
    """Serve launchers until Snakemake ends; in a child, run its script."""
    code = preload()
    gc.collect()
    gc.freeze()
    request = Parent(socket.socket(fileno=listener), alive).serve(code)
    if request is None:
        os._exit(0)
    run(request)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

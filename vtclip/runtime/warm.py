"""Forking of local jobs from a warm parent, as the workflow switches it on.

A job is short: training Tip-Adapter-F takes 0.3 s, and importing PyTorch takes 1.8 to 3.6 s. So a
process that has imported the jobs' libraries forks one child for each job (`warm_parent`), and
Snakemake starts a small program that waits for the child (`launcher`) in place of Python.

It is off, and every job is a Python process of its own, where `is_supported` is false, on a
cluster, with `--sdm conda` or containers, and with VTCLIP_WARM=0. benchmarks/start.py measures what
it saves.
"""

import os
import secrets
import selectors
import shlex
import socket
import subprocess
import sys
import threading
from pathlib import Path

OFF = "VTCLIP_WARM"
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
    "_RJEM_MALLOC_CONF": "background_thread:false",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}  # fmt: skip


def is_supported() -> bool:
    """Check that jobs can be forked here: on Linux 5.3 or newer, unless VTCLIP_WARM is 0."""
    if os.environ.get(OFF) == "0" or sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an older kernel, or a container that forbids it
        return False
    return True


def make_launcher(python: str) -> str:
    """Prepare a warm parent, to be started at the first job by this interpreter.

    Returns the command that runs a script as a child of the parent, quoted for a shell.
    """
    address = f"vtclip-{os.getpid()}-{secrets.token_hex(8)}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0" + address)
    listener.listen(1024)
    threading.Thread(target=_start_at_first_job, args=(python, listener), daemon=True).start()
    launcher = str(Path(__file__).with_name("launcher.py"))
    return shlex.join([python, "-I", "-S", launcher, address, str(os.getpid())])


def _start_at_first_job(python: str, listener: socket.socket) -> None:
    """Wait for a launcher, then start the parent and give it the socket.

    The parent reads from a pipe that is open in this process alone: it ends when this one does.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.select()
    alive, open_while_alive = os.pipe()
    numbers = (listener.fileno(), alive)
    try:
        parent = subprocess.Popen(
            [python, "-Pm", "vtclip.runtime.warm_parent", *map(str, numbers)],
            stdin=subprocess.DEVNULL, pass_fds=numbers, env=os.environ | ENVIRONMENT,
        )  # fmt: skip
    except OSError as error:
        print(f"No warm parent ({error}): every job starts a Python process.", file=sys.stderr)
        return
    finally:
        # Where the parent has died, no process listens, and launchers notice at once.
        listener.close()
        os.close(alive)
    parent.wait()
    os.close(open_while_alive)

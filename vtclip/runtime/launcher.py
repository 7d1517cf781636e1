"""Run a script as a child of the warm parent; Snakemake starts this in place of Python.

    python -I -S launcher.py ADDRESS SNAKEMAKE script.py

ADDRESS names the parent's socket, SNAKEMAKE is the process ID of the Snakemake that started it.
The standard library alone is imported, so that this takes 20 ms. Anything that is not a script
(`-m snakemake`), and any script for which there is no parent, runs as without this file.

For Snakemake the launcher is the job: it passes signals on, and ends as the job ends. When it dies,
its connection closes, and the parent kills the job.
"""

import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from contextlib import suppress

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
             signal.SIGUSR2)  # fmt: skip
LENGTH = struct.Struct("!Q")
NO_PARENT = "VTCLIP_NO_WARM_PARENT"  # for the job's log: why it was not forked
PATIENCE = 10_000  # milliseconds that a killed job may take to end


class NoParentError(Exception):
    """There is no warm parent, or it has died."""


def main(address: str, snakemake: str, *command: str) -> None:
    """Run a command, and end as it ends; never returns."""
    reason = ""
    if command and os.path.isfile(command[0]):  # noqa: PTH113  pathlib takes as long as the rest
        try:
            end_as(run_warm(address, command))
        except (NoParentError, OSError) as error:
            reason = str(error)
        try:
            os.kill(int(snakemake), 0)
        except ProcessLookupError:
            sys.exit(1)  # the whole run was killed
        os.environ[NO_PARENT] = reason
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606


def run_warm(address: str, command: tuple[str, ...]) -> int:
    """Let the parent fork a job; returns the job's status, as `os.waitpid` gives it."""
    with socket.socket(socket.AF_UNIX) as parent:
        parent.connect("\0" + address)  # in Linux's abstract namespace
        check_user(parent)
        send_request(parent, command)
        # The parent's own descriptor: a short job may have ended, and its number be taken again.
        job, watches, _, _ = socket.recv_fds(parent, 32, 1)
        if not watches:
            raise NoParentError("the warm parent ended before this job started")
        (watch,) = watches
        for number in PASSED_ON:
            signal.signal(number, lambda number, frame: pass_on(watch, number))
        status = parent.makefile("r").readline()
        if status:
            return int(status)
        waiting = select.poll()
        waiting.register(watch, select.POLLIN)
        if not waiting.poll(PATIENCE):
            sys.exit(f"The job {int(job)} does not end, though its parent did.")
        raise NoParentError("the warm parent died, and this job with it; it starts again")


def check_user(peer: socket.socket) -> None:
    """Check that a peer belongs to this user: any user may use a name in the abstract namespace."""
    size = struct.calcsize("3i")  # process, user, group
    user = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1]
    if user != os.getuid():
        raise NoParentError(f"the socket belongs to user {user}, not to {os.getuid()}")


def send_request(parent: socket.socket, command: tuple[str, ...]) -> None:
    """Send the script and the surroundings that the job gets from this process."""
    umask = os.umask(0)
    os.umask(umask)
    request = {
        "command": command,
        "folder": os.getcwd(),  # noqa: PTH109
        "environment": dict(os.environ),
        "umask": umask,
        "group": os.getpgid(0),
    }
    message = json.dumps(request).encode("ascii")
    socket.send_fds(parent, [LENGTH.pack(len(message))], [0, 1, 2])
    parent.sendall(message)


def pass_on(job: int, number: int) -> None:
    """Send a signal to the job, which may have ended."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(job, number)


def end_as(status: int) -> None:
    """End this process as a job ended: with its exit status, or by its signal."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the job has written its own core dump
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A real Slurm with one node and two pretend GPUs, on this machine's loopback address.

    python tests/workflow/slurm/cluster.py run -- COMMAND ...

starts it from Debian's packages (slurmctld, slurmd, slurm-client, munge), runs the command on it
and stops it again. It takes root, as slurmd does. What it writes lies in a temporary folder, but
for a link in /etc/slurm to its configuration; beside another Slurm it does not start.
"""

import argparse
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "sinfo", "munged")
PRETEND = ("/dev/null", "/dev/zero")
GPUS = len(PRETEND)
DEFAULT = Path("/etc/slurm/slurm.conf")
PREFIX = "vtclip-slurm-"  # of a cluster's folder
READY = 60  # seconds until the node must have come up

# cred_expire is also how long a requeued job waits, two minutes where nothing is said.
CONFIGURATION = """
ClusterName=vtclip
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket,cred_expire=20
CryptoType=crypto/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge=3600
DefMemPerCPU=1000
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=gpu Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """The programs that are not installed here."""
    return [name for name in PROGRAMS if find_program(name) is None]


def find_program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def refuse_beside_another() -> None:
    """Raise an error where this machine is part of a Slurm."""
    running = {process.info["name"] for process in psutil.process_iter(["name"])}
    if found := running & {"slurmctld", "slurmd", "slurmstepd"}:
        raise RuntimeError(f"This machine already has a Slurm: {', '.join(found)} runs.")
    if DEFAULT.exists() and not left_behind(DEFAULT):
        raise RuntimeError(f"This machine already has a Slurm: {DEFAULT} is there.")


def left_behind(link: Path) -> bool:
    """Check that a link leads to the configuration of a test cluster that was killed."""
    return link.is_symlink() and link.readlink().parent.name.startswith(PREFIX)


class Cluster:
    """A running cluster.

    Attributes:
        folder: its configuration, its logs and its state.
        environment: what a process needs to find it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "VTCLIP_PRETEND_GPUS": "1",  # the GPUs that it assigns are none
        }

    def start(self) -> None:
        """Write the configuration and start munged, slurmctld and slurmd."""
        refuse_beside_another()
        self._configure()
        self._start_munge()
        self._daemon("slurmctld", "-D", "-c")
        self.start_node()

    def start_node(self) -> None:
        """Start slurmd, and wait until the node takes jobs."""
        self._daemon("slurmd", "-D")
        deadline = time.monotonic() + READY
        while "idle" not in (state := self.node_state()) and "mix" not in state:
            if time.monotonic() > deadline:
                log = (self.folder / "slurmd.log").read_text()[-2000:]
                raise RuntimeError(f"The node did not come up; it is '{state}'.\n{log}")
            time.sleep(0.5)

    def node_state(self) -> str:
        """Sinfo's line about the node."""
        command = [find_program("sinfo"), "--noheader", "--format=%T"]
        done = subprocess.run(
            command, env=self.environment, text=True, capture_output=True, check=False
        )
        return done.stdout.strip()

    def kill_node(self) -> list[psutil.Process]:
        """Let the node die: slurmd and all that runs under it, at once.

        Returns:
            What was killed.
        """
        doomed = [*self._processes("slurmd"), *self._job_processes()]
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, timeout=10)
        return doomed

    def stop(self) -> None:
        """End every process of the cluster."""
        daemons = ("slurmctld", "slurmd", "munged")
        ours = [process for name in daemons for process in self._processes(name)]
        ours += self._job_processes()
        for process in ours:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        if DEFAULT.is_symlink() and DEFAULT.readlink().parent == self.folder:
            DEFAULT.unlink()
        _, alive = psutil.wait_procs(ours, timeout=5)
        for process in alive:
            process.kill()

    def _configure(self) -> None:
        for name in ("state", "spool", "munge"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        for number, device in enumerate(PRETEND):  # slurmd takes nothing but device files
            (self.folder / f"fakegpu{number}").symlink_to(device)
        host = socket.gethostname().partition(".")[0]
        content = CONFIGURATION.format(
            host=host, folder=self.folder, gpus=GPUS,
            controller_port=free_port(), node_port=free_port(),
            cpus=max(2 * GPUS, os.cpu_count() or 1),
            memory=psutil.virtual_memory().total // 2**20,
        )  # fmt: skip
        (self.folder / "slurm.conf").write_text(content)
        gpus = f"NodeName={host} Name=gpu File={self.folder}/fakegpu[0-{GPUS - 1}]\n"
        (self.folder / "gres.conf").write_text(gpus)
        self._link()

    def _link(self) -> None:
        """Put the configuration where Slurm looks for it.

        Snakemake's plugin takes SLURM_CONF away from the environment of its jobs.
        """
        DEFAULT.unlink(missing_ok=True)  # of a cluster that was killed
        DEFAULT.parent.mkdir(parents=True, exist_ok=True)
        DEFAULT.symlink_to(self.folder / "slurm.conf")

    def _start_munge(self) -> None:
        folder = self.folder / "munge"
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        user = pwd.getpwnam("munge")
        for path in (folder, folder / "munge.key"):
            os.chown(path, user.pw_uid, user.pw_gid)
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={folder}/munge.key",
            f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed",
            user="munge",
        )  # fmt: skip
        deadline = time.monotonic() + READY
        while not (folder / "munge.socket").exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"munged did not come up; see {folder}/munged.log")
            time.sleep(0.1)

    def _daemon(self, name: str, *arguments: str, user: str | None = None) -> None:
        """Start a program that outlives this one's terminal."""
        with (self.folder / f"{name}.out").open("a") as output:
            subprocess.Popen(
                [find_program(name), *arguments], env=self.environment, user=user,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def _processes(self, name: str) -> list[psutil.Process]:
        """The daemons of this cluster with a program's name."""
        found = []
        for process in psutil.process_iter(["name"]):
            try:
                if process.info["name"] == name and str(self.folder) in " ".join(
                    [*process.cmdline(), process.environ().get("SLURM_CONF", "")]
                ):
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def _job_processes(self) -> list[psutil.Process]:
        """Every slurmstepd, one a job, and what the job runs.

        They name neither the folder nor the configuration, but no other Slurm is here: beside one
        a cluster does not start.
        """
        found = []
        for process in psutil.process_iter(["name"]):
            if process.info["name"] == "slurmstepd":
                with suppress(psutil.NoSuchProcess):
                    found += [process, *process.children(recursive=True)]
        return found


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A cluster while the block runs."""
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["run"])
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...")
    arguments = parser.parse_args()
    missing = missing_programs()
    if missing:
        print(
            f"Not installed: {', '.join(missing)}. On Debian: "
            "apt-get install slurmctld slurmd slurm-client munge",
            file=sys.stderr,
        )
        return 1
    command = [part for part in arguments.command if part != "--"]
    with running_cluster() as cluster:
        return subprocess.run(command, env=cluster.environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

"""`python -m vtclip.demo`: run the embedded experiment, also after a killed run."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from vtclip.runtime.environment import check_cache
from vtclip.settings import ConfigError

SNAKEMAKE = (sys.executable, "-m", "snakemake", "--configfile", "config/demo.yaml")
TABLE = Path("results/demo/tables/results.txt")
REPORT = Path("results/demo/report.html")


def run_demo(arguments: list[str]) -> int:
    """Run Snakemake on the embedded experiment, and print its table.

    A killed run leaves Snakemake's lock on the folder; it is taken away, unless a Snakemake still
    runs here, or a job that has outlived its own: then nothing is run, and the exit status is 1.
    """
    try:
        check_cache()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    # A process that was just killed may need a moment to end.
    _, running = psutil.wait_procs(list(_find_running(Path.cwd())), timeout=2)
    if running:
        pids = " ".join(str(process.pid) for process in running)
        print(
            f"Something is still running in this folder: process {pids}.\n"
            f"Wait until it ends, or end it with `kill {pids}`. Then run this command again."
        )
        return 1
    if any(Path(".snakemake/locks").glob("*")):
        print("A run was killed here; continuing where it stopped.", flush=True)
        subprocess.run([*SNAKEMAKE, "--unlock", "--quiet"], check=True)
    # Without hooks: Snakemake's own prints the table only where there was something to do.
    cores = ("--cores", str(os.cpu_count()), "--no-hooks")
    status = subprocess.run([*SNAKEMAKE, *cores, *arguments], check=False).returncode
    if status == 0 and TABLE.is_file():
        print(f"\n{TABLE.read_text(encoding='utf-8')}\nThe report: {REPORT}")
    return status


def _find_running(folder: Path) -> Iterator[psutil.Process]:
    """The Snakemakes in this folder, and the jobs, also those whose Snakemake is gone."""
    this = psutil.Process()
    for process in set(psutil.process_iter()) - {this, *this.parents()}:
        try:
            command = process.cmdline()
            is_job = any(f"{folder}/.snakemake/scripts/" in part for part in command)
            is_snakemake = "snakemake" in [Path(part).name for part in command[:3]]
            if is_job or (is_snakemake and Path(process.cwd()) == folder):
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it has ended, or it is somebody else's


if __name__ == "__main__":
    sys.exit(run_demo(sys.argv[1:]))

"""`python -m vtclip.demo`: run the embedded experiment, also after a run that was killed."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

SNAKEMAKE = (sys.executable, "-m", "snakemake", "--configfile", "config/demo.yaml")
TABLE = Path("results/demo/tables/results.txt")
FIGURE = Path("results/demo/figures/accuracy.png")


def run_demo(arguments: list[str]) -> int:
    """Run Snakemake on the embedded experiment, and print its table.

    A run that was killed leaves Snakemake's lock on the folder; it is taken away, unless a
    Snakemake is still at work here.

    Args:
        arguments: more arguments for Snakemake.

    Returns:
        Its exit status.
    """
    if any(Path(".snakemake/locks").glob("*")) and not _is_at_work(Path.cwd()):
        print("A run was killed here; going on where it stopped.", flush=True)
        subprocess.run([*SNAKEMAKE, "--unlock", "--quiet"], check=True)
    # Without hooks: Snakemake's own prints the table only where there was something to do.
    cores = ("--cores", str(os.cpu_count()), "--no-hooks")
    status = subprocess.run([*SNAKEMAKE, *cores, *arguments], check=False).returncode
    if status == 0 and TABLE.is_file():
        print(
            f"\n{TABLE.read_text(encoding='utf-8')}\nThe figure: results/demo/figures/accuracy.png"
        )
    return status


def _is_at_work(folder: Path) -> bool:
    """Whether a Snakemake runs in this folder."""
    for process in psutil.process_iter():
        try:
            names = [Path(part).name for part in process.cmdline()[:3]]
            if "snakemake" in names and Path(process.cwd()) == folder:
                return True
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it has ended, or it is somebody else's
    return False


if __name__ == "__main__":
    sys.exit(run_demo(sys.argv[1:]))

"""The cost of starting a job: a Python of its own against a fork of the warm parent.

Twelve trainings of Tip-Adapter-F on the digits of the embedded experiment run under Snakemake, as
many at a time as there are cores: first each as a Python of its own, then forked. The heads are
compared. CPU-seconds are those of jobs and launchers; what Snakemake takes for itself is measured
in a run with nothing to do, and taken away.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from overhead import copy_project

from vtclip.runtime.warm import ENVIRONMENT

SHOTS, SEEDS = (1, 2, 4, 8), (1, 2, 3)
RUN = "demo/heads/glyph-clip-glyphs/digits/tip_adapter_f/{}shot-seed{}"
HEADS = [f"results/{RUN.format(k, seed)}/head.safetensors" for k in SHOTS for seed in SEEDS]
LOGS = "logs/train_head/demo"
WARM = "VTCLIP_WARM"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_project(folder)
        snakemake(folder, warm=True)  # images, features, texts, and the heads
        _, idle = snakemake(folder, warm=True)
        plain, heads = measure(folder, idle, warm=False)
        forked, same = measure(folder, idle, warm=True)
        assert heads == same, "the heads differ"
        parent = measure_parent(folder)
    print(f"{len(HEADS)} trainings, {os.cpu_count()} cores; the heads are equal to the byte.\n")
    print("| | seconds, Snakemake included | CPU-seconds of the jobs |\n|---|---:|---:|")
    print(f"| a Python for each | {plain[0]:.1f} | {plain[1]:.1f} |")
    print(f"| forked | {forked[0]:.1f} | {forked[1]:.1f} |")
    print(f"| ratio | {plain[0] / forked[0]:.1f} | {plain[1] / forked[1]:.1f} |\n")
    print(f"Starting the parent, once for a run: {parent:.1f} CPU-seconds.")


def measure(folder: Path, idle: float, *, warm: bool) -> tuple[tuple[float, float], list[bytes]]:
    """Wall and CPU-seconds of all trainings, and the heads."""
    for head in HEADS:
        shutil.rmtree((folder / head).parent)
    wall, waited = snakemake(folder, warm=warm)
    # Snakemake has waited for a Python of its own, but of a forked job for the launcher alone.
    texts = [log.read_text() for log in (folder / LOGS).rglob("*/digits/tip_adapter_f/*.log")]
    of_jobs = sum(float(re.search(r"(\S+) CPU-seconds", text)[1]) for text in texts) if warm else 0
    return (wall, waited + of_jobs - idle), [(folder / head).read_bytes() for head in HEADS]


def snakemake(folder: Path, *, warm: bool) -> tuple[float, float]:
    """Make the heads; wall and CPU-seconds of Snakemake and all that it waited for."""
    before, started = cpu_of_children(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "snakemake", *HEADS, "--quiet", "all",
         "--cores", str(os.cpu_count()), "--rerun-triggers", "mtime",
         "--configfile", "config/demo.yaml"],
        cwd=folder, env=os.environ | {WARM: str(int(warm))}, check=True,
    )  # fmt: skip
    return time.perf_counter() - started, cpu_of_children() - before


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_parent(folder: Path) -> float:
    """CPU-seconds of the imports of the warm parent."""
    before = cpu_of_children()
    code = "from vtclip.runtime.warm_parent import preload; preload()"
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(folder)}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
    return cpu_of_children() - before


if __name__ == "__main__":
    main()

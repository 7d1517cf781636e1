"""What a job costs beside its work, and what planning costs.

The first table takes a training job apart: starting Python, importing what the job needs, reading
its inputs, and all of the job that is not training. The second plans the paper's grid with all
methods: from nothing, and once everything is there. Medians of several runs.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import torch

from vtclip.features.store import write_texts, writing_features

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "workflow", "profiles", "vtclip", "config", "environment.yml")
CLASSES, SHOTS, VIEWS, TOKENS, DIM = 100, 16, 5, 50, 1024

TRAIN = """
import sys, time
started = time.perf_counter()
import torch
from vtclip.training.train import train_head
imported = time.perf_counter() - started
torch.set_num_threads(1)
train_head("{method}", {settings}, "texts.parquet", "shots.parquet", "features.parquet", "run",
           seed=1, device=torch.device("cpu"))
print("imported", imported)
"""
METHODS = {"vt_clip": {"epochs": 1}, "tip_adapter_f": {"epochs": 1}, "linear_probe": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--classes", type=int, default=CLASSES, help="of the training job")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report_jobs(Path(folder), arguments.classes, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        report_planning(Path(folder), arguments.rounds)


def report_jobs(folder: Path, classes: int, rounds: int) -> None:
    """The seconds of a training job that are not training."""
    write_inputs(folder, classes)
    print(f"A training job, {classes} classes, {SHOTS} shots, {VIEWS} views, D = {DIM}:\n")
    print("| method | start Python | import | read inputs | all but training |")
    print("|---|---:|---:|---:|---:|")
    for method, settings in METHODS.items():
        runs = [measure_job(folder, method, settings) for _ in range(rounds)]
        cells = (f"{statistics.median(values):.2f}" for values in zip(*runs, strict=True))
        print(f"| {method} | {' | '.join(cells)} |", flush=True)


def write_inputs(folder: Path, classes: int) -> None:
    """The texts, shots and features that a training job reads."""
    labels = torch.arange(classes).repeat_interleave(SHOTS)
    texts = torch.nn.functional.normalize(torch.randn(classes, DIM), dim=-1)
    write_texts(
        folder / "texts.parquet", [str(k) for k in range(classes)], texts, {"logit_scale": 100.0}
    )
    images = [f"{number}.jpg" for number in range(2 * len(labels))]
    shots = pl.DataFrame(
        {
            "image": images,
            "label": labels.repeat(2).numpy(),
            "split": ["train"] * len(labels) + ["val"] * len(labels),
        }
    )
    shots.write_parquet(folder / "shots.parquet")
    views = pl.concat(
        [
            shots.filter(split="train").join(pl.DataFrame({"view": range(VIEWS)}), how="cross"),
            shots.filter(split="val").with_columns(view=pl.lit(0, pl.Int64)),
        ]
    )
    with writing_features(folder / "features.parquet", {}) as writer:
        for rows in views.iter_slices(500):
            writer.write(rows, torch.randn(len(rows), DIM), torch.randn(len(rows), TOKENS, DIM))


def measure_job(folder: Path, method: str, settings: dict) -> tuple[float, ...]:
    """Seconds: starting Python, importing, reading, and all of the job but the training."""
    bare = wall(folder, "pass")
    started = time.perf_counter()
    code = TRAIN.format(method=method, settings=settings)
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, check=True, text=True, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ).stdout  # fmt: skip
    whole = time.perf_counter() - started
    imported = float(re.search(r"imported (\S+)", said)[1])
    run = json.loads((folder / "run" / "run.json").read_text())
    reading = run["seconds"] - run["fitting_seconds"]
    return bare, imported, reading, whole - run["fitting_seconds"]


def wall(folder: Path, code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, env=environment())
    return time.perf_counter() - started


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def report_planning(folder: Path, rounds: int) -> None:
    """Seconds to plan the paper's grid, before anything and after everything."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / part)
    supply_archives(folder)
    seconds, said = plan(folder, rounds)
    jobs = int(re.search(r"^total\s+(\d+)", said, re.MULTILINE)[1])
    heads = int(re.search(r"^train_head\s+(\d+)", said, re.MULTILINE)[1])
    print(f"\nThe paper's grid with all methods: {jobs:,} jobs, {heads:,} of them trainings.\n")
    print("| planning | seconds |")
    print("|---|---:|")
    print(f"| from nothing | {seconds:.1f} |", flush=True)
    finish(folder)
    seconds, said = plan(folder, rounds)
    assert "Nothing to be done" in said, said[-2000:]
    print(f"| with nothing to do | {seconds:.1f} |")


def supply_archives(folder: Path) -> None:
    """Empty files where ImageNet's archives belong: without them the run leaves it out."""
    place = folder / "resources" / "archives" / "imagenet"
    place.mkdir(parents=True)
    text = (folder / "config" / "datasets" / "imagenet.yaml").read_text()
    for name in re.findall(r"file: (\S+)", text):
        (place / name).touch()


def plan(folder: Path, rounds: int) -> tuple[float, str]:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        said = snakemake(folder, "--dry-run", "--quiet", "rules")
        times.append(time.perf_counter() - started)
    return statistics.median(times), said


def finish(folder: Path) -> None:
    """Make every output as an empty file, and let Snakemake record it as done."""
    rows = snakemake(folder, "--summary").splitlines()
    outputs = [line.split("\t")[0] for line in rows if "\t" in line][1:]
    for output in outputs:
        path = folder / output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    snakemake(folder, "--touch", "--forceall", "--quiet", "all")


def snakemake(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", "--cores", "8", *arguments]
    done = subprocess.run(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


if __name__ == "__main__":
    main()

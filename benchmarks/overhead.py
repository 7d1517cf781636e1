"""The cost of a job beside its work, and of planning.

The first table runs real training jobs under Snakemake, one at a time on one core, on invented
features of Caltech101's size and RN50's shape. Each job is a Python of its own, as on a cluster; on
one machine jobs are forked (start.py). A job's seconds are those of its log, imports included;
taken from them is what `run.json` calls fitting, which is the method's own work. The second table
plans the paper's grid with all methods: from nothing, and once everything is there. Medians of
several runs.
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

import open_clip
import polars as pl
import torch
import yaml
from safetensors.torch import save_file

from vtclip.config.dataset import read_dataset
from vtclip.config.experiment import Experiment
from vtclip.data.inventory import archive_path
from vtclip.features.store import open_features_writer
from vtclip.features.texts import write_texts
from vtclip.files import write_receipt
from vtclip.paths import SHOT_FEATURES, TEXTS, WEIGHTS

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "workflow", "profiles", "vtclip", "config", "environment.yml")
DATASET, CLASSES, VIEWS, TOKENS, DIM = "caltech101", 100, 5, 50, 1024
NAME, BACKBONE, SHOTS, SEED = "overhead", "RN50-quickgelu-openai", (1, 16), 1
BATCH = 64  # rows a row group, as extraction writes them

# As little work as a method can do: it is taken from a job's seconds, but it takes ours.
SETTINGS = {
    "zero_shot": {},
    "linear_probe": {"inverse_regularisation": [1.0], "iterations": 10},
    "calip": {},
    "clip_adapter": {"epochs": 1},
    "tip_adapter": {},
    "tip_adapter_f": {"epochs": 1},
    "coop": {"epochs": 1, "batch_size": 1600},
    "vt_clip": {"epochs": 1, "feed_forward": 0, "self_attention": False},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy_project(Path(folder))
        report_jobs(Path(folder), arguments.methods, arguments.rounds)
    with tempfile.TemporaryDirectory() as folder:
        copy_project(Path(folder))
        report_planning(Path(folder), arguments.rounds)


def copy_project(folder: Path) -> None:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / part)


def report_jobs(folder: Path, methods: list[str], rounds: int) -> None:
    """The seconds of training jobs that are not the method's own work."""
    write_inputs(folder)
    print(f"A training job, {CLASSES} classes, {VIEWS} views, N = {TOKENS}, D = {DIM}:\n")
    print("| method | shots | process and imports | reading and writing | all but fitting |")
    print("|---|---:|---:|---:|---:|")
    starting = []
    for method in methods:
        numbers = {"zero_shot": [0], "calip": [0]}.get(method, [min(SHOTS), max(SHOTS)])
        for shots in numbers:
            runs = [measure_job(folder, method, shots) for _ in range(rounds)]
            process, files, between = (statistics.median(part) for part in zip(*runs, strict=True))
            starting.append(between)
            print(f"| {method} | {shots} | {process:.2f} | {files:.2f} | {process + files:.2f} |",
                  flush=True)  # fmt: skip
    print(f"\nSnakemake's own, to start and to plan one job: {statistics.median(starting):.2f} s; "
          "once for a whole run on one machine, on Slurm once for each submission and once more "
          "for each job in it.")  # fmt: skip


def measure_job(folder: Path, method: str, shots: int) -> tuple[float, float, float]:
    """Seconds of one job: its process and imports, its files, and Snakemake's around it."""
    run = f"{BACKBONE}/{DATASET}/{method}/{shots}shot-seed{SEED if shots else 0}"
    head = f"results/{NAME}/heads/{run}/head.safetensors"
    (folder / head).unlink(missing_ok=True)
    started = time.perf_counter()
    snakemake(folder, head, "--cores", "1", "--rerun-triggers", "mtime",
              "--configfile", "config/overhead.yaml")  # fmt: skip
    wall = time.perf_counter() - started
    log = (folder / f"logs/train_head/{NAME}/{run}.log").read_text()
    job = float(re.search(r"Took (\S+) s", log)[1])
    record = json.loads((folder / head).with_name("run.json").read_text())
    return job - record["seconds"], record["seconds"] - record["fitting_seconds"], wall - job


def write_inputs(folder: Path) -> None:
    """A configuration, and all that training jobs read: texts, text tower, features."""
    config = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    config |= {"name": NAME, "datasets": [DATASET], "seeds": [SEED], "shots": list(SHOTS)}
    config |= {"methods": SETTINGS}
    (folder / "config" / "overhead.yaml").write_text(yaml.safe_dump(config))
    weights = folder / WEIGHTS.format(weights=BACKBONE)
    weights.parent.mkdir(parents=True)
    model = open_clip.create_model("RN50-quickgelu", load_weights=False)
    save_file(model.state_dict(), weights)
    write_receipt(weights)  # before what would have been made with them
    texts = folder / TEXTS.format(backbone=BACKBONE, dataset=DATASET, texts="texts")
    features = torch.nn.functional.normalize(torch.randn(CLASSES, DIM), dim=-1)
    names = [f"class {label}" for label in range(CLASSES)]
    write_texts(texts, names, features, {"logit_scale": 100.0})
    views = Experiment.model_validate(config).views.folder
    write_receipt(texts)
    for shots in SHOTS:
        write_receipt(write_run(folder, views, shots))


def write_run(folder: Path, views: str, shots: int) -> Path:
    """The features of one run."""
    parts = [("train", shots, VIEWS), ("val", min(shots, 4), 1)]
    rows = pl.DataFrame(
        [
            (f"{split}/{label}-{number}.jpg", label, split, view)
            for split, each, looks in parts
            for label in range(CLASSES)
            for number in range(each)
            for view in range(looks)
        ],
        schema={"image": pl.String, "label": pl.Int32, "split": pl.String, "view": pl.Int64},
        orient="row",
    )
    run = {"backbone": BACKBONE, "dataset": DATASET, "views": views, "shots": shots, "seed": SEED}
    path = folder / SHOT_FEATURES.format(**run)
    with open_features_writer(path, {}) as writer:
        for part in rows.iter_slices(BATCH):
            writer.write(part, torch.randn(len(part), DIM), torch.randn(len(part), TOKENS, DIM))
    return path


def supply_archives(folder: Path) -> None:
    """Empty files where ImageNet's archives belong: without them a plan leaves it out."""
    for archive in read_dataset("imagenet").archives:
        path = folder / archive_path("imagenet", archive.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def report_planning(folder: Path, rounds: int) -> None:
    """Seconds to plan the paper's grid, before anything and after everything."""
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


def plan(folder: Path, rounds: int) -> tuple[float, str]:
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        said = snakemake(folder, "--dry-run", "--quiet", "rules", "--cores", "8")
        times.append(time.perf_counter() - started)
    return statistics.median(times), said


def finish(folder: Path) -> None:
    """Make every output as an empty file, and let Snakemake record it as done."""
    rows = snakemake(folder, "--summary", "--cores", "8").splitlines()
    outputs = [line.split("\t")[0] for line in rows if "\t" in line][1:]
    for output in outputs:
        path = folder / output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    snakemake(folder, "--touch", "--forceall", "--quiet", "all", "--cores", "8")


def snakemake(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False, env=os.environ | {"VTCLIP_WARM": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


if __name__ == "__main__":
    main()

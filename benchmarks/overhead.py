"""What a job costs beside its work, and what planning costs.

The first table runs real training jobs under Snakemake, one at a time on one core, on invented
features of Caltech101's size and RN50's shape. A job's seconds are those of Snakemake's own record,
from the start of its process to its end; taken from them is what `run.json` calls fitting, which is
the method's own work. The second table plans the paper's grid with all methods: from nothing, and
once everything is there. Medians of several runs.
"""

import argparse
import json
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

from vtclip.features.store import writing_features
from vtclip.features.texts import write_texts

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "workflow", "profiles", "vtclip", "config", "environment.yml")
DATASET, CLASSES, VIEWS, TOKENS, DIM = "caltech101", 100, 5, 50, 1024
BACKBONE, SHOTS, SEED = "RN50-quickgelu", (1, 2, 4, 8, 16), 1
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
    head = f"results/runs/{run}/head.safetensors"
    (folder / head).unlink(missing_ok=True)
    started = time.perf_counter()
    snakemake(folder, head, "--cores", "1", "--rerun-triggers", "mtime",
              "--configfile", "config/overhead.yaml")  # fmt: skip
    wall = time.perf_counter() - started
    record = pl.read_csv(folder / f"results/benchmarks/train_head/{run}.tsv", separator="\t")
    job = float(record["s"][0])
    told = json.loads((folder / head).with_name("run.json").read_text())
    return job - told["seconds"], told["seconds"] - told["fitting_seconds"], wall - job


def write_inputs(folder: Path) -> None:
    """A configuration, and all that training jobs read: texts, text tower, shots, features."""
    config = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    config |= {"datasets": [DATASET], "seeds": [SEED], "methods": SETTINGS}
    (folder / "config" / "overhead.yaml").write_text(yaml.safe_dump(config))
    weights = folder / "resources" / "backbones" / f"{BACKBONE}.safetensors"
    weights.parent.mkdir(parents=True)
    save_file(open_clip.create_model(BACKBONE, load_weights=False).state_dict(), weights)
    rows = pl.concat([write_shots(folder, shots) for shots in SHOTS])
    features = folder / "results" / "features" / BACKBONE / DATASET
    texts = torch.nn.functional.normalize(torch.randn(CLASSES, DIM), dim=-1)
    names = [f"class {label}" for label in range(CLASSES)]
    write_texts(features / "texts.parquet", names, texts, {"logit_scale": 100.0})
    views = pl.concat(
        [
            rows.filter(split="train").join(pl.DataFrame({"view": range(VIEWS)}), how="cross"),
            rows.filter(split="val").with_columns(view=pl.lit(0, pl.Int64)),
        ]
    )
    with writing_features(features / f"seed{SEED}.parquet", {}) as writer:
        for part in views.iter_slices(BATCH):
            writer.write(part, torch.randn(len(part), DIM), torch.randn(len(part), TOKENS, DIM))


def write_shots(folder: Path, shots: int) -> pl.DataFrame:
    """One file of shots, whose images no other has: as many as there can be to read."""
    parts = [("train", shots), ("val", min(shots, 4))]
    rows = pl.DataFrame(
        [
            (f"{split}/{shots}shot/{label}-{number}.jpg", label, split)
            for split, each in parts
            for label in range(CLASSES)
            for number in range(each)
        ],
        schema={"image": pl.String, "label": pl.Int32, "split": pl.String},
        orient="row",
    )
    path = folder / "results" / "shots" / DATASET / f"{shots}shot-seed{SEED}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(path)
    return rows


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
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


if __name__ == "__main__":
    main()

"""The paper's whole table on many GPUs, on paper: from the plan's work and measured overheads.

What each job computes is the plan's account (`Method.work`, `vtclip.cost`). A job takes its
overhead, its arithmetic at a share of a GPU's peak, and where the launches of its steps' operations
take longer, the time that the GPU waits for them; extraction takes what the GPU encodes, or what
the cores beside it decode. N GPUs take the sum over N, or as long as the longest job if that is
more. Jobs that share a GPU (`slots_per_gpu`) overlap what is no arithmetic: one computes while
others start, read, launch or end. Linear probes run on cores beside the GPUs, eight for each, at
the speed that is measured here.
"""

import argparse
import contextlib
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import coop
import grid
import numpy as np
import yaml
from overhead import ROOT, supply_archives
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from vtclip.cost import Work, threads_to_decode, training_threads
from vtclip.methods import METHODS
from vtclip.methods.base import Recipe
from vtclip.paths import Run
from vtclip.plan import Plan
from vtclip.plan.contents import SHARD
from vtclip.plan.head_jobs import head_work
from vtclip.plan.jobs import count_shot_views

CORES = 8  # beside each GPU
# Seconds of a job that are not its arithmetic, as `benchmarks/overhead.py` measured them. Jobs that
# encode images import open_clip, as CoOp's do.
OVERHEADS = {"vt_clip": 2.8, "coop": 6.0, "other methods": 2.2, "predictions": 2.2, "features": 6.0}
IMPORT = 1.8  # of them the import of PyTorch, which jobs that are forked on one machine do not pay
# Share of VT-CLIP's steps before its loss is `stop_at_loss`, by shots, as on the photographs of
# docs/method.md; at 8 shots, where none was measured, that of 4.
STEPS = {4: 0.4, 8: 0.4, 16: 0.1}


class Job(NamedTuple):
    """Seconds of a job on a GPU."""

    arithmetic: float
    launching: float  # beyond the arithmetic, which it overlaps with
    overhead: float

    @property
    def seconds(self) -> float:
        """The whole."""
        return sum(self)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--forked", action="store_true", help="on one machine, as start.py")
    parser.add_argument("--slots", type=int, default=1, help="jobs that share a GPU")
    parser.add_argument(
        "--ends-early", action="store_true", help="VT-CLIP ends as on photographs, but on ImageNet"
    )
    parser.add_argument("--tflops", type=float, default=790.0, help="the GPU's peak, 1e12 a second")
    parser.add_argument("--share", type=float, default=0.4, help="of the peak that is reached")
    parser.add_argument("--images", type=float, default=3000.0, help="encoded a second by a GPU")
    parser.add_argument("--decoded", type=float, default=400.0, help="views a second a core")
    parser.add_argument("--price", type=float, default=3.0, help="of a GPU for an hour")
    arguments = parser.parse_args()
    plan = read_plan()
    jobs = time_jobs(plan, arguments)
    probes = [head_work(plan, run) for run in plan.own_runs if not METHODS[run.method].on_gpu]
    core = measure_core()
    print(f"Features are those of {count_views(plan):,} views.\n")
    report_parts(jobs, probes, core)
    report_gpus(jobs, probes, core, arguments)


def read_plan() -> Plan:
    """The plan of config/config.yaml, all eleven datasets in it."""
    config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text(encoding="utf-8"))
    # A plan searches for archives from the working directory.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        supply_archives(Path(folder))
        return Plan.read(config, source="config/config.yaml")


def time_jobs(plan: Plan, arguments: argparse.Namespace) -> dict[str, list[Job]]:
    """Jobs of each kind, with the seconds that each takes on a GPU."""
    rate = arguments.tflops * 1e12 * arguments.share
    launches = {"vt_clip": grid.count_step(), "coop": coop.count_step()}
    seconds: dict[str, list[tuple[float, float]]] = {kind: [] for kind in OVERHEADS}
    for run in plan.own_runs:
        if METHODS[run.method].on_gpu:
            kind = run.method if run.method in seconds else "other methods"
            ends_early = arguments.ends_early and kind == "vt_clip"
            share = share_of_steps(run) if ends_early else 1.0
            arithmetic = head_work(plan, run).flops / rate
            launching = count_steps(plan, run) * launches.get(kind, 0) * grid.LAUNCH
            waiting = max(0.0, launching - arithmetic)
            seconds[kind].append((share * arithmetic, share * waiting))
    seconds["predictions"] = [(flops / rate, 0.0) for flops in count_predicting(plan)]
    seconds["features"] = [
        (time_extraction(views, arguments), 0.0) for views in list_extractions(plan)
    ]
    saved = IMPORT if arguments.forked else 0.0
    return {
        kind: [Job(*each, OVERHEADS[kind] - saved) for each in their]
        for kind, their in seconds.items()
    }


def count_steps(plan: Plan, run: Run) -> int:
    """Steps of a training by gradient, if it does not end early; 0 of other methods."""
    settings, counts = plan.settings[run.method], plan.counts(run.dataset)
    images = min(counts.train, counts.classes * run.shots)
    if not isinstance(settings, Recipe):
        return 0
    settings = settings.for_dataset(run.dataset)
    return settings.epochs_at(run.shots) * settings.steps_per_epoch(images)


def time_extraction(views: int, arguments: argparse.Namespace) -> float:
    """Seconds of encoding, or of decoding where the cores take longer."""
    decoders = max(1, min(CORES, threads_to_decode(views)) - 1)
    return views / min(arguments.images, decoders * arguments.decoded)


def count_views(plan: Plan) -> int:
    """Views of all images, as the plan estimates them."""
    return sum(list_extractions(plan))


def share_of_steps(run: Run) -> float:
    """Of a training of VT-CLIP, before it ends."""
    return 1.0 if run.dataset == "imagenet" else STEPS.get(run.shots, 1.0)


def count_predicting(plan: Plan) -> Iterator[float]:
    """Floating-point operations of each prediction: every head, every test image."""
    flops: dict[str, float] = {}
    for run in plan.own_runs:
        images = plan.counts(run.tested).test
        flops.setdefault(run.predictions, 0.0)
        flops[run.predictions] += head_work(plan, run).predict_flops * images
    yield from flops.values()


def list_extractions(plan: Plan) -> Iterator[int]:
    """Views of each job that extracts the features of images."""
    seeds = len(plan.experiment.seeds)
    for _ in plan.backbones:
        for dataset in plan.datasets:
            for shots in plan.experiment.shots:
                yield from [count_shot_views(plan, dataset, shots)] * seeds
            for _ in plan.parts_of(dataset):
                yield min(SHARD, plan.counts(dataset).test)


def report_parts(jobs: dict[str, list[Job]], probes: list[Work], core: float) -> None:
    """A row for each part of the table."""
    print("| part | jobs | arithmetic, h | launching, h | overhead, h | longest job, minutes |")
    print("|---|---:|---:|---:|---:|---:|")
    for kind, their in jobs.items():
        parts = [sum(column) / 3600 for column in zip(*their, strict=True)]
        longest = max(job.seconds for job in their) / 60
        hours = " | ".join(f"{part:.2f}" for part in parts)
        print(f"| {kind} | {len(their):,} | {hours} | {longest:.1f} |")
    hours = sum(probe.flops for probe in probes) / core / 3600
    longest = max(seconds_of(probe, core) for probe in probes) / 60
    unlucky = max(probe.longest for probe in probes) / core / 60
    print(
        f"| linear_probe, on cores | {len(probes):,} | {hours:.1f} | | | {longest:.1f} |\n\n"
        f"A core of this machine fits at {core / 1e9:.0f} GFLOP/s. Fits that follow one another "
        f"may take {unlucky:.1f} minutes, with bad luck.\n"
    )


def seconds_of(probe: Work, core: float) -> float:
    """Seconds of a linear probe on its cores, if all its chains of fits take as long."""
    return probe.flops / training_threads(probe, on_gpu=False) / core


def report_gpus(
    jobs: dict[str, list[Job]],
    probes: list[Work],
    core: float,
    arguments: argparse.Namespace,
) -> None:
    """A row for each number of GPUs, with what bounds it."""
    every = [job for their in jobs.values() for job in their]
    waiting = sum(job.launching + job.overhead for job in every) / arguments.slots
    total = sum(job.arithmetic for job in every) + waiting
    cores = sum(probe.flops for probe in probes) / core
    longest = {kind: max(job.seconds for job in their) for kind, their in jobs.items()}
    longest["linear_probe"] = max(seconds_of(probe, core) for probe in probes)
    slowest = max(longest, key=longest.__getitem__)
    print("| GPUs | hours | GPU-hours | price | bound by |")
    print("|---:|---:|---:|---:|---|")
    for gpus in (1, 2, 8, 64):
        bounds = {
            "GPUs": total / gpus,
            "cores": cores / (CORES * gpus),
            f"the longest job, of {slowest}": longest[slowest],
        }
        bound = max(bounds, key=bounds.__getitem__)
        hours = bounds[bound] / 3600
        spent = gpus * hours
        print(f"| {gpus} | {hours:.2f} | {spent:.1f} | {spent * arguments.price:.0f} | {bound} |")


def measure_core() -> float:
    """Flop/s of a logistic regression of ImageNet's classes at 4 shots, on one core."""
    classes, dim = 1000, 1024
    labels = np.tile(np.arange(classes), 4)
    images = np.random.default_rng(0).standard_normal((len(labels), dim), np.float32)
    probe = LogisticRegression(max_iter=10, tol=0.0)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        started = time.perf_counter()
        probe.fit(images, labels)
    seconds = time.perf_counter() - started
    return 4.0 * images.size * classes * probe.n_iter_[0] / seconds


if __name__ == "__main__":
    main()

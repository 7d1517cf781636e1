"""The paper's whole table on many GPUs, on paper: from arithmetic and measured overheads.

Each job takes its overhead and its arithmetic at a share of a GPU's peak; N GPUs take the sum over
N, or as long as the longest job if that is more. Linear probes run on cores beside the GPUs, eight
for each, at the speed that is measured here.
"""

import argparse
import math
import time
import warnings
from pathlib import Path

import numpy as np
import yaml
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from train import flops
from vtclip.resources import ITERATIONS, Work, prediction_flops, read_shape, training_threads

from vtclip.dataset import read_dataset
from vtclip.experiment import Backbone, read_experiment
from vtclip.methods import METHODS, check_methods

CONFIG = Path(__file__).parents[1] / "config"
TOKENS, DIM = 50, 1024
CORES = 8  # beside each GPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--overhead", type=float, default=3.1, help="seconds a job")
    parser.add_argument("--tflops", type=float, default=790.0, help="the GPU's peak, 1e12 a second")
    parser.add_argument("--share", type=float, default=0.4, help="of the peak that is reached")
    parser.add_argument("--images", type=float, default=1000.0, help="encoded a second by a GPU")
    parser.add_argument("--price", type=float, default=3.0, help="of a GPU for an hour")
    arguments = parser.parse_args()
    rate = arguments.tflops * 1e12 * arguments.share
    work, probes = list_work()
    jobs = {
        kind: [arguments.overhead + done / rate for done in all_] for kind, all_ in work.items()
    }
    views = count_views()
    extraction = views / arguments.images
    print("| part | jobs | hours on one GPU | longest job, minutes |")
    print("|---|---:|---:|---:|")
    for kind, seconds in jobs.items():
        print(
            f"| {kind} | {len(seconds):,} | {sum(seconds) / 3600:.2f} | {max(seconds) / 60:.1f} |"
        )
    print(f"| features of {views:,} views | | {extraction / 3600:.2f} | |")
    core = measure_core()
    cores = sum(done for done, _ in probes) / core
    longest_probe = max(done / threads for done, threads in probes) / core
    print(
        f"| linear_probe, on cores | {len(probes):,} | {cores / 3600:.1f} core-hours "
        f"| {longest_probe / 60:.1f} |"
    )
    print(f"\nA core of this machine fits at {core / 1e9:.0f} GFLOP/s.\n")
    total = sum(map(sum, jobs.values())) + extraction
    longest = {kind: max(seconds) for kind, seconds in jobs.items()}
    longest["linear_probe"] = longest_probe
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
        print(
            f"| {gpus} | {hours:.2f} | {gpus * hours:.1f} "
            f"| {gpus * hours * arguments.price:.0f} | {bound} |"
        )


def list_work() -> tuple[dict[str, list[float]], list[tuple[float, int]]]:
    """Floating-point operations of each job on a GPU; those of each linear probe, and its cores."""
    config = yaml.safe_load((CONFIG / "config.yaml").read_text(encoding="utf-8"))
    experiment = read_experiment(config, source="config.yaml")
    settings = check_methods(experiment.methods, source="config.yaml")
    shape = read_shape(Backbone(name="RN50-quickgelu", pretrained="openai"), "projected")
    work: dict[str, list[float]] = {"vt_clip": [], "coop": [], "other methods": []}
    work["predictions"] = []
    probes = []
    for dataset in experiment.datasets:
        counts = read_dataset(dataset, CONFIG / "datasets").counts
        classes = counts.classes
        for method, chosen in settings.items():
            runs = [k for k in experiment.shots for _ in experiment.seeds]
            runs = runs if METHODS[method].few_shot else [0]
            guided = len(runs) if METHODS[method].reads_spatial else 0
            work["predictions"].append(
                prediction_flops(shape, classes=classes, images=counts.test, heads=guided)
            )
            for shots in runs:
                recipe = chosen.for_dataset(dataset)
                images = classes * shots
                if method == "linear_probe":
                    fits = len(recipe.inverse_regularisation)
                    done = fits * ITERATIONS * 4.0 * images * classes * DIM
                    learning = Work(classes, images, 1, images, 0, fits=fits)
                    probes.append((done, training_threads(shape, learning)))
                    continue
                steps = 0
                if hasattr(recipe, "epochs_at"):
                    steps = recipe.epochs_at(shots) * math.ceil(images / recipe.batch_size)
                if method == "vt_clip":
                    done = steps * flops(min(recipe.batch_size, images), classes, TOKENS, DIM)
                else:
                    done = steps * classes * shape.prompt_flops if method == "coop" else 0.0
                work[method if method in work else "other methods"].append(done)
    return work, probes


def measure_core() -> float:
    """Flop/s of a logistic regression of ImageNet's classes at 4 shots, on one core."""
    labels = np.tile(np.arange(1000), 4)
    images = np.random.default_rng(0).standard_normal((len(labels), DIM), np.float32)
    probe = LogisticRegression(max_iter=10, tol=0.0)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        started = time.perf_counter()
        probe.fit(images, labels)
    seconds = time.perf_counter() - started
    return 4.0 * images.size * 1000 * probe.n_iter_[0] / seconds


def count_views() -> int:
    """Views whose features are extracted."""
    config = yaml.safe_load((CONFIG / "config.yaml").read_text(encoding="utf-8"))
    experiment = read_experiment(config, source="config.yaml")
    views = 0
    for dataset in experiment.datasets:
        counts = read_dataset(dataset, CONFIG / "datasets").counts
        shots = min(counts.train, counts.classes * sum(experiment.shots))
        val = min(counts.val, counts.classes * sum(min(k, 4) for k in experiment.shots))
        views += counts.test + len(experiment.seeds) * (shots * (1 + experiment.views.number) + val)
    return views


if __name__ == "__main__":
    main()

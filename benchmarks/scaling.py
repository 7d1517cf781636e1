"""The paper's whole table on many GPUs, on paper: from arithmetic and measured overheads.

Each job takes its overhead and its arithmetic at a share of a GPU's peak; N GPUs take the sum over
N, or as long as the longest job if that is more. Linear probes run on cores beside the GPUs, eight
for each; a long one takes a core for each of its fits.
"""

import argparse
import math
from pathlib import Path

import yaml
from train import flops

from vtclip.experiment import Backbone, read_dataset, read_experiment
from vtclip.methods import METHODS, check_methods
from vtclip.resources import CORE_FLOPS, ITERATIONS, SHORT, prediction_flops, read_shape

CONFIG = Path(__file__).parents[1] / "config"
TOKENS, DIM = 50, 1024
CORES = 8  # beside each GPU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--overhead", type=float, default=3.0, help="seconds a job")
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
    cores, longest_probe = sum(cores for cores, _ in probes), max(wall for _, wall in probes)
    print(
        f"| linear_probe, on cores | {len(probes):,} | {cores / 3600:.1f} core-hours "
        f"| {longest_probe / 60:.1f} |\n"
    )
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


def list_work() -> tuple[dict[str, list[float]], list[tuple[float, float]]]:
    """Floating-point operations of each job on a GPU; core-seconds and seconds of each probe."""
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
                    each = ITERATIONS * 4 * images * classes * DIM / CORE_FLOPS
                    probes.append((fits * each, each if fits * each > 60 * SHORT else fits * each))
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

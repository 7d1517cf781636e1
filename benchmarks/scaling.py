"""The paper's whole table on many GPUs, on paper: from arithmetic and measured overheads.

Each job takes its overhead and its arithmetic at a share of a GPU's peak; N GPUs take the sum over
N, or as long as the longest job if that is more. Linear probes run on cores beside the GPUs, eight
for each.
"""

import argparse
import math
from pathlib import Path

import yaml
from train import flops

from vtclip.experiment import Backbone, read_dataset, read_experiment
from vtclip.methods import METHODS, check_methods
from vtclip.resources import CORE_FLOPS, ITERATIONS, read_shape

CONFIG = Path(__file__).parents[1] / "config"
TOKENS, DIM = 50, 1024


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
    print(f"| linear_probe, on cores | {len(probes):,} | {sum(probes) / 3600:.1f} core-hours "
          f"| {max(probes) / 60:.0f} |\n")  # fmt: skip
    total = sum(map(sum, jobs.values())) + extraction
    longest = max(max(seconds) for seconds in jobs.values())
    print("| GPUs | hours, without linear probes | GPU-hours | price | hours, with them |")
    print("|---:|---:|---:|---:|---:|")
    for gpus in (1, 2, 8, 64):
        hours = max(total / gpus, longest) / 3600
        with_probes = max(hours, max(sum(probes) / (8 * gpus), max(probes)) / 3600)
        paid = gpus * hours
        print(f"| {gpus} | {hours:.2f} | {paid:.1f} | {paid * arguments.price:.0f} "
              f"| {with_probes:.2f} |")  # fmt: skip


def list_work() -> tuple[dict[str, list[float]], list[float]]:
    """Floating-point operations of each run on a GPU, and seconds of each linear probe."""
    config = yaml.safe_load((CONFIG / "config.yaml").read_text(encoding="utf-8"))
    experiment = read_experiment(config, source="config.yaml")
    settings = check_methods(experiment.methods, source="config.yaml")
    prompt = read_shape(
        Backbone(name="RN50-quickgelu", pretrained="openai"), "projected"
    ).prompt_flops
    work: dict[str, list[float]] = {"vt_clip": [], "coop": [], "other methods": []}
    probes = []
    for dataset in experiment.datasets:
        classes = read_dataset(dataset, CONFIG / "datasets").counts.classes
        for method, chosen in settings.items():
            runs = [k for k in experiment.shots for _ in experiment.seeds]
            for shots in runs if METHODS[method].few_shot else [0]:
                recipe = chosen.for_dataset(dataset)
                images = classes * shots
                if method == "linear_probe":
                    fits = len(recipe.inverse_regularisation)
                    each = ITERATIONS * 4 * images * classes * DIM / CORE_FLOPS
                    probes.append(fits * each)
                    continue
                steps = 0
                if hasattr(recipe, "epochs_at"):
                    steps = recipe.epochs_at(shots) * math.ceil(images / recipe.batch_size)
                if method == "vt_clip":
                    done = steps * flops(min(recipe.batch_size, images), classes, TOKENS, DIM)
                else:
                    done = steps * classes * prompt if method == "coop" else 0.0
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

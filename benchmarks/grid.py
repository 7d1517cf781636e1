"""The paper's 165 VT-CLIP runs on invented features of the real shapes.

Eleven datasets, five numbers of shots, three seeds, RN50's D = 1,024 and N = 50, five cached views,
the default settings, and every training to its last epoch: invented images are learned too soon.
Only the training is timed: no process start, no reading. With `--steps` each run is cut to a few
steps and its time is scaled up, for a machine on which the whole takes days. Launches are counted
in one step, with the casts to bfloat16 of a GPU; what they take is reckoned.
"""

import argparse
import math
from functools import partial
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
import yaml
from measuring import count_launches, time_once
from train import flops

from vtclip.config.dataset import read_dataset
from vtclip.config.experiment import read_experiment
from vtclip.methods.base import Samples, Task, Texts
from vtclip.methods.vt_clip import VTClip, VTClipSettings
from vtclip.training.optimise import optimise

CONFIG = Path(__file__).parents[1] / "config"
DIM, TOKENS = 1024, 50
LAUNCH = 5e-6  # seconds of the processor, about


def make_task(
    classes: int, shots: int, views: int, dim: int, seed: int, device: torch.device
) -> Task:
    """Random features; spatial ones in half precision, as training keeps them."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device, dtype=dtype)

    images = classes * shots
    labels = torch.arange(classes, device=device).repeat_interleave(shots)
    spatial = normal(images, views, TOKENS, dim, dtype=torch.float16)
    train = Samples(normal(images, views, dim), spatial, labels)
    return Task(Texts(F.normalize(normal(classes, dim), dim=-1), 100.0), train, None, seed)


def time_run(task: Task, settings: VTClipSettings, steps: int | None) -> tuple[float, int]:
    """Seconds of a whole training, and its number of steps."""
    assert task.train is not None
    images, shots = len(task.train.labels), int(task.train.labels.bincount().max())
    steps_an_epoch = math.ceil(images / settings.batch_size)
    whole = settings.epochs_at(shots) * steps_an_epoch
    if steps is not None and steps < whole:
        # One epoch of as many steps, of full batches where the run has them.
        kept = min(images, steps * settings.batch_size)
        chosen = torch.linspace(0, images - 1, kept, device=task.train.labels.device).long()
        task = Task(task.texts, task.train.take(chosen), None, task.seed)
        settings = settings.model_copy(update={"epochs": math.ceil(steps / steps_an_epoch)})
    done = settings.epochs_at(shots) * math.ceil(len(task.train.labels) / settings.batch_size)
    method = VTClip(settings)
    classifier = method.learner(method.initial_head(task), task).to(task.texts.features.device)
    seconds = time_once(partial(optimise, classifier, task, settings))
    return seconds * whole / done, whole


def count_step() -> int:
    """Launches of a step on a GPU: those of two steps, less those of one."""
    device, counts = torch.device("cpu"), []
    half = mock.patch("vtclip.runtime.devices.has_bfloat16", return_value=True)
    settings = VTClipSettings(epochs=1)
    method = VTClip(settings)
    for steps in (1, 2):
        task = make_task(settings.batch_size, steps, views=1, dim=64, seed=0, device=device)
        learner = method.learner(method.initial_head(task), task)
        with half:
            counts.append(count_launches(partial(optimise, learner, task, settings)))
    return counts[1] - counts[0]


def measure_peak(device: torch.device) -> float:
    """Flop/s of one large matrix product, in the precision that training uses."""
    size = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    matrix = torch.randn(size, size, device=device, dtype=dtype)
    return 2 * size**3 / min(time_once(lambda: matrix @ matrix) for _ in range(6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, help="time so many steps a run and scale up")
    parser.add_argument("--seeds", type=int, help="time so many seeds and scale up")
    parser.add_argument("--dim", type=int, default=DIM)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = yaml.safe_load((CONFIG / "config.yaml").read_text(encoding="utf-8"))
    experiment = read_experiment(config, source="config.yaml")
    peak = measure_peak(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    launches = count_step()
    print(f"{name}: a large matrix product at {peak / 1e12:.2f} TFLOP/s; D = {arguments.dim}")
    print(
        f"A step launches {launches} operations, {launches * LAUNCH * 1e3:.2f} ms of launching.\n"
    )
    print("| dataset | K | runs | steps | seconds | of the peak | at the peak, s | launching, s |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    totals = [0, 0, 0.0, 0.0]
    for dataset in experiment.datasets:
        classes, *row = time_dataset(dataset, experiment, arguments, device)
        totals = [total + value for total, value in zip(totals, row, strict=True)]
        report(dataset, classes, row, peak, launches)
    report("**all**", "", totals, peak, launches)
    print(f"\n{totals[3]:.2e} floating-point operations.")
    if arguments.steps or arguments.seeds:
        print("Scaled up from a part of the steps and seeds.")


def time_dataset(dataset, experiment, arguments, device) -> tuple[int, int, int, float, float]:
    """K, and the runs, steps, seconds and flops of one dataset."""
    counts = read_dataset(dataset, CONFIG / "datasets").counts
    settings = VTClipSettings(stop_at_loss=None).for_dataset(dataset)
    seeds = experiment.seeds[: arguments.seeds]
    runs, all_steps, seconds, work = 0, 0, 0.0, 0.0
    for shots in experiment.shots:
        for seed in seeds:
            task = make_task(
                counts.classes, shots, 1 + experiment.views.number, arguments.dim, seed, device
            )
            taken, steps = time_run(task, settings, arguments.steps)
            share = len(experiment.seeds) / len(seeds)
            batch = min(settings.batch_size, counts.classes * shots)
            runs, all_steps = runs + round(share), all_steps + round(steps * share)
            seconds += taken * share
            work += flops(batch, counts.classes, TOKENS, arguments.dim) * steps * share
    return counts.classes, runs, all_steps, seconds, work


def report(name: str, classes: int | str, totals: list[float], peak: float, launches: int) -> None:
    """A row of the table, of runs, steps, seconds and floating-point operations."""
    runs, steps, seconds, work = totals
    arithmetic, launching = work / peak, steps * launches * LAUNCH
    print(
        f"| {name} | {classes} | {runs} | {steps:,} | {seconds:,.1f} "
        f"| {arithmetic / seconds:.2f} | {arithmetic:,.1f} | {launching:,.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()

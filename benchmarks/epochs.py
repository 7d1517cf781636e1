"""The length of VT-CLIP's training: fixed numbers of epochs, and an end at a training loss.

It reads the features of a finished run, the folder of a dataset's training features, such as
results/features/RN50-quickgelu-openai/caltech101/4crops-0.5-1.0-flip. Each row is the mean over
random subsets of the classes. Accuracy is that on the validation shots, and on images that other
numbers of shots picked and this one did not. Test images are read only with `--test`, for a final
check. A training that may end early has the default numbers of epochs before it. Seconds are those
that this process computed: other jobs may share its cores.
"""

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from fidelity import take

from vtclip.features.store import FeatureSet
from vtclip.features.texts import read_texts
from vtclip.methods.base import score
from vtclip.methods.vt_clip import VTClip, VTClipSettings
from vtclip.methods.zero_shot import ZeroShot
from vtclip.settings import Settings
from vtclip.task import Classifier, Samples, Task, Texts
from vtclip.training.optimise import classify_shots, optimise


class Trial(NamedTuple):
    """The images that a training learns from, and those that it is measured on."""

    task: Task
    others: Samples
    test: Samples | None


class Result(NamedTuple):
    """The results of a training; accuracies in percent."""

    epochs: int
    steps: int
    loss: float
    val: float
    others: float
    test: float
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("features", type=Path, help="the folder of a dataset's training features")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--classes", type=int, help="in a subset; left out, all")
    parser.add_argument("--subsets", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, nargs="*", default=[10, 20, 50, 100, 200])
    parser.add_argument("--stop-at-loss", type=float, nargs="*", default=[], metavar="LOSS")
    parser.add_argument("--train-classes", type=int)
    parser.add_argument("--last-batch", nargs="+", choices=["keep", "drop"], default=["keep"])
    parser.add_argument("--test", action="store_true", help="measure on test images too")
    arguments = parser.parse_args()
    ways: dict[str, dict[str, Any]] = {
        **{
            f"{epochs} epochs": {"epochs": epochs, "stop_at_loss": None}
            for epochs in arguments.epochs
        },
        **{f"to a loss of {loss}": {"stop_at_loss": loss} for loss in arguments.stop_at_loss},
    }
    print("| shots | trained | epochs | steps | loss | val | other images | test | seconds |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    for shots in arguments.shots:
        trials = [read_trial(arguments, shots, subset) for subset in arguments.subsets]
        report(shots, "zero-shot", [measure_zero_shot(trial) for trial in trials])
        for (name, way), last in product(ways.items(), arguments.last_batch):
            settings = VTClipSettings(train_classes=arguments.train_classes, last_batch=last, **way)
            label = f"{name}, {last}" if len(arguments.last_batch) > 1 else name
            report(shots, label, [train(trial, settings) for trial in trials])


def read_trial(arguments: argparse.Namespace, shots: int, subset: int) -> Trial:
    """The images of a run, and those of the other runs that are none of it."""
    files = sorted(arguments.features.glob(f"*shot-seed{arguments.seed}.parquet"))
    found = {int(file.name.partition("shot")[0]): FeatureSet([file]) for file in files}
    texts, metadata = read_texts(arguments.features.parent / "texts.parquet")
    generator = torch.Generator().manual_seed(subset)
    kept = torch.randperm(len(texts), generator=generator)[: arguments.classes].sort().values
    own = found[shots].rows
    train, val = (take(found[shots], pl.col("split") == name, kept) for name in ("train", "val"))
    seen, others = own["image"], []
    for number in sorted(found.keys() - {shots}):
        unseen = (pl.col("view") == 0) & ~pl.col("image").is_in(seen.implode())
        others.append(take(found[number], unseen, kept))
        seen = pl.concat([seen, found[number].rows["image"]])
    test = None
    if arguments.test:
        files = sorted(arguments.features.parent.glob("test*.parquet"))
        test = take(FeatureSet(files), pl.lit(True), kept)
    task = Task(Texts(texts[kept], metadata["logit_scale"]), train, val, arguments.seed)
    return Trial(task, join(others), test)


def join(parts: Sequence[Samples]) -> Samples:
    """Several as one."""
    names = ("pooled", "spatial", "labels")
    return Samples(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def train(trial: Trial, settings: VTClipSettings) -> Result:
    """Train once, and measure."""
    assert trial.task.train is not None
    method = VTClip(settings)
    learner = method.learner(method.initial_head(trial.task), trial.task)
    started = time.process_time()
    history = optimise(learner, trial.task, settings)
    seconds = time.process_time() - started
    steps = history.height * settings.steps_per_epoch(len(trial.task.train.labels))
    return Result(history.height, steps, history["loss"][-1], *measure(learner, trial), seconds)


def measure(classifier: Classifier, trial: Trial) -> tuple[float, float, float]:
    """Accuracy on the validation shots, on other images and on test images, in percent."""
    val, others, test = (
        math.nan
        if shots is None
        else 100 * score(classify_shots(classifier, shots), shots.labels)[0] / len(shots.labels)
        for shots in (trial.task.val, trial.others, trial.test)
    )
    return val, others, test


def measure_zero_shot(trial: Trial) -> Result:
    """The start of every training."""
    plain = ZeroShot(Settings()).classifier({}, trial.task.texts)
    return Result(0, 0, math.nan, *measure(plain, trial), 0.0)


def report(shots: int, way: str, results: Sequence[Result]) -> None:
    """A row: the means over the subsets."""
    means = Result(*(statistics.mean(column) for column in zip(*results, strict=True)))
    digits = Result(0, 0, 4, 1, 1, 1, 0)
    cells = [
        "" if math.isnan(mean) else f"{mean:.{number}f}"
        for mean, number in zip(means, digits, strict=True)
    ]
    print(f"| {shots} | {way} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

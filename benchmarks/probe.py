"""Fitting a linear probe, against fits of scikit-learn's each from zero.

The way before fits every C alone, on images as they are in single precision. A third way shows
what both come near: double precision, to a thousandth of the others' gradient. All choose alike and
run in turn in one process, on one core; what counts is its seconds at work. Features are random
ones that lie about a common direction as CLIP's do, and those of a file: a safetensors file with
`train`, `val` and `test` of (M, D), and `train_labels`, `val_labels` and `test_labels` of (M,).
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from measuring import time_in_turn
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from vtclip.methods.base import choose
from vtclip.methods.linear_probe import LinearProbe, LinearProbeSettings
from vtclip.task import Images, Samples, Task, Texts

COMMON = 0.7  # share of a random feature's squared length that all images have in common
WITHIN = 2.5  # spread within a class, in the spread of the classes
TEST = 25  # random test images per class

BEFORE = "each C alone"
PROBE = LinearProbe(LinearProbeSettings())


class Found(NamedTuple):
    """What a way chooses."""

    strength: float
    accuracy: float


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    parts = {"random": draw_rows(arguments.classes, arguments.shots, arguments.dim)}
    for path in arguments.features:
        parts[path.stem] = read(path)
    print("One core\n")
    print("| features | images | D | way | core-seconds | share | chosen C | accuracy |")
    print("|---|---:|---:|---|---:|---:|---:|---:|")
    for name, data in parts.items():
        report(name, data, arguments.rounds)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--features", type=Path, nargs="*", default=[], help="safetensors files")
    parser.add_argument("--rounds", type=int, default=1)
    return parser.parse_args()


def draw_rows(classes: int, shots: int, dim: int) -> dict[str, Tensor]:
    """Features whose directions differ in variance, about one that all have in common."""
    generator = torch.Generator().manual_seed(0)
    spread = F.normalize(torch.arange(1, dim + 1) ** -0.5, dim=0)
    common = F.normalize(torch.randn(dim, generator=generator), dim=0)
    centres = spread * torch.randn(classes, dim, generator=generator)
    data = {}
    for part, number in {"train": shots, "val": min(shots, 4), "test": TEST}.items():
        labels = torch.arange(classes).repeat_interleave(number)
        own = centres[labels] + WITHIN * spread * torch.randn(len(labels), dim, generator=generator)
        own = F.normalize(own, dim=1)
        data[part] = COMMON**0.5 * common + (1 - COMMON) ** 0.5 * own
        data[f"{part}_labels"] = labels
    return data


def read(path: Path) -> dict[str, Tensor]:
    return {
        name: tensor if name.endswith("_labels") else tensor.float()
        for name, tensor in load_file(path).items()
    }


def report(name: str, data: dict[str, Tensor], rounds: int) -> None:
    exactly = partial(fit_alone, precision=torch.float64, tolerance=1e-7)
    ways = {BEFORE: fit_alone, "each C alone, exactly": exactly, "ours": fit_ours}
    found: dict[str, Found] = {}
    steps: dict[str, Callable[[], object]] = {
        way: partial(keep, found, way, fit, data) for way, fit in ways.items()
    }
    seconds = time_in_turn(steps, rounds, warm=True, clock=time.process_time)
    images, dim = data["train"].shape
    for way, taken in seconds.items():
        print(
            f"| {name} | {images} | {dim} | {way} | {taken:.2f} "
            f"| {taken / seconds[BEFORE]:.2f} | {found[way].strength:g} "
            f"| {found[way].accuracy:.2f} |",
            flush=True,
        )


def keep(
    found: dict[str, Found],
    way: str,
    fit: Callable[[dict[str, Tensor]], Found],
    data: dict[str, Tensor],
) -> None:
    found[way] = fit(data)


def fit_ours(data: dict[str, Tensor]) -> Found:
    train, val = as_shots(data, "train"), as_shots(data, "val")
    classes = int(data["train_labels"].max()) + 1
    texts = Texts(torch.zeros(classes, data["train"].shape[1]), 100.0)
    head = PROBE.initial_head(Task(texts, train, val, seed=0))
    logits = PROBE.classifier(head, texts)(Images(data["test"], None))
    hits = logits.argmax(dim=1) == data["test_labels"]
    return Found(head["inverse_regularisation"].item(), 100 * hits.float().mean().item())


def fit_alone(
    data: dict[str, Tensor], precision: torch.dtype = torch.float32, tolerance: float = 1e-4
) -> Found:
    settings = PROBE.settings
    assert isinstance(settings, LinearProbeSettings)
    train, val, test = (
        (F.normalize(data[part].to(precision), dim=1).numpy(), data[f"{part}_labels"].numpy())
        for part in ("train", "val", "test")
    )
    options = {"max_iter": settings.iterations, "tol": tolerance / len(train[0])}
    strengths = sorted(settings.inverse_regularisation)
    probes = [LogisticRegression(C=strength, **options).fit(*train) for strength in strengths]
    tried = (torch.from_numpy(probe.decision_function(val[0])).float() for probe in probes)
    best = choose(probes, tried, as_shots(data, "val"))
    return Found(best.C, 100 * best.score(*test))


def as_shots(data: dict[str, Tensor], part: str) -> Samples:
    return Samples(data[part][:, None], None, data[f"{part}_labels"])


if __name__ == "__main__":
    main()

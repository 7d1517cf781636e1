"""Test accuracy of the methods that choose on validation shots: by hits alone, and with likelihood.

By hits alone the smallest of the settings with equally many hits is taken; with the likelihood the
one that finds the validation shots' labels likeliest. Without `--tasks` the features are random:
classes about a centre each, on which zero-shot is right for half of the images.

A file of `--tasks` is one that fidelity.py reads. Files of equally many shots are averaged.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import mean
from unittest.mock import patch

import torch
import torch.nn.functional as F
from fidelity import measure, read_file
from torch import Tensor

from vtclip.methods import METHODS
from vtclip.task import Samples, Task, Texts

SHOTS, DRAWS = (1, 4, 16), 3
CLASSES, DIM, VIEWS, TEST, SPREAD = 40, 128, 3, 20, 2.0  # of the random features
RULES = ("hits", "likelihood")
CHOOSING = [
    name
    for name, kind in METHODS.items()
    if not kind.reads_spatial
    and (kind.tunes or getattr(kind.settings_type(), "select", None) == "val")
]


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    tasks = [read_file(path) for path in arguments.tasks] or list(invent_tasks())
    found: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for task, test in tasks:
        shots = int(task.train.labels.bincount().max())
        for method in ["zero_shot", *arguments.methods]:
            for rule in RULES:
                with choosing_by(rule, method):
                    accuracy = 100 * measure(method, {}, task, test)
                found[method, shots, rule].append(accuracy)
    columns = sorted({shots for _, shots, _ in found})
    print(f"| method | {' | '.join(f'{shots}-shot' for shots in columns)} |")
    print(f"|---|{'---:|' * len(columns)}")
    for method in ["zero_shot", *arguments.methods]:
        cells = [
            " -> ".join(f"{mean(found[method, shots, rule]):.1f}" for rule in RULES)
            for shots in columns
        ]
        print(f"| {METHODS[method].title} | {' | '.join(cells)} |")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=Path, nargs="+", default=[], help="files of features")
    parser.add_argument("--methods", nargs="+", choices=CHOOSING, default=CHOOSING)
    return parser.parse_args()


def invent_tasks() -> Iterator[tuple[Task, Samples]]:
    """Random tasks: a few for each number of shots."""
    for draw in range(DRAWS):
        torch.manual_seed(draw)
        centres = F.normalize(torch.randn(CLASSES, DIM), dim=1)
        texts = Texts(F.normalize(near(centres, SPREAD), dim=1), 100.0)
        for shots in SHOTS:
            train, val = sample(centres, shots, VIEWS), sample(centres, min(shots, 4), 1)
            yield Task(texts, train, val, seed=draw), sample(centres, TEST, 1)


def sample(centres: Tensor, number: int, views: int) -> Samples:
    """So many images of each class about its centre, in views about the image."""
    labels = torch.arange(len(centres)).repeat_interleave(number)
    images = near(centres[labels], SPREAD)[:, None].repeat(1, views, 1)
    return Samples(near(images, SPREAD / 4), None, labels)


def near(points: Tensor, spread: float) -> Tensor:
    """Points (..., D) about others, at `spread` times their length."""
    return points + spread / DIM**0.5 * torch.randn_like(points)


@contextmanager
def choosing_by(rule: str, method: str) -> Iterator[None]:
    """With `hits`, all that compares scores compares hits alone."""

    def by_hits(logits: Tensor, labels: Tensor) -> tuple[int, float]:
        return int((logits.argmax(dim=1) == labels).sum()), 0.0

    modules = ["vtclip.methods.base", "vtclip.training.optimise", METHODS[method].__module__]
    with ExitStack() as stack:
        for module in modules if rule == "hits" else []:
            if hasattr(sys.modules[module], "score"):
                stack.enter_context(patch.object(sys.modules[module], "score", by_hits))
        yield


if __name__ == "__main__":
    main()

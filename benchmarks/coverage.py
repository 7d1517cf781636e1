"""Coverage of the sets and rate of refusals, over many splits of a finished run's test images.

    python benchmarks/coverage.py results/features/glyph-clip-glyphs/digits \
        --others results/features/glyph-clip-glyphs/letters

A split draws shots and validation shots, min(shots, 4) per class, from the test images; the others
test. A method is fitted once as the workflow does, and once with constants, so that it chooses
nothing on the images that calibrate it. The images of another dataset are of no class.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from folds import read_pool
from sklearn.metrics import roc_auc_score
from torch import Tensor

from vtclip.methods import METHODS
from vtclip.methods.base import Method
from vtclip.nn.learner import eval_on
from vtclip.plan.variants import constant_settings
from vtclip.task import Images, Samples, Task, Texts
from vtclip.training.calibration import Calibration, class_centres, nearest

CPU = torch.device("cpu")


class Measured(NamedTuple):
    """One split: shares in 0 .. 1, and the mean number of classes in a set."""

    accuracy: float
    coverage: float
    size: float
    empty: float
    refused: float
    refused_others: float
    auroc: float


def main() -> None:
    given = parse_arguments()
    torch.set_num_threads(1)
    texts, _, pooled, labels = read_pool(given.features)
    others = read_pool(given.others).pooled
    print(f"{given.splits} splits, {given.shots} shots, coverage {given.coverage:g}, refused "
          f"{given.refuse:g}\n")  # fmt: skip
    columns = ("accuracy", "coverage", "5 % to 95 % of splits", "mean set size", "empty sets",
               "refused", "others refused", "AUROC")  # fmt: skip
    print("| method | chooses on |", " | ".join(columns), "|")
    print("|---|---|" + "---:|" * len(columns))
    for method in given.methods:
        has_constants = make_method(method, False, given.shots) is not None
        for chooses in (True, False) if has_constants else (True,):
            found = [
                measure(method, chooses, texts, split, others, given)
                for split in draw_splits(pooled, labels, given.shots, given.splits)
            ]
            means = Measured(*torch.tensor(found).mean(dim=0).tolist())
            low, high = torch.tensor([each.coverage for each in found]).quantile(
                torch.tensor([0.05, 0.95])
            )
            chosen = "validation" if chooses else "nothing"
            print(f"| {method} | {chosen} | {means.accuracy:.3f} | {means.coverage:.3f} "
                  f"| {low:.3f} to {high:.3f} | {means.size:.2f} | {means.empty:.3f} "
                  f"| {means.refused:.3f} | {means.refused_others:.3f} "
                  f"| {means.auroc:.4f} |", flush=True)  # fmt: skip
    print("\nOne class of the dataset left out, and to be refused: mean AUROC over classes")
    print(f"{leave_classes_out(pooled, labels, given.shots):.3f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("features", type=Path, help="folder of a dataset's features")
    parser.add_argument("--others", type=Path, required=True, help="the same of another dataset")
    parser.add_argument("--methods", nargs="+", default=["linear_probe", "gda", "tip_adapter"])
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--splits", type=int, default=500)
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--refuse", type=float, default=0.05)
    return parser.parse_args()


def draw_splits(
    pooled: Tensor, labels: Tensor, shots: int, splits: int
) -> Iterator[tuple[Samples, Samples, Images]]:
    """Training, validation and test images, each split from a seed of its own."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(splits):
        order = torch.randperm(len(labels), generator=generator)
        place = torch.zeros_like(labels)  # of an image among those of its class
        for label in labels.unique():
            rows = order[labels[order] == label]
            place[rows] = torch.arange(len(rows))
        most = shots + min(shots, 4)
        train, test = place < shots, place >= most
        val = ~train & ~test
        yield (
            Samples(pooled[train][:, None], None, labels[train]),
            Samples(pooled[val][:, None], None, labels[val]),
            Images(pooled[test], None, labels[test]),
        )


def make_method(name: str, chooses: bool, shots: int) -> Method | None:
    """A method with its default settings; None where it has no constants and must choose."""
    method = METHODS[name](METHODS[name].settings_type())
    settings = method.settings if chooses else constant_settings(method, shots)
    return None if settings is None else METHODS[name](settings)


@torch.inference_mode()
def measure(
    method: str,
    chooses: bool,
    texts: Texts,
    split: tuple[Samples, Samples, Images],
    others: Tensor,
    given: argparse.Namespace,
) -> Measured:
    """Fit a head and its calibration, and test both."""
    train, val, test = split
    chosen = make_method(method, chooses, given.shots)
    task = Task(texts, train, val if chooses else None, seed=0)
    classifier = eval_on(chosen.classifier(chosen.initial_head(task), texts), CPU)
    seen = val.pooled[:, 0]
    logits, centres = classifier(Images(seen, None)), class_centres(train, len(texts.features))
    fitted = Calibration.fit(logits, val.labels, nearest(seen, centres), centres)
    found, labels = classifier(test), test.labels
    rules = fitted.rules(given.coverage, given.refuse)
    sets, refused = rules.apply(found, test.pooled)
    distances = torch.cat([nearest(test.pooled, centres), nearest(others, centres)])
    is_other = torch.arange(len(distances)) >= len(labels)
    return Measured(
        accuracy=(found.argmax(dim=1) == labels).float().mean().item(),
        coverage=sets[torch.arange(len(labels)), labels].float().mean().item(),
        size=sets.sum(dim=1).float().mean().item(),
        empty=(~sets.any(dim=1)).float().mean().item(),
        refused=refused.float().mean().item(),
        refused_others=rules.refuse(others).float().mean().item(),
        auroc=float(roc_auc_score(is_other, distances)),
    )


def leave_classes_out(pooled: Tensor, labels: Tensor, shots: int) -> float:
    """AUROC where each class in turn is not among the training images, as their mean."""
    ((train, _, test),) = draw_splits(pooled, labels, shots, 1)
    classes = labels.unique()
    all_centres, found = class_centres(train, len(classes)), []
    for label in classes:
        centres = all_centres[classes != label]
        found.append(roc_auc_score(test.labels == label, nearest(test.pooled, centres)))
    return sum(map(float, found)) / len(found)


if __name__ == "__main__":
    main()

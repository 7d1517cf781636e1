"""The estimate of a dataset in folds, against the accuracy on all images that were not drawn.

A draw takes ten images per class out of cached test features, and does with them what the workflow
does with a folder: five folds, a head for each, which predicts the fold that it has not seen, and a
head on all images, with the settings that were chosen without some of them. The truth is the
accuracy of this last head on all other images. A 95 % interval should contain it in 95 % of the
draws.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from torch import Tensor

from vtclip.data.manifest import deal_folds
from vtclip.data.shots import sample_shots
from vtclip.features.store import FeatureSet
from vtclip.features.texts import read_classes
from vtclip.methods import METHODS
from vtclip.nn.learner import eval_on
from vtclip.paths import ALL
from vtclip.results.estimates import find_interval, widen
from vtclip.task import Choices, Classifier, Images, Samples, Task, Texts
from vtclip.training.train import fit as fit_head

CPU = torch.device("cpu")
FOLDS, PER_CLASS = 5, 10


class Pool(NamedTuple):
    """Cached features to draw from."""

    texts: Texts
    rows: pl.DataFrame  # row, image, label
    pooled: Tensor  # (M, D)
    labels: Tensor  # (M,)


class Found(NamedTuple):
    """The result of a draw, 0 .. 1."""

    estimate: float  # over the images drawn
    folds: float  # mean accuracy of the folds' heads on all other images
    whole: float  # that of the head on all images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("features", type=Path, help="a folder with test.parquet, texts.parquet")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument(
        "--methods", nargs="+", default=["gda", "proker", "tip_adapter", "linear_probe"]
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pool = read_pool(arguments.features)
    print(
        "| method | estimate | folds' heads | head on all | as good as the folds' | interval "
        "contains it | head is better | head is worse | without the factor | s/draw |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for method in arguments.methods:
        started = time.perf_counter()
        found = [draw(pool, method, seed) for seed in range(arguments.draws)]
        report(method, found, (time.perf_counter() - started) / arguments.draws)


def read_pool(folder: Path) -> Pool:
    texts, _ = read_classes(folder / "texts.parquet", CPU)
    features = FeatureSet([folder / "test.parquet"], spatial=False)
    found = features.take(range(len(features)))
    rows = features.rows.with_row_index("row").with_columns(class_name=pl.lit(""))
    return Pool(texts, rows, found.pooled.float(), found.labels)


def draw(pool: Pool, method: str, seed: int) -> Found:
    """One draw of images, and what folds say of them."""
    generator = np.random.default_rng(seed)
    labels = pool.labels.numpy()
    parts = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    taken = np.sort(
        np.concatenate([generator.choice(part, PER_CLASS, replace=False) for part in parts])
    )
    others = np.setdiff1d(np.arange(len(labels)), taken)
    manifest = deal_folds(pool.rows[taken], FOLDS, np.arange(len(taken)), source="")
    hits, folds = [], []
    for split, fold in manifest.group_by("split"):
        head = fit(pool, method, sample_shots(manifest, shots=ALL, seed=1, without=str(split[0])))
        hits.append(classify(pool, head, fold["row"].to_numpy(writable=True)))
        folds.append(classify(pool, head, others).mean())
    whole = fit(pool, method, sample_shots(manifest, shots=ALL, seed=1), on_all=True)
    right = np.concatenate(hits).mean()
    return Found(right, float(np.mean(folds)), classify(pool, whole, others).mean())


def fit(pool: Pool, method: str, sample: pl.DataFrame, *, on_all: bool = False) -> Classifier:
    chosen = METHODS[method](METHODS[method].settings_type())
    train, val = (
        Samples(pool.pooled[rows][:, None], None, pool.labels[rows])
        for rows in (sample.filter(split=split)["row"].to_list() for split in ("train", "val"))
    )
    task = Task(pool.texts, train, val, seed=1)
    head, _ = fit_head(chosen, task, CPU)
    if on_all:
        rows = sample["row"].to_list()
        whole = Samples(pool.pooled[rows][:, None], None, pool.labels[rows])
        choices = Choices(task.choices.made)
        head, _ = fit_head(chosen, replace(task, train=whole, val=None, choices=choices), CPU)
    return eval_on(chosen.classifier(head, pool.texts), CPU)


@torch.inference_mode()
def classify(pool: Pool, head: Classifier, rows: np.ndarray) -> np.ndarray:
    """True for each of these images that is classified correctly."""
    found = head(Images(pool.pooled[rows], None)).argmax(dim=1)
    return (found == pool.labels[rows]).numpy()


def report(method: str, found: list[Found], seconds: float) -> None:
    estimate, folds, whole = np.array(found).T
    images = 10 * PER_CLASS
    low, high = np.array([find_interval(p, images / widen(FOLDS)) for p in estimate]).T
    plain = np.array([find_interval(p, images) for p in estimate]).T
    shares = (
        whole >= folds, (low <= whole) & (whole <= high), whole > high, whole < low,
        (plain[0] <= whole) & (whole <= plain[1]),
    )  # fmt: skip
    means = (f"{100 * each.mean():.1f}" for each in (estimate, folds, whole))
    cells = [method, *means, *(f"{100 * share.mean():.1f} %" for share in shares), f"{seconds:.2f}"]
    print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

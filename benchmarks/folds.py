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
from vtclip.methods.base import Method
from vtclip.nn.learner import eval_on
from vtclip.paths import ALL
from vtclip.results.estimates import find_interval, widen
from vtclip.task import Choices, Classifier, Head, Images, Samples, Task, Texts
from vtclip.training.calibration import Calibration, class_centres, nearest
from vtclip.training.train import cross_calibrate
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
    crossed: tuple[float, float, float]  # of its sets: coverage, size, share refused
    alone: tuple[float, float, float]  # the same, calibrated on the validation images alone


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
        "contains it | head is better | head is worse | without the factor | interval contains the "
        "folds' heads | s/draw |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for method in arguments.methods:
        started = time.perf_counter()
        found = [draw(pool, method, seed) for seed in range(arguments.draws)]
        report(method, found, (time.perf_counter() - started) / arguments.draws)


def read_pool(folder: Path) -> Pool:
    texts, _ = read_classes(folder / "texts.parquet", CPU)
    features = FeatureSet(sorted(folder.glob("test*.parquet")), spatial=False)
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
        sample = sample_shots(manifest, shots=ALL, seed=1, without=str(split[0]))
        chosen, task, _ = fit(pool, method, sample)
        task = learn_from_all(task, read(pool, sample["row"].to_list()))
        head = chosen.classifier(fit_head(chosen, task, CPU)[0], pool.texts)
        hits.append(classify(pool, head, fold["row"].to_numpy(writable=True)))
        folds.append(classify(pool, head, others).mean())
    whole, crossed, alone = fit_all(pool, method, manifest)
    covered = (cover(pool, whole, each, others) for each in (crossed, alone))
    right, accuracy = np.concatenate(hits).mean(), classify(pool, whole, others).mean()
    return Found(right, float(np.mean(folds)), accuracy, *covered)


def fit(pool: Pool, method: str, sample: pl.DataFrame) -> tuple[Method, Task, Head]:
    """Fit with validation images."""
    chosen = METHODS[method](METHODS[method].settings_type())
    train, val = (
        read(pool, sample.filter(split=split)["row"].to_list()) for split in ("train", "val")
    )
    task = Task(pool.texts, train, val, seed=1)
    return chosen, task, fit_head(chosen, task, CPU)[0]


def fit_all(
    pool: Pool, method: str, manifest: pl.DataFrame
) -> tuple[Classifier, Calibration, Calibration]:
    """The head on all images, its calibration, and that on the validation images alone."""
    sample = sample_shots(manifest, shots=ALL, seed=1)
    chosen, task, head = fit(pool, method, sample)
    assert task.val is not None
    seen = task.val.pooled[:, 0]
    logits = chosen.classifier(head, pool.texts)(Images(seen, None))
    apart = nearest(seen, class_centres(task.samples, len(pool.texts.features)))
    rows = sample.select("row").join(manifest, on="row", maintain_order="left")
    folds = torch.from_numpy(rows["split"].str.slice(4).cast(pl.Int64).to_numpy(writable=True))
    train = replace(read(pool, rows["row"].to_list()), folds=folds)
    whole = learn_from_all(task, train)
    classifier = eval_on(chosen.classifier(fit_head(chosen, whole, CPU)[0], pool.texts), CPU)
    crossed = cross_calibrate(chosen, whole)
    alone = Calibration.fit(logits, task.val.labels, apart, crossed.centres)
    return classifier, crossed, alone


def learn_from_all(task: Task, train: Samples) -> Task:
    """The task of the second fit, which repeats the choices of the first."""
    return replace(task, train=train, val=None, choices=Choices(task.choices.made))


def read(pool: Pool, rows: list[int]) -> Samples:
    return Samples(pool.pooled[rows][:, None], None, pool.labels[rows])


@torch.inference_mode()
def cover(
    pool: Pool, head: Classifier, calibration: Calibration, rows: np.ndarray
) -> tuple[float, float, float]:
    """Coverage at 0.9, mean size of a set, and share refused at 0.05, of new images."""
    images, labels = Images(pool.pooled[rows], None), pool.labels[rows]
    sets, refused = calibration.rules(0.9, 0.05).apply(head(images), images.pooled)
    assert sets is not None
    assert refused is not None
    covered = sets[torch.arange(len(labels)), labels]
    means = (each.float().mean().item() for each in (covered, sets.sum(dim=1), refused))
    return tuple(means)


@torch.inference_mode()
def classify(pool: Pool, head: Classifier, rows: np.ndarray) -> np.ndarray:
    """True for each of these images that is classified correctly."""
    found = head(Images(pool.pooled[rows], None)).argmax(dim=1)
    return (found == pool.labels[rows]).numpy()


def report(method: str, found: list[Found], seconds: float) -> None:
    estimate, folds, whole = np.array([each[:3] for each in found]).T
    images = 10 * PER_CLASS
    low, high = np.array([find_interval(p, images / widen(FOLDS)) for p in estimate]).T
    plain = np.array([find_interval(p, images) for p in estimate]).T
    shares = (
        whole >= folds, (low <= whole) & (whole <= high), whole > high, whole < low,
        (plain[0] <= whole) & (whole <= plain[1]), (low <= folds) & (folds <= high),
    )  # fmt: skip
    means = (f"{100 * each.mean():.1f}" for each in (estimate, folds, whole))
    cells = [method, *means, *(f"{100 * share.mean():.1f} %" for share in shares), f"{seconds:.2f}"]
    print("| " + " | ".join(cells) + " |")
    for name in ("crossed", "alone"):
        coverage, size, refused = np.array([getattr(each, name) for each in found]).T
        low, high = np.quantile(coverage, [0.05, 0.95])
        print(
            f"  {name}: coverage {100 * coverage.mean():.1f} %, in nine draws of ten "
            f"{100 * low:.1f} to {100 * high:.1f} %; {size.mean():.2f} classes in a set; "
            f"refused {100 * refused.mean():.1f} %"
        )


if __name__ == "__main__":
    main()

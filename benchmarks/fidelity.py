"""Accuracy of every method as it was published, on features from files, to compare with others.

A source is the folder of a dataset's training features of any run, such as
results/features/RN50-quickgelu-openai/caltech101/4crops-0.5-1.0-flip, or a file in safetensors with
`texts` (K, D), `train` (M, V, N, D) or (M, V, D), `val` and `test` (., N, D) or (., D), in which
token 0 of N is the pooled feature, and `train_labels`, `val_labels` and `test_labels` (int64).
Rows are means over the sources of equally many shots. CoOp needs a text tower and is left out.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import polars as pl
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from vtclip.features.store import FeatureSet
from vtclip.features.texts import read_classes
from vtclip.methods import METHODS
from vtclip.methods.base import Method, score
from vtclip.nn.learner import eval_on
from vtclip.task import Samples, Task, Texts
from vtclip.training.optimise import classify_shots, optimise

FEATURES_ONLY = [name for name, method in METHODS.items() if not method.reads_text_tower]
CPU = torch.device("cpu")
LENGTH = 9.0  # of raw features, in files of unit ones: about that of ViT-B/32's


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(1)
    found: dict[tuple[str, int], list[float]] = defaultdict(list)
    for source in arguments.sources:
        for shots, task, test in read_tasks(source, arguments):
            for name in arguments.methods:
                settings = arguments.set.get(name, {})
                found[name, shots].append(100 * measure(name, settings, task, test))
    print(f"| method | {' | '.join(f'{shots}-shot' for shots in arguments.shots)} |")
    print(f"|---|{'---:|' * len(arguments.shots)}")
    for name in arguments.methods:
        cells = [f"{mean(found[name, shots]):.1f}" for shots in arguments.shots]
        print(f"| {METHODS[name].title} | {' | '.join(cells)} |")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("sources", type=Path, nargs="+", help="folders of features, or files")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of folders of features")
    parser.add_argument("--methods", nargs="+", choices=FEATURES_ONLY, default=FEATURES_ONLY)
    parser.add_argument(
        "--set", type=yaml.safe_load, default={}, metavar="YAML",
        help="other settings than the published ones, such as '{zs_lp: {last_batch: keep}}'",
    )  # fmt: skip
    return parser.parse_args()


def read_tasks(source: Path, arguments: argparse.Namespace) -> Iterator[tuple[int, Task, Samples]]:
    """Shots, task and test images of a source, for each of the numbers of shots and seeds."""
    if source.is_file():
        task, test = read_file(source)
        assert task.train is not None
        yield int(task.train.labels.bincount().max()), task, test
        return
    test = take(FeatureSet(sorted(source.parent.glob("test*.parquet"))), pl.lit(True))
    for shots in arguments.shots:
        for seed in arguments.seeds:
            features = FeatureSet([source / f"{shots}shot-seed{seed}.parquet"])
            texts, _ = read_classes(source.parent / "texts.parquet")
            train, val = (take(features, pl.col("split") == name) for name in ("train", "val"))
            yield shots, Task(texts, train, val, seed), test


def read_file(path: Path) -> tuple[Task, Samples]:
    """A task, and its test images."""
    file = load_file(path)
    train, val, test = (
        as_samples(LENGTH * file[name], file[f"{name}_labels"], views=name == "train")
        for name in ("train", "val", "test")
    )
    raw = LENGTH * file["texts"]
    texts = Texts(file["texts"], 100.0, means=raw, prompts=raw[:, None])
    return Task(texts, train, val, seed=1), test


def as_samples(features: Tensor, labels: Tensor, *, views: bool) -> Samples:
    """Features with or without tokens, with or without views."""
    if not views:
        features = features[:, None]
    if features.dim() == 3:  # (M, V, D)
        return Samples(features, None, labels)
    return Samples(features[:, :, 0].clone(), features, labels)


def take(found: FeatureSet, which: pl.Expr, kept: Tensor | None = None) -> Samples:
    """Some images, of all classes or of those kept, numbered from 0; the views stand together."""
    if kept is None:
        kept = torch.arange(found.rows["label"].max() + 1)
    labels = pl.Series(kept.numpy()).cast(pl.Int32)
    rows = found.rows.with_row_index("row").filter(which, pl.col("label").is_in(labels.implode()))
    features = found.take(rows["row"].to_list())
    assert features.spatial is not None
    shape = (rows.filter(view=0).height, -1)
    numbered = torch.searchsorted(kept, features.labels.long())
    return Samples(
        features.pooled.float().unflatten(0, shape),
        features.spatial.unflatten(0, shape),
        numbered.unflatten(0, shape)[:, 0],
    )


def measure(name: str, settings: dict[str, object], task: Task, test: Samples) -> float:
    """Share of the test images that a method's head classifies rightly."""
    method: Method = METHODS[name](METHODS[name].settings_type(**settings))
    if test.spatial is None and method.reads_spatial:
        return float("nan")
    head = method.initial_head(task)
    learner = method.learner(head, task)
    if learner is not None:
        optimise(learner, task, method.settings)
        head = method.finish(learner.eval(), task)
    logits = classify_shots(eval_on(method.classifier(head, task.texts), CPU), test)
    return score(logits, test.labels)[0] / len(test.labels)


if __name__ == "__main__":
    main()

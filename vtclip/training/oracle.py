"""The oracle: a head that is chosen on the test images, to measure what that is worth.

It is no result. The rule `train_oracle` alone writes one, into a folder of its own; its tensors and
its predictions have names and a mark with which nothing else can read them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch

from vtclip.files import measure, write_receipt, write_record
from vtclip.methods import make_method
from vtclip.nn.learner import eval_on
from vtclip.parquet import read_parquet, write_parquet
from vtclip.paths import receipt_of
from vtclip.task import Head
from vtclip.tensors import MARKED, WATERMARK, read_head, write_tensors
from vtclip.training.predict import Ready, TrainedHead, predict_batch
from vtclip.training.tasks import Sources, find_labels, open_features, read_batches, read_task
from vtclip.training.train import check_head, fit, fitting_device

COLUMNS = ["shots", "seed", "image", "label", "prediction"]


def train_oracle(
    method: str,
    settings: dict[str, Any],
    sources: Sources,
    test: Sequence[str | Path],  # the features of the test images
    # Head and its method's predictions, of the run's heads that have seen no test image.
    fair: Sequence[tuple[str | Path, str | Path]],
    destination: str | Path,  # of the head; its record and predictions.parquet lie beside it
    *,
    shots: int,
    seed: int,
    device: torch.device,
) -> None:
    """Train a head that chooses on the test images, and write the best of it and of the fair ones.

    A search step by step can end worse on more images than on fewer. So the fair heads of the run
    are among the choices: an oracle is never worse than they are.
    """
    torch.manual_seed(seed)
    chosen = make_method(method, settings)
    device = fitting_device(chosen, device)
    sources = replace(sources, choose_on=test, split="test")
    task = read_task(chosen, sources, seed=seed, device=device)
    head, history = fit(chosen, task, device)
    check_head(head, history)
    classifier = eval_on(chosen.classifier(head, task.texts), device)
    ready = Ready(TrainedHead(shots, seed, destination), classifier)
    labels = find_labels(sources.texts, sources.dataset)
    batches = read_batches(open_features(chosen, test, sources.texts), labels, device)
    best, found = head, pl.concat(predict_batch(ready, *batch, labels) for batch in batches)
    for file, its_predictions in fair:
        predictions = read_parquet(its_predictions).filter(shots=shots, seed=seed)
        if _count_hits(predictions) > _count_hits(found):
            best, found = read_head(file), predictions
    record = {"method": method, "dataset": sources.dataset, "shots": shots, "seed": seed,
              "settings": chosen.settings.model_dump(mode="json")}  # fmt: skip
    _write(Path(destination), best, found.select(COLUMNS), record)


def _count_hits(predictions: pl.DataFrame) -> int:
    return int((predictions["prediction"] == predictions["label"]).sum())


def _write(path: Path, head: Head, predictions: pl.DataFrame, record: dict[str, Any]) -> None:
    """Write everything with the mark: names of tensors, metadata, record."""
    marked = {f"{MARKED}{name}": tensor for name, tensor in head.items()}
    write_tensors(path, marked, {"watermark": WATERMARK})
    accuracy = 100 * _count_hits(predictions) / len(predictions)
    known = {"watermark": WATERMARK, "test_accuracy": accuracy}
    write_record(receipt_of(path), measure(path) | known | record)
    table = predictions.with_columns(watermark=pl.lit(WATERMARK))
    destination = path.with_name("predictions.parquet")
    write_parquet(destination, table.rename({"prediction": f"{MARKED}prediction"}))
    write_receipt(destination)

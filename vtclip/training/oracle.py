"""The oracle: a head that is chosen on the test images, to measure what that is worth.

It is no result. The rule `train_oracle` alone writes one, into a folder of its own; its tensors and
its predictions have names and a mark with which nothing else can read them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from vtclip.config.dataset import ClassSplit
from vtclip.features.store import FeatureSet
from vtclip.features.texts import read_class_names
from vtclip.files import (
    MARKED,
    WATERMARK,
    measure,
    read_head,
    write_receipt,
    write_record,
    write_tensors,
)
from vtclip.methods import make_method
from vtclip.nn.learner import eval_on
from vtclip.parquet import read_parquet, write_parquet
from vtclip.paths import receipt_of
from vtclip.task import Classifier, Head, TextTower
from vtclip.training.predict import read_batches
from vtclip.training.tasks import Sources, read_task
from vtclip.training.train import check_head, fit, fitting_device

COLUMNS = ["shots", "seed", "image", "label", "prediction"]


class Fair(NamedTuple):
    """A head of the same run that has seen no test image, and its method's predictions."""

    head: str | Path
    predictions: str | Path


def train_oracle(
    method: str,
    settings: dict[str, Any],
    texts: str | Path,
    features: Sequence[str | Path],
    test: Sequence[str | Path],
    fair: Sequence[Fair],
    destination: str | Path,
    *,
    shots: int,
    seed: int,
    device: torch.device,
    tower: TextTower | None = None,
    projection: tuple[Tensor, Tensor] | None = None,
    dataset: str = "",
    sample: str | Path | None = None,
) -> None:
    """Train a head that chooses on the test images, and write the best of it and of the fair ones.

    A search step by step can end worse on more images than on fewer. So the fair heads of the run
    are among the choices: an oracle is never worse than they are.

    Args:
        method: its name.
        settings: the method's settings, as plain values.
        texts: the dataset's text features.
        features: the features of this run's images, or of folds.
        test: those of the test images.
        fair: the heads of the same run that choose on nothing, or on validation images.
        destination: the file of the head; its record, and predictions.parquet, lie beside it.
        shots: labelled images per class.
        seed: of the initial weights and of the batches.
        device: where to train.
        tower: the frozen text tower, for a method that reads it.
        projection: the image tower's last linear map, for a method that reads it.
        dataset: its name; of a half of one, the classes of that half alone count.
        sample: the sampled images, where the features are those of folds.
    """
    torch.manual_seed(seed)
    chosen = make_method(method, settings)
    device = fitting_device(chosen, device)
    sources = Sources(
        texts, features, dataset, sample, choose_on=test, split="test", tower=tower,
        projection=projection,
    )  # fmt: skip
    task = read_task(chosen, sources, seed=seed, device=device)
    head, history = fit(chosen, task, device)
    check_head(head, history)
    classifier = eval_on(chosen.classifier(head, task.texts), device)
    images = FeatureSet(test, spatial=chosen.reads_spatial)
    labels = ClassSplit.parse(dataset).labels(len(read_class_names(texts)))
    best, found = head, _predict(classifier, images, labels, device, shots=shots, seed=seed)
    for each in fair:
        predictions = read_parquet(each.predictions, *COLUMNS).filter(shots=shots, seed=seed)
        if _count_hits(predictions) > _count_hits(found):
            best, found = read_head(each.head), predictions
    record = {"method": method, "dataset": dataset, "shots": shots, "seed": seed,
              "settings": chosen.settings.model_dump(mode="json")}  # fmt: skip
    _write(Path(destination), best, found, record)


@torch.inference_mode()
def _predict(
    classifier: Classifier,
    images: FeatureSet,
    labels: range,
    device: torch.device,
    *,
    shots: int,
    seed: int,
) -> pl.DataFrame:
    tables = []
    for rows, batch in read_batches(images, labels, device):
        logits = classifier(batch)  # (B, K)
        best = labels.start + logits.argmax(dim=1).cpu().numpy()
        found = rows.select("image", "label").with_columns(
            shots=pl.lit(shots, pl.Int32), seed=pl.lit(seed, pl.Int32),
            prediction=pl.Series(best).cast(pl.Int32),
        )  # fmt: skip
        tables.append(found.select(COLUMNS))
    return pl.concat(tables)


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

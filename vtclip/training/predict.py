"""Predicting the test images with all the heads of a method on a dataset."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from vtclip.features.checks import check_labels, check_test_images, check_texts
from vtclip.features.columns import find_non_finite
from vtclip.features.store import FeatureBatch, FeatureSet, check_origin
from vtclip.features.texts import read_class_names, read_classes
from vtclip.files import read_record, write_receipt
from vtclip.methods import METHODS
from vtclip.parquet import write_parquet
from vtclip.paths import record_of
from vtclip.task import Images, TextTower
from vtclip.training.heads import read_head
from vtclip.training.transfer import (
    Tested,
    Trained,
    apply_head,
    batches_of,
    check_same_backbone,
    read_tested,
)

TOP = 5  # how many of the best classes are kept


class PredictionError(RuntimeError):
    """Heads that cannot classify; the message names the file."""


class Run(NamedTuple):
    """One trained head."""

    shots: int
    seed: int
    head: str | Path


def predict_test(
    method: str,
    settings: dict[str, Any],
    texts: str | Path,
    runs: Sequence[Run],
    features: Sequence[str | Path],
    destination: str | Path,
    *,
    device: torch.device,
    manifest: str | Path | None = None,
    tested: str = "",
    trained: Trained | None = None,
    tower: TextTower | None = None,
) -> None:
    """Classify the test images with every head; the features are read once for all of them.

    Args:
        method: its name.
        settings: the method's settings, as plain values.
        texts: the test set's text features.
        runs: the heads.
        features: the files of the test features.
        destination: the Parquet file to write: shots, seed, image, label, prediction, confidence
            (softmax, 0 .. 1) and top (the best classes, best first). Classes are labels of the test
            set.
        device: where to compute.
        manifest: of the test set, to check that its features and texts are all there; left out,
            they are believed.
        tested: the test set's name, if it is a half of one, whose images and classes alone count.
        trained: what the heads were trained on, if it is something else than the test set.
        tower: the frozen text tower, for a method that reads it, if it is something else.

    Raises:
        FeatureError: features, texts or labels that are not those of the manifest, or that another
            backbone made than the one that the heads were trained with.
        ManifestError: classes that the heads do not know, of a method that cannot name them.
        PredictionError: a head of another number of classes, or logits that are no numbers.
    """
    chosen = METHODS[method](METHODS[method].settings_type.model_validate(settings))
    all_classes, metadata = read_classes(texts, device)
    classes = read_tested(tested, texts, manifest, device)
    images = FeatureSet(features, spatial=chosen.reads_spatial)
    check_origin(features[0], images.metadata, texts, metadata)
    check_labels(features[0], images.rows, texts, len(all_classes.features))
    if manifest is not None:
        check_texts(texts, read_class_names(texts), manifest)
        check_test_images(features, images.rows, manifest)
    if trained is not None:
        check_same_backbone(trained, texts)
    classifiers = {}
    for run in runs:
        head = {name: tensor.to(device) for name, tensor in read_head(run.head).items()}
        _check_classes(run.head, len(classes.labels) if trained is None else trained.classes)
        classifiers[run] = apply_head(chosen, head, classes, trained, tower)
    tables = [
        _predict(run, classifier, batch, device, classes)
        for batch in batches_of(images, classes.labels)
        for run, classifier in classifiers.items()
    ]
    predictions = pl.concat(tables).sort("shots", "seed", maintain_order=True)
    write_parquet(destination, predictions)
    write_receipt(destination)


def _check_classes(head: str | Path, classes: int) -> None:
    """Refuse a head that was trained for another number of classes, as far as its record tells."""
    record = Path(record_of(head))
    if record.is_file():
        _check_number(head, read_record(record).get("classes", classes), classes)


def _check_number(head: str | Path, found: int, classes: int) -> None:
    if found != classes:
        raise PredictionError(
            f"{head}: expected a head of {classes} classes, found one of {found}. "
            "Delete it and run again."
        )


@torch.inference_mode()
def _predict(
    run: Run,
    classifier: Callable[[Images], Tensor],
    batch: FeatureBatch,
    device: torch.device,
    classes: Tested,
) -> pl.DataFrame:
    spatial = None if batch.spatial is None else batch.spatial.to(device, torch.float32)
    logits = classifier(Images(batch.pooled.to(device, torch.float32), spatial))  # (B, K)
    _check_number(run.head, logits.shape[1], len(classes.labels))
    place = find_non_finite(logits)
    if place is not None:
        raise PredictionError(
            f"{run.head}: {batch.rows['image'][place[0]]}: the logit of class {place[1]} is "
            f"{logits[place].item()}. Delete the head and run again to train it anew."
        )
    best = classes.labels.start + logits.topk(min(TOP, logits.shape[1]), dim=1).indices.cpu()
    return pl.DataFrame(
        {
            "shots": pl.repeat(run.shots, len(batch), dtype=pl.Int32, eager=True),
            "seed": pl.repeat(run.seed, len(batch), dtype=pl.Int32, eager=True),
            "image": batch.rows["image"],
            "label": batch.rows["label"],
            "prediction": pl.Series(best[:, 0].numpy()).cast(pl.Int32),
            "confidence": pl.Series(logits.softmax(dim=1).amax(dim=1).cpu().numpy()),
            "top": pl.Series(best.tolist(), dtype=pl.List(pl.Int32)),
        }
    )

"""Predicting the test images with all the heads of a method on a dataset."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from safetensors.torch import load_file
from torch import Tensor

from vtclip.features.store import FeatureBatch, FeatureSet, check_origin
from vtclip.features.texts import read_texts
from vtclip.files import write_receipt, writing
from vtclip.methods import METHODS
from vtclip.nn.learner import at_rest
from vtclip.task import Images, Texts

TOP = 5  # how many of the best classes are kept


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
) -> None:
    """Classify the test images with every head; the features are read once for all of them.

    Args:
        method: its name.
        settings: the method's settings, as plain values.
        texts: the dataset's text features.
        runs: the heads.
        features: the files of the test features.
        destination: the Parquet file to write: shots, seed, image, label, prediction, confidence
            (softmax, 0 .. 1) and top (the best classes, best first).
        device: where to compute.
    """
    chosen = METHODS[method](METHODS[method].settings_type.model_validate(settings))
    text_features, metadata = read_texts(texts)
    classes = Texts(text_features.to(device), metadata["logit_scale"])
    classifiers = {}
    for run in runs:
        head = {name: tensor.to(device) for name, tensor in load_file(run.head).items()}
        classifiers[run] = at_rest(chosen.classifier(head, classes), device)
    images = FeatureSet(features, spatial=chosen.reads_spatial)
    check_origin(features[0], images.metadata, texts, metadata)
    tables = [
        _predict(run, classifier, batch, device)
        for batch in images
        for run, classifier in classifiers.items()
    ]
    predictions = pl.concat(tables).sort("shots", "seed", maintain_order=True)
    with writing(destination) as temporary:
        predictions.write_parquet(temporary)
    write_receipt(destination)


@torch.inference_mode()
def _predict(
    run: Run, classifier: Callable[[Images], Tensor], batch: FeatureBatch, device: torch.device
) -> pl.DataFrame:
    spatial = None if batch.spatial is None else batch.spatial.to(device, torch.float32)
    logits = classifier(Images(batch.pooled.to(device, torch.float32), spatial))  # (B, K)
    best = logits.topk(min(TOP, logits.shape[1]), dim=1).indices.cpu()
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

"""Training one head: one method, one dataset, one number of shots, one seed."""

import copy
import importlib.metadata
import logging
import math
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from vtclip.features.store import FeatureSet, check_origin, read_texts
from vtclip.files import write_json, writing
from vtclip.logs import progress
from vtclip.methods import METHODS
from vtclip.methods.base import Head, Images, Recipe, Shots, Task, Texts

logger = logging.getLogger(__name__)

HISTORY = {
    "epoch": pl.Int32,
    "loss": pl.Float64,
    "train_accuracy": pl.Float64,
    "val_accuracy": pl.Float64,
    "learning_rate": pl.Float64,
    "seconds": pl.Float64,
}


class TrainingError(RuntimeError):
    """A training that cannot go on."""


def train_head(
    method: str,
    settings: dict[str, Any],
    texts: str | Path,
    shots: str | Path | None,
    features: str | Path | None,
    destination: str | Path,
    *,
    seed: int,
    device: torch.device,
) -> None:
    """Train one head, and write head.safetensors, history.parquet and run.json.

    Args:
        method: a name of the registry.
        settings: the method's settings, as plain values.
        texts: the dataset's text features.
        shots: the sampled images; None for a method that needs none.
        features: the features of this seed's images; likewise.
        destination: the folder to write to.
        seed: of the initial weights and of the batches.
        device: where to train.
    """
    started = time.perf_counter()
    torch.manual_seed(seed)
    chosen = METHODS[method](METHODS[method].settings_type.model_validate(settings))
    task = _read_task(texts, shots, features, seed, device, chosen.reads_spatial)
    head, history = chosen.start(task), pl.DataFrame(schema=HISTORY)
    classifier = chosen.classifier(head, task.texts)
    if isinstance(classifier, nn.Module):
        assert isinstance(chosen.settings, Recipe)
        history = optimise(classifier.to(device), task, chosen.settings)
        head = classifier.state_dict()
    destination = Path(destination)
    with writing(destination / "head.safetensors") as temporary:
        save_file({name: tensor.contiguous().cpu() for name, tensor in head.items()}, temporary)
    with writing(destination / "history.parquet") as temporary:
        history.write_parquet(temporary)
    write_json(
        destination / "run.json",
        {"method": method, "settings": chosen.settings.model_dump(mode="json"), "seed": seed}
        | _describe_run(device, time.perf_counter() - started),
    )


def optimise(classifier: nn.Module, task: Task, recipe: Recipe) -> pl.DataFrame:
    """Train by gradient with warm-up and cosine; the last epoch's weights stay, or the best's.

    In each epoch each image comes once, in one of its views.

    Args:
        classifier: Images -> logits (B, K); trained in place.
        task: the shots to learn from.
        recipe: how.

    Returns:
        One row an epoch, as HISTORY names it; accuracies in 0 .. 1, of the training batches as
        they were met and of the validation shots.

    Raises:
        TrainingError: the loss is no longer a number.
    """
    assert task.train is not None
    generator = torch.Generator().manual_seed(task.seed)
    shots = int(task.train.labels.bincount().max())
    epochs = recipe.epochs_at(shots)
    steps = epochs * math.ceil(len(task.train.labels) / recipe.batch_size)
    peak = recipe.learning_rate or min(1e-3, 0.1 / task.texts.features.shape[1])
    optimiser = _make_optimiser(classifier, recipe, peak)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _rise_and_fall(step, steps, recipe.warmup)
    )
    number, rows = len(task.train.labels), []
    best: tuple[float, dict[str, Tensor]] | None = None
    for epoch in progress(range(1, epochs + 1), what="epochs"):
        started, losses, hits = time.perf_counter(), 0.0, 0
        classifier.train()
        for images, labels in _draw_batches(task.train, recipe.batch_size, generator):
            logits = classifier(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
            _check_loss(loss, epoch, float(schedule.get_last_lr()[0]))
            optimiser.zero_grad()
            loss.backward()
            if recipe.clip_gradient is not None:
                nn.utils.clip_grad_norm_(classifier.parameters(), recipe.clip_gradient)
            optimiser.step()
            schedule.step()
            losses += loss.item() * len(labels)
            hits += int((logits.argmax(dim=1) == labels).sum())
        accuracy = _accuracy(classifier, task.val)
        if recipe.select == "val" and (best is None or accuracy > best[0]):
            best = accuracy, copy.deepcopy(classifier.state_dict())
        rows.append(
            (epoch, losses / number, hits / number, accuracy, schedule.get_last_lr()[0],
             time.perf_counter() - started)
        )  # fmt: skip
    if best is not None:
        classifier.load_state_dict(best[1])
    return pl.DataFrame(rows, schema=HISTORY, orient="row")


def _make_optimiser(
    classifier: nn.Module, recipe: Recipe, learning_rate: float
) -> torch.optim.Optimizer:
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            classifier.parameters(), learning_rate, momentum=0.9, weight_decay=recipe.weight_decay
        )
    return torch.optim.AdamW(
        classifier.parameters(), learning_rate, weight_decay=recipe.weight_decay, fused=True
    )


def _read_task(
    texts: str | Path,
    shots: str | Path | None,
    features: str | Path | None,
    seed: int,
    device: torch.device,
    spatial: bool,
) -> Task:
    text_features, metadata = read_texts(texts)
    classes = Texts(text_features.to(device), metadata["logit_scale"])
    if shots is None or features is None:
        return Task(classes, None, None, seed)
    found = FeatureSet([features], spatial=spatial, budget=0)
    check_origin(features, found.metadata, texts, metadata)
    picked = pl.read_parquet(shots)
    train, val = (_select(found, picked.filter(split=split), device) for split in ("train", "val"))
    return Task(classes, train, val, seed)


def _select(found: FeatureSet, picked: pl.DataFrame, device: torch.device) -> Shots:
    """The picked images' features with all their views, in the order of the picks."""
    wanted = picked.select("image", "label", "split").with_row_index("pick")
    views = (
        found.rows.with_row_index("row")
        .join(wanted, on=["image", "label", "split"])
        .sort("pick", "view")
    )
    features = found.take(views["row"].to_list())
    shape = (len(picked), -1)
    spatial = features.spatial
    return Shots(
        features.pooled.to(device, torch.float32).unflatten(0, shape),
        None if spatial is None else spatial.to(device, torch.float32).unflatten(0, shape),
        features.labels.unflatten(0, shape)[:, 0].to(device),
    )


def _draw_batches(
    shots: Shots, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Images, Tensor]]:
    """Every image once, in random order, each in a random one of its views."""
    number, views = shots.pooled.shape[:2]
    order = torch.randperm(number, generator=generator)
    view = torch.randint(views, (number,), generator=generator)
    for rows in order.split(batch_size):
        spatial = None if shots.spatial is None else shots.spatial[rows, view[rows]]
        yield Images(shots.pooled[rows, view[rows]], spatial), shots.labels[rows]


def _rise_and_fall(step: int, steps: int, warmup: float) -> float:
    """Linear from 0 to 1 over the warm-up, then half a cosine down to 0."""
    rise = warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _check_loss(loss: Tensor, epoch: int, learning_rate: float) -> None:
    if not torch.isfinite(loss):
        raise TrainingError(
            f"The loss is {loss.item()} in epoch {epoch} at learning rate {learning_rate:.3g}. "
            "Try a smaller `learning_rate` or a longer `warmup`."
        )


@torch.inference_mode()
def _accuracy(classifier: nn.Module, shots: Shots | None, batch_size: int = 256) -> float:
    """Share of the images whose test view is classified rightly; NaN without images."""
    if shots is None or not len(shots.labels):
        return math.nan
    classifier.eval()
    hits = 0
    for rows in torch.arange(len(shots.labels)).split(batch_size):
        spatial = None if shots.spatial is None else shots.spatial[rows, 0]
        logits = classifier(Images(shots.pooled[rows, 0], spatial))
        hits += int((logits.argmax(dim=1) == shots.labels[rows]).sum())
    return hits / len(shots.labels)


def _describe_run(device: torch.device, seconds: float) -> dict[str, Any]:
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    gpu = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 3),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
        "peak_gpu_memory_bytes": gpu,
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("torch", "open_clip_torch", "scikit-learn", "polars")
        },
    }


__all__ = ["HISTORY", "Head", "TrainingError", "optimise", "train_head"]

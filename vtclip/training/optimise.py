"""Training a classifier by gradient."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtclip.methods.base import Training, score
from vtclip.nn.learner import SGD, Adam, AdamW, Optimiser
from vtclip.runtime.job import progress
from vtclip.task import Classifier, Images, Samples, Task

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


def optimise(classifier: nn.Module, task: Task, recipe: Training) -> pl.DataFrame:
    """Train by gradient with warm-up and cosine; the last epoch's weights stay, or the best's.

    A training that ends early, at the recipe's `stop_at_loss`, leaves the rest of the cosine out.
    So does one that repeats an earlier one's choice of the best epoch, and ends at this share of
    its own epochs.
    In each epoch each image comes once, in one of its views; with `last_batch: drop` some do not,
    and in the last epoch not where the steps end before.

    What the classifier's `penalty()` gives, if it has one, is added to the loss. The result has one
    row an epoch: accuracies in 0 .. 1, of the training batches as they were met and of the
    validation shots, of these in some epochs (`measured_every`).
    """
    assert task.train is not None
    generator = torch.Generator().manual_seed(task.seed)
    shots, number = int(task.train.labels.bincount().max()), len(task.train.labels)
    steps, steps_per_epoch = recipe.steps_at(shots, number), recipe.steps_per_epoch(number)
    epochs = math.ceil(steps / steps_per_epoch)
    peak = recipe.learning_rate or min(1e-3, 0.1 / task.texts.features.shape[1])
    optimiser = _make_optimiser(classifier, recipe)

    def rate(step: int) -> float:
        if recipe.warmup == "epoch":
            return cosine_by_epoch(step // steps_per_epoch, epochs, peak)
        part = warmup_cosine(step, steps, recipe.warmup)
        return recipe.lowest_rate + (peak - recipe.lowest_rate) * part

    compiles, stops_at = getattr(recipe, "compile", False), getattr(recipe, "stop_at_loss", None)
    forward = _compile(classifier, task.texts.features.device) if compiles else classifier
    measured_every = recipe.measured_every(epochs)
    share = task.choices.repeat() if recipe.select == "val" else None
    last = epochs if share is None else max(1, round(share * epochs))
    loss_of = _make_loss(classifier, recipe, len(task.texts.features))
    rows = []
    best: tuple[tuple[int, float], int, dict[str, Tensor]] | None = None
    for epoch in progress(range(1, last + 1), what="epochs"):
        started = time.perf_counter()
        classifier.train()
        drawn = _draw_batches(task.train, recipe.batch_size, generator)
        before = (epoch - 1) * steps_per_epoch
        after = min(steps, before + steps_per_epoch)
        batches = islice(drawn, after - before)
        loss, hits, seen = _train_epoch(forward, loss_of, batches, recipe, optimiser, rate, before)
        ends_early = stops_at is not None and loss / seen <= stops_at
        found, accuracy = None, None
        if task.val is not None and (epoch % measured_every == 0 or ends_early):
            found = score(classify_shots(classifier, task.val), task.val.labels)
            accuracy = found[0] / len(task.val.labels)
        if recipe.select == "val" and found is not None and (best is None or found > best[0]):
            best = found, epoch, copy.deepcopy(classifier.state_dict())
        seconds = time.perf_counter() - started
        rows.append((epoch, loss / seen, hits / seen, accuracy, rate(after - 1), seconds))
        if ends_early:
            break
    if best is not None:
        classifier.load_state_dict(best[2])
        task.choices.keep(best[1] / epochs)
    return pl.DataFrame(rows, schema=HISTORY, orient="row")


def _make_loss(
    classifier: nn.Module, recipe: Training, classes: int
) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss of logits (B, K) and labels (B,), with the classifier's penalty if it has one."""
    penalty = getattr(classifier, "penalty", lambda: None)

    def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
        check_logits(logits, classes)
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        added = penalty()
        return loss if added is None else loss + added

    return loss_of


def _compile(classifier: nn.Module, device: torch.device) -> Classifier:
    """Fuse the classifier's operations; on a GPU, capture them and replay them as one launch."""
    # Each size of a batch is compiled: there are two at most, an epoch's last batch and all others.
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    compiled: Classifier = torch.compile(classifier, mode=mode, dynamic=False)
    return compiled


def _train_epoch(
    classifier: Classifier,
    loss_of: Callable[[Tensor, Tensor], Tensor],  # of `_make_loss`
    batches: Iterator[tuple[Images, Tensor]],
    recipe: Training,
    optimiser: Optimiser,
    rate: Callable[[int], float],
    before: int,  # steps taken
) -> tuple[float, int, int]:
    """Sums over an epoch's images of loss and hits, and their number.

    Raises:
        TrainingError: a loss is no number.
    """
    losses, predicted, seen = [], [], []  # on the device until the epoch's end
    for step, (images, labels) in enumerate(batches, start=before):
        logits = classifier(images)
        loss = loss_of(logits, labels)
        loss.backward()
        if recipe.clip_gradient is not None:
            nn.utils.clip_grad_norm_(optimiser.parameters, recipe.clip_gradient)
        optimiser.step(rate(step))
        losses.append(loss.detach())
        predicted.append(logits.argmax(dim=1))
        seen.append(labels)
    means = torch.stack(losses).tolist()
    for step, mean in enumerate(means, start=before):
        if not math.isfinite(mean):
            raise TrainingError(
                f"The loss is {mean} in step {step + 1} at learning rate {rate(step):.3g}. "
                "Try a smaller `learning_rate`, a longer `warmup`, or `clip_gradient: 1.0`."
            )
    total = sum(mean * len(labels) for mean, labels in zip(means, seen, strict=True))
    hits = torch.cat(predicted) == torch.cat(seen)
    return total, int(hits.sum()), len(hits)


def check_logits(logits: Tensor, classes: int) -> None:
    """Refuse the output of a classifier that is not (B, K): that of a method which is being made.

    Raises:
        TrainingError: another shape.
    """
    if logits.ndim != 2 or logits.shape[1] != classes:
        raise TrainingError(
            f"The method's classifier gives {tuple(logits.shape)}: expected logits (images, "
            f"{classes}), one for each class."
        )


def _make_optimiser(classifier: nn.Module, recipe: Training) -> Optimiser:
    parameters, decay = classifier.parameters(), recipe.weight_decay
    if recipe.optimiser == "sgd":
        return SGD(parameters, weight_decay=decay)
    kind = Adam if recipe.optimiser == "adam" else AdamW
    return kind(parameters, weight_decay=decay, epsilon=recipe.epsilon)


def _draw_batches(
    shots: Samples, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Images, Tensor]]:
    """Every image once, in random order, each in a random view; the last batch may be smaller."""
    number = len(shots.labels)
    order = torch.randperm(number, generator=generator)
    view = torch.randint(shots.views, (number,), generator=generator)[order]
    # Sent once an epoch to where most is read, so that no step waits for them.
    place = (shots.pooled if shots.spatial is None else shots.spatial).device
    parts = (drawn.to(place).split(batch_size) for drawn in (order, view))
    for rows, views_of_rows in zip(*parts, strict=True):
        labels = shots.labels[rows]
        yield replace(_take(shots, rows, views_of_rows), labels=labels), labels


def _take(shots: Samples, rows: Tensor, view: Tensor | int) -> Images:
    """One view of some images, on the device in float32."""
    if shots.pictures is not None:
        return Images(shots.pooled[rows, 0], None, pixels=shots.pictures.views(rows, view))
    device = shots.labels.device
    spatial = None
    if shots.spatial is not None:
        spatial = shots.spatial[rows, view].to(device, torch.float32, non_blocking=True)
    return Images(shots.pooled[rows, view], spatial)


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Linear from 0 to 1 over the warm-up, then half a cosine down to 0."""
    rise = warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


WARMUP_RATE = 1e-5  # of CoOp's first epoch


def cosine_by_epoch(epoch: int, epochs: int, peak: float) -> float:
    """CoOp's learning rate in an epoch counted from 0: the cosine starts after the first epoch.

    It is as long as all `epochs`, though it starts one later, and so ends above 0.
    """
    if epoch == 0:
        return min(WARMUP_RATE, peak)
    return peak * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / epochs))


@torch.inference_mode()
def classify_shots(classifier: Classifier, shots: Samples) -> Tensor:
    """Logits (M, K) of the images' test views."""
    if isinstance(classifier, nn.Module):
        classifier.eval()
    batches = torch.arange(len(shots.labels)).split(256)
    return torch.cat([classifier(_take(shots, rows, 0)) for rows in batches])

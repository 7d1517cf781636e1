"""Training one head: one method, one dataset, one number of shots, one seed."""

import importlib.metadata
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from vtclip import __version__
from vtclip.config.dataset import ClassSplit
from vtclip.features.store import find_non_finite, read_metadata
from vtclip.files import measure, write_record
from vtclip.methods import make_method
from vtclip.methods.base import Method, Training
from vtclip.nn.learner import eval_on
from vtclip.parquet import write_parquet
from vtclip.paths import HEAD
from vtclip.runtime.devices import has_bfloat16, has_double, peak_memory
from vtclip.task import Choices, Classifier, Head, Task
from vtclip.tensors import write_tensors
from vtclip.training.calibration import Calibration, class_centres, nearest
from vtclip.training.optimise import (
    HISTORY,
    TrainingError,
    check_logits,
    classify_shots,
    optimise,
)
from vtclip.training.tasks import ALL, TRAIN, Sources, read_task

logger = logging.getLogger(__name__)


class _Fitted(NamedTuple):
    """A fitted head, and what is known of it."""

    task: Task
    head: Head
    history: pl.DataFrame  # of its training
    val_accuracy: float | None  # None without validation images
    calibration: Calibration | None  # the same
    seconds: float


def train_head(
    method: str,
    settings: dict[str, Any],
    sources: Sources,
    destination: str | Path,
    *,
    shots: int,  # images per class, for the record; 0 for a method that needs none
    seed: int,
    device: torch.device,  # the CPU instead for a method in double precision on Apple's GPU
    validation: bool = True,  # False gives no validation shots to a method that need not choose
    on_all: bool = False,  # train on all images in the end: see `_fit_on_all`
) -> None:
    """Train one head, and write head.safetensors, history.parquet and run.json.

    Where there are validation shots, the head's calibration on them is in head.safetensors too.

    Raises:
        FeatureError: features, texts or labels that do not go together, or sampled images that the
            features do not have.
        TrainingError: the method chooses on validation shots and there are none, or the loss is
            no longer a number.
    """
    started = time.perf_counter()
    chosen = make_method(method, settings)
    device = fitting_device(chosen, device)
    fit_once = partial(_fit_once, chosen, sources, seed, device)
    if on_all and validation:
        fitted = _fit_on_all(chosen, fit_once, is_fold=bool(ClassSplit.parse(sources.dataset).fold))
    else:
        fitted = fit_once(validation=validation, learn_from=ALL if on_all else TRAIN)
    at_edge = chosen.choices_at_edge(fitted.head)
    for name, value in at_edge.items():
        logger.warning("%s: %s was chosen, at the edge of its list of values.", name, value)
    calibration = {} if fitted.calibration is None else fitted.calibration.tensors()
    record = {
        "method": method,
        "dataset": sources.dataset,
        "classes": len(fitted.task.texts.features),
        "settings": chosen.settings.model_dump(mode="json"),
        "shots": shots,
        "seed": seed,
        "val_accuracy": fitted.val_accuracy,
        "choices_at_edge": at_edge,
        "precision": chosen.gpu_precision if has_bfloat16(device) else "float32",
        "features": describe_features([*sources.features, sources.texts][0]),
        "fitting_seconds": round(fitted.seconds, 3),
    }
    destination = Path(destination)
    write_tensors(destination / HEAD, fitted.head | calibration)
    write_parquet(destination / "history.parquet", fitted.history)
    described = _describe_run(device, time.perf_counter() - started)
    write_record(destination / "run.json", measure(destination / HEAD) | record | described)


def _fit_on_all(method: Method, fit_once: Callable[..., _Fitted], *, is_fold: bool) -> _Fitted:
    """Choose on the validation shots, then fit on these images too, and calibrate.

    The second fit chooses nothing: it repeats the choices of the first, and a training whose best
    epoch was chosen ends at the same share of its epochs. The validation accuracy is that of the
    first head. The calibration is `cross_calibrate`'s. A head that predicts a fold, and a method
    that reads images, whose fits are long, have that of the first head, with the centres of all
    images.
    """
    first = fit_once(validation=True, learn_from=TRAIN)
    second = fit_once(validation=False, learn_from=ALL, choices=first.task.choices.made)
    started = time.perf_counter()
    calibration = first.calibration
    if second.task.samples.folds is not None and not is_fold:
        calibration = cross_calibrate(method, second.task)
    elif calibration is not None:
        calibration = replace(calibration, centres=_find_centres(second.task))
    seconds = first.seconds + second.seconds + time.perf_counter() - started
    return second._replace(
        val_accuracy=first.val_accuracy, calibration=calibration, seconds=seconds
    )


def cross_calibrate(method: Method, task: Task) -> Calibration:
    """Calibrate a head of all images on these images, each classified by a head without its fold.

    These heads repeat the choices of the one of all images, so their logits are on its scale. The
    sets are cross-conformal: the heads have fewer images, and so sets are rather too large.
    """
    train, device = task.samples, task.texts.features.device
    assert train.folds is not None
    found = []
    for fold in train.folds.unique():
        unseen = train.take((train.folds == fold).nonzero()[:, 0])
        rest = train.take((train.folds != fold).nonzero()[:, 0])
        torch.manual_seed(task.seed)
        part = replace(task, train=rest, val=None, choices=Choices(task.choices.made))
        head, _ = fit(method, part, device)
        logits = classify_shots(eval_on(method.classifier(head, task.texts), device), unseen)
        distances = nearest(unseen.pooled[:, 0].cpu(), _find_centres(part))
        found.append((logits.cpu().float(), unseen.labels.cpu(), distances))
    logits, labels, distances = map(torch.cat, zip(*found, strict=True))
    return Calibration.fit(logits, labels, distances, _find_centres(task))


def _fit_once(
    method: Method,
    sources: Sources,
    seed: int,
    device: torch.device,
    *,
    validation: bool,
    learn_from: Sequence[str],
    choices: Sequence[float] = (),
) -> _Fitted:
    """Fit on the images of some splits, and calibrate on the validation shots."""
    torch.manual_seed(seed)
    task = read_task(method, sources, seed=seed, device=device, learn_from=learn_from)
    task = replace(task, choices=Choices(choices))
    if validation:
        _check_validation(method, task)
    else:
        task = replace(task, val=None)
    started = time.perf_counter()
    head, history = fit(method, task, device)
    classifier = eval_on(method.classifier(head, task.texts), device)
    accuracy, calibration = _calibrate(classifier, task)
    seconds = time.perf_counter() - started
    check_head(head, history)
    return _Fitted(task, head, history, accuracy, calibration, seconds)


def fit(method: Method, task: Task, device: torch.device) -> tuple[Head, pl.DataFrame]:
    """The head, and the history of its training, which is empty where nothing is optimised."""
    head = {name: tensor.to(device) for name, tensor in method.initial_head(task).items()}
    learner = method.learner(head, task)
    if learner is None:
        return head, pl.DataFrame(schema=HISTORY)
    assert isinstance(method.settings, Training)
    history = optimise(learner.to(device), task, method.settings)
    head = method.finish(learner.eval(), task)
    second = method.second_learner(head, task)
    if second is None:
        return head, history
    more = optimise(second[0].to(device), task, second[1])
    epochs = pl.col("epoch") + history.height
    return second[0].eval().state_dict(), pl.concat([history, more.with_columns(epochs)])


def _calibrate(classifier: Classifier, task: Task) -> tuple[float | None, Calibration | None]:
    """Accuracy on the validation shots, and the calibration on them."""
    if task.train is None or task.val is None:
        return None, None
    logits, labels = classify_shots(classifier, task.val).cpu(), task.val.labels.cpu()
    check_logits(logits, len(task.texts.features))
    accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
    centres = _find_centres(task)
    distances = nearest(task.val.pooled[:, 0].cpu(), centres)
    return accuracy, Calibration.fit(logits.float(), labels, distances, centres)


def _find_centres(task: Task) -> Tensor:
    assert task.train is not None
    return class_centres(task.train, len(task.texts.features)).cpu()


def _check_validation(method: Method, task: Task) -> None:
    chooses = method.tunes or getattr(method.settings, "select", None) == "val"
    if chooses and task.val is None:
        raise TrainingError(
            "The method chooses on validation shots, and there are none: the classes have no image "
            "left beside the shots. Give the dataset a validation split, request fewer `shots`, or "
            "write `choose: none`."
        )


def check_head(head: Head, history: pl.DataFrame) -> None:
    """Refuse a head with infinite numbers or NaN, which the last step may leave."""
    for name, tensor in head.items():
        place = find_non_finite(tensor) if tensor.is_floating_point() else None
        if place is not None:
            when = f" after epoch {history.height}" if history.height else ""
            raise TrainingError(
                f"The head's '{name}' contains {tensor[place].item()}{when}. Try a smaller "
                "`learning_rate`, a longer `warmup`, or `clip_gradient: 1.0`."
            )


def fitting_device(method: Method, device: torch.device) -> torch.device:
    """The device, or the CPU for a method in double precision that the device does not have."""
    if method.fits_in_double and not has_double(device):
        return torch.device("cpu")
    return device


def describe_features(path: str | Path) -> dict[str, Any]:
    """Origin of the features that the head was trained on."""
    metadata = read_metadata(path)
    keys = ("backbone", "pretrained", "weights_sha256", "spatial", "precision", "exif",
            "device_kind")  # fmt: skip
    return {key: metadata.get(key) for key in keys}


def _describe_run(device: torch.device, seconds: float) -> dict[str, Any]:
    is_cuda = device.type == "cuda"  # PyTorch reports neither for another kind of GPU
    return {
        "device": torch.cuda.get_device_name(device) if is_cuda else device.type,
        "device_kind": device.type,
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 3),
        "peak_memory_bytes": peak_memory(),
        "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated(device) if is_cuda else 0,
        "versions": {"vtclip": __version__}
        | {
            name: importlib.metadata.version(name)
            for name in ("torch", "open_clip_torch", "scikit-learn", "polars")
        },
    }

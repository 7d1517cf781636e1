"""Training one head: one method, one dataset, one number of shots, one seed."""

import importlib.metadata
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import polars as pl
import torch
from torch import Tensor

from vtclip import __version__
from vtclip.config.dataset import ClassSplit, Exif
from vtclip.cost import BATCH
from vtclip.features.store import (
    FeatureError,
    FeatureSet,
    check_origin,
    find_non_finite,
    read_metadata,
)
from vtclip.features.texts import check_labels, read_class_names, read_classes
from vtclip.files import CALIBRATION, measure, write_record, write_tensors
from vtclip.methods import make_method
from vtclip.methods.base import Method, Training
from vtclip.nn.learner import eval_on
from vtclip.parquet import read_parquet, write_parquet
from vtclip.paths import HEAD
from vtclip.runtime.devices import free_memory, has_bfloat16, has_double, peak_memory
from vtclip.task import Classifier, Head, Prompts, Samples, Task, TextTower, Towers
from vtclip.training.calibration import Calibration, class_centres
from vtclip.training.optimise import HISTORY, TrainingError, classify_shots, optimise

logger = logging.getLogger(__name__)


def train_head(
    method: str,
    settings: dict[str, Any],
    texts: str | Path,
    features: str | Path | Sequence[str | Path] | None,
    destination: str | Path,
    *,
    shots: int,
    seed: int,
    device: torch.device,
    tower: TextTower | None = None,
    choose_on: str | Path | None = None,
    validation: bool = True,
    dataset: str = "",
    sample: str | Path | None = None,
    images: str | None = None,
    projection: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Train one head, and write head.safetensors, history.parquet and run.json.

    Where there are validation shots, the head's calibration on them is in head.safetensors too.

    Args:
        method: its name.
        settings: the method's settings, as plain values.
        texts: the dataset's text features.
        features: the features of this run's images, or those of several folds; None for a method
            that needs none.
        destination: the folder to write to.
        shots: labelled images per class, for the record; 0 for a method that needs none.
        seed: of the initial weights and of the batches.
        device: where to train; the CPU instead for a method in double precision where the device
            has none, as Apple's GPU.
        tower: the frozen text tower, for a method that reads it; both towers for one that reads
            images.
        choose_on: the features of images to choose on in place of the run's validation shots.
        validation: True to give the method the validation shots. Without, it must have nothing to
            choose.
        dataset: its name, for the record; of a half of one, the classes of that half alone count.
        sample: the Parquet file of the sampled images, where the features are those of folds, or
            where the method reads the images themselves.
        images: the folder that the image paths start from, for such a method.
        projection: the image tower's last linear map, for a method that reads it.

    Raises:
        FeatureError: features, texts or labels that do not go together, or sampled images that the
            features do not have.
        TrainingError: the method chooses on validation shots and there are none, or the loss is
            no longer a number.
    """
    started = time.perf_counter()
    torch.manual_seed(seed)
    chosen = make_method(method, settings)
    device = fitting_device(chosen, device)
    files = [features] if isinstance(features, str | Path) else list(features or ())
    others = [] if choose_on is None else [choose_on]
    task = read_task(
        chosen, texts, files, sample, seed=seed, device=device, tower=tower, projection=projection,
        dataset=dataset, choose_on=others,
    )  # fmt: skip
    if chosen.reads_images:
        assert sample is not None
        assert images is not None
        task = _open_images(chosen, task, sample, images, texts, dataset)
    if validation:
        _check_validation(chosen, task)
    else:
        task = replace(task, val=None)
    fitting = time.perf_counter()
    head, history = fit(chosen, task, device)
    classifier = eval_on(chosen.classifier(head, task.texts), device)
    val_accuracy, calibration = _calibrate(classifier, task)
    fitted = time.perf_counter()
    check_head(head, history)
    at_edge = chosen.choices_at_edge(head)
    for name, value in at_edge.items():
        logger.warning("%s: %s was chosen, at the edge of its list of values.", name, value)
    record = {
        "method": method,
        "dataset": dataset,
        "classes": len(task.texts.features),
        "settings": chosen.settings.model_dump(mode="json"),
        "shots": shots,
        "seed": seed,
        "val_accuracy": val_accuracy,
        "choices_at_edge": at_edge,
        "precision": chosen.gpu_precision if has_bfloat16(device) else "float32",
        "features": describe_features(files[0] if files else texts),
        "fitting_seconds": round(fitted - fitting, 3),
    }
    destination = Path(destination)
    write_tensors(destination / HEAD, head | calibration)
    write_parquet(destination / "history.parquet", history)
    described = _describe_run(device, time.perf_counter() - started)
    write_record(destination / "run.json", measure(destination / HEAD) | record | described)


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


def _calibrate(classifier: Classifier, task: Task) -> tuple[float | None, Head]:
    """Accuracy on the validation shots, and the tensors of the calibration on them."""
    if task.train is None or task.val is None:
        return None, {}
    logits, labels = classify_shots(classifier, task.val).cpu(), task.val.labels.cpu()
    accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
    centres = class_centres(task.train, len(task.texts.features)).cpu()
    fitted = Calibration.fit(logits.float(), labels, task.val.pooled[:, 0].cpu(), centres)
    return accuracy, {CALIBRATION + name: tensor for name, tensor in fitted.tensors().items()}


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


def read_task(
    method: Method,
    texts: str | Path,
    features: Sequence[str | Path],
    sample: str | Path | None,
    *,
    seed: int,
    device: torch.device,
    tower: TextTower | None,
    projection: tuple[Tensor, Tensor] | None,
    dataset: str,
    choose_on: Sequence[str | Path] = (),
    split: str = "val",
) -> Task:
    """Read what the method may see, and no more.

    `features` are those of the run's images, or of folds, of which `sample` names the images; none
    for a method that learns from no image. It chooses on the images of a split: those of the run,
    or all of the files `choose_on`.
    """
    names = read_class_names(texts)
    labels = ClassSplit.parse(dataset).labels(len(names))
    all_classes, metadata = read_classes(texts, device)
    task = Task(all_classes.part(labels), None, None, seed)
    if features:
        found = FeatureSet(features, spatial=method.reads_spatial)
        check_origin(features[0], found.metadata, texts, metadata)
        check_labels(features[0], found.rows, texts, len(all_classes.features))
        rows = found.rows.with_row_index("row")
        if sample is not None:
            rows = _find_sample(rows, sample)
        train = _select(found, rows, "train", device, labels, views=method.reads_views)
        if choose_on:
            found = FeatureSet(choose_on, spatial=method.reads_spatial)
            check_origin(choose_on[0], found.metadata, texts, metadata)
            check_labels(choose_on[0], found.rows, texts, len(all_classes.features))
            # A list of picks may train on images of the validation split.
            learned = rows.filter(split="train").select("image").unique()
            whole = found.rows.with_row_index("row")
            rows = whole.join(learned, on="image", how="anti", maintain_order="left")
        val = _select(found, rows, split, device, labels, views=False)
        task = replace(task, train=train, val=val)
    if method.reads_text_tower:
        assert tower is not None
        prompts = Prompts(names[labels.start : labels.stop], tower)
        task = replace(task, texts=replace(task.texts, made_of=prompts), prompts=prompts)
    if method.reads_projection:
        assert projection is not None
        weight, bias = projection
        task = replace(task, projection=(weight.to(device), bias.to(device)))
    return task


def _find_sample(rows: pl.DataFrame, sample: str | Path) -> pl.DataFrame:
    """The rows of the sampled images, in sampled order, each in its split."""
    wanted = read_parquet(sample, "image", "split")
    missing = wanted.join(rows, on="image", how="anti")
    if not missing.is_empty():
        raise FeatureError(
            f"{sample}: there are no features of {missing['image'][0]}. Delete it and run again."
        )
    return wanted.join(rows.drop("split"), on="image", maintain_order="left_right")


def _check_validation(method: Method, task: Task) -> None:
    chooses = method.tunes or getattr(method.settings, "select", None) == "val"
    if chooses and task.val is None:
        raise TrainingError(
            "The method chooses on validation shots, and there are none: the classes have no image "
            "left beside the shots. Give the dataset a validation split, request fewer `shots`, or "
            "write `choose: none`."
        )


def _select(
    found: FeatureSet,
    rows: pl.DataFrame,  # of `found`, with their numbers
    split: str,
    device: torch.device,
    labels: range,
    *,
    views: bool,
) -> Samples | None:
    """The images of a split with these labels, counted from 0, in sampled order; None if none."""
    wanted = pl.col("label").is_between(labels.start, labels.stop - 1)
    numbered = rows.filter(wanted, split=split)
    images = numbered.filter(view=0).height
    if not images:
        return None
    taken = numbered if views else numbered.filter(view=0)
    features = found.take(taken["row"].to_list())
    shape = (images, -1)  # the views of an image stand together
    spatial = features.spatial
    return Samples(
        features.pooled.to(device, torch.float32).unflatten(0, shape),
        None if spatial is None else _place(spatial, device).unflatten(0, shape),
        features.labels.unflatten(0, shape)[:, 0].to(device) - labels.start,
    )


def _open_images(
    method: Method, task: Task, sample: str | Path, folder: str, texts: str | Path, dataset: str
) -> Task:
    """The task with the sampled images themselves."""
    names, label = read_class_names(texts), pl.col("label")
    rows = read_parquet(sample)
    check_labels(sample, rows, texts, len(names))
    labels = ClassSplit.parse(dataset).labels(len(names))
    rows = rows.filter(label.is_between(labels.start, labels.stop - 1))
    rows = rows.with_columns(label - labels.start)
    assert task.prompts is not None
    towers, exif = cast(Towers, task.prompts.tower), read_metadata(texts).get("exif", "ignore")
    train, val = (
        _open(method, towers, rows.filter(split=split), folder, task.seed, exif)
        for split in ("train", "val")
    )
    return replace(task, train=train, val=val)


def _open(
    method: Method, towers: Towers, rows: pl.DataFrame, folder: str, seed: int, exif: Exif
) -> Samples | None:
    """The images of some rows of a manifest, in memory; None of no rows."""
    if rows.is_empty():
        return None
    settings: Any = method.settings
    pictures = towers.open_pictures(
        rows["image"].to_list(), folder, scale=settings.crop, flip=settings.mirror, seed=seed,
        exif=exif, test_only=rows["split"][0] == "val",
    )  # fmt: skip
    labels = torch.from_numpy(rows["label"].cast(pl.Int64).to_numpy(writable=True))
    parts = torch.arange(len(rows)).split(BATCH)
    pooled = torch.cat([towers.encode_frozen(pictures.views(part, 0)) for part in parts])
    return Samples(pooled[:, None], None, labels.to(towers.device), pictures)


def _place(spatial: Tensor, device: torch.device) -> Tensor:
    """On the device, where that takes half of what is free there at most; else in main memory."""
    if spatial.nbytes <= free_memory(device) // 2:
        return spatial.to(device)
    logger.info("Streaming %.1f GB of spatial features from main memory.", spatial.nbytes / 1e9)
    return spatial


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

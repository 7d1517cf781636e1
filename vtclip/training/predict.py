"""Predicting the test images with all the heads of a method on a dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import polars as pl
import torch
from torch import Tensor

from vtclip.data.layouts import match_classes
from vtclip.features.store import FeatureSet, check_origin, find_non_finite, read_metadata
from vtclip.features.texts import check_test_images, check_texts, read_class_names, read_classes
from vtclip.files import measure, read_record, write_record
from vtclip.methods import make_method
from vtclip.methods.base import Method
from vtclip.nn.learner import eval_on
from vtclip.parquet import write_parquet
from vtclip.paths import receipt_of, record_of
from vtclip.task import Classifier, Head, Images, Texts, TextTower, Towers
from vtclip.tensors import read_calibration, read_head
from vtclip.training.calibration import DECIDED, Calibration, Rules
from vtclip.training.tasks import (
    find_labels,
    open_features,
    read_batches,
    read_dataset,
    read_test_images,
    take_images,
)

TOP = 5  # how many of the best classes are kept


class PredictionError(RuntimeError):
    """Heads that cannot classify; the message names the file."""


class TrainedHead(NamedTuple):
    """A trained head, on disk."""

    shots: int
    seed: int
    head: str | Path
    fold: str = ""  # the fold that it has not seen, and alone predicts; "" for all images


class Trained(NamedTuple):
    """The training set of heads that are tested on something else."""

    name: str  # of the dataset, or of the half of one
    texts: str | Path
    manifest: str | Path


class _Tested(NamedTuple):
    """The classes that are tested: those of the test set, or of a half of it."""

    labels: range
    texts: Texts
    manifest: str | Path | None  # of the test set; None where it is believed


def _apply_head(method: Method, head: Head, tested: _Tested, trained: Trained | None) -> Classifier:
    """A head as a classifier of the classes that are tested, Images -> logits (B, K).

    A method that names new classes is given their texts. Of another one the columns of the classes
    that it knows are taken; they have the texts of the test set, too.
    """
    device = tested.texts.features.device
    if trained is None:
        return eval_on(method.classifier(head, tested.texts), device)
    if method.names_new_classes:
        head = method.for_classes(head, tested.texts.made_of)
        return eval_on(method.classifier(head, tested.texts), device)
    assert tested.manifest is not None
    columns = torch.tensor(match_classes(tested.manifest, trained.manifest), device=device)
    known, _ = read_classes(trained.texts, device)
    features = known.features.index_copy(0, columns, tested.texts.features)
    texts = replace(known, features=features, means=None, prompts=None)
    classifier = eval_on(method.classifier(head, texts), device)
    return lambda images: classifier(images)[:, columns]


def predict_test(
    method: str,
    settings: dict[str, Any],
    texts: str | Path,  # of the test set
    heads: Sequence[TrainedHead],
    features: Sequence[str | Path],  # of the test set; none for a method that reads images
    destination: str | Path,
    *,
    device: torch.device,
    images: str | None = None,  # the folder that image paths start from, to read images
    workers: int = 0,  # processes that decode them; with 0 this process does
    manifest: str | Path | None = None,  # of the test set, to check that features and texts fit
    tested: str = "",  # the test set's name, if it is a half of one
    trained: Trained | None = None,  # of heads that are trained on something else
    tower: TextTower | None = None,  # of a method that needs it; both for one that reads images
) -> None:
    """Classify the test images with every head; the features are read once for all of them.

    A head of a dataset without one of its folds classifies the images of that fold. The table has
    shots, seed, image, label, prediction, confidence (softmax, 0 .. 1) and top (the best classes,
    best first), all of them labels of the test set. Its receipt has the test of each head's
    calibration, on the heads' own test set.

    Raises:
        FeatureError: features, texts or labels that are not those of the manifest, or that another
            backbone made than the one that the heads were trained with.
        ManifestError: classes that the heads do not know, of a method that cannot name them.
        PredictionError: a head of another method, dataset, run or number of classes, or logits that
            are no numbers.
    """
    chosen = make_method(method, settings)
    classes = _Tested(*read_dataset(texts, tested, device, tower), manifest)
    labels = classes.labels
    if manifest is not None:
        check_texts(texts, read_class_names(texts), manifest)
    if chosen.reads_images:
        assert images is not None
        assert manifest is not None
        source, made = texts, read_metadata(texts)
        batches = read_test_images(cast(Towers, tower), texts, manifest, labels, images, workers)
    else:
        found = _open_features(chosen, features, texts, manifest)
        source, made = features[0], found.metadata
        batches = read_batches(found, labels, device)
    expected = {"method": method, "dataset": tested, "classes": len(labels)}
    if trained is not None:
        made = _check_trained(trained, texts, made)
        known = find_labels(trained.texts, trained.name)
        expected |= {"dataset": trained.name, "classes": len(known)}
    for run in heads:
        _check_record(run, expected, source, made)
    ready = [_make_ready(chosen, run, classes, trained) for run in heads]
    tables = [
        predict_batch(each, rows, batch, labels)
        for rows, batch in batches
        for each in ready
        if not each.run.fold or each.run.fold in rows["split"]
    ]
    predictions = pl.concat(tables).sort("shots", "seed", maintain_order=True)
    _write(destination, predictions, tests_calibration=trained is None)


def _open_features(
    method: Method, files: Sequence[str | Path], texts: str | Path, manifest: str | Path | None
) -> FeatureSet:
    """Open the test features, which go with texts and manifest."""
    found = open_features(method, files, texts)
    if manifest is not None:
        check_test_images(files, found.rows.filter(view=0), manifest)
    return found


def _check_trained(trained: Trained, texts: str | Path, made: Mapping[str, Any]) -> dict[str, Any]:
    """Compare what made the texts of both; without `exif`, which each dataset's file decides."""
    made = {key: value for key, value in made.items() if key != "exif"}
    check_origin(texts, made, trained.texts, read_metadata(trained.texts))
    return made


class Ready(NamedTuple):
    """A head that is ready to predict."""

    run: TrainedHead
    classifier: Classifier
    rules: Rules | None = None  # of its calibration; None on another test set than its own


def _make_ready(
    method: Method, run: TrainedHead, tested: _Tested, trained: Trained | None
) -> Ready:
    device = tested.texts.features.device
    head = {name: tensor.to(device) for name, tensor in read_head(run.head).items()}
    classifier = _apply_head(method, head, tested, trained)
    calibration = Calibration.read(read_calibration(run.head)) if trained is None else None
    rules = None if calibration is None else calibration.to(device).testable()
    return Ready(run, classifier, rules)


def _write(path: str | Path, predictions: pl.DataFrame, *, tests_calibration: bool) -> None:
    """Write predictions and receipt, which has the test of each run's calibration.

    That is the shares of images covered and refused, and the mean size of a set; None is what a
    calibration is not enough for.
    """
    write_parquet(path, predictions.drop(DECIDED))
    receipt = measure(path)
    if tests_calibration:
        runs = predictions.group_by("shots", "seed", maintain_order=True)
        receipt["calibration"] = runs.agg(pl.col(DECIDED).cast(pl.Float64).mean()).to_dicts()
    write_record(receipt_of(path), receipt)


def _check_record(
    run: TrainedHead, expected: dict[str, Any], features: str | Path, metadata: Mapping[str, Any]
) -> None:
    """Refuse a head of another folder, backbone, weights or spatial kind, as its record says."""
    path = Path(record_of(run.head))
    if not path.is_file():
        return
    record = read_record(path)
    if run.fold:
        expected = expected | {"dataset": f"{expected['dataset']}@{run.fold}"}
    for key, value in (expected | {"shots": run.shots, "seed": run.seed}).items():
        if value != "" and record.get(key, value) not in (value, ""):
            raise PredictionError(
                f"{run.head}: expected a head of {key} {value}, found one of {key} {record[key]}. "
                "Delete its folder, or move it away, and run again."
            )
    known = {
        key: value for key, value in (record.get("features") or {}).items() if value is not None
    }
    check_origin(path, known, features, metadata)


@torch.inference_mode()
def predict_batch(ready: Ready, rows: pl.DataFrame, images: Images, labels: range) -> pl.DataFrame:
    """The predictions of some images among the classes with these labels."""
    run, classifier, rules = ready
    if run.fold:
        rows, images = take_images(rows, images, rows["split"] == run.fold)
    logits = classifier(images)  # (B, K)
    if logits.shape[1] != len(labels):
        raise PredictionError(
            f"{run.head}: expected a head of {len(labels)} classes, found one of "
            f"{logits.shape[1]}. Delete it and run again."
        )
    place = find_non_finite(logits)
    if place is not None:
        raise PredictionError(
            f"{run.head}: {rows['image'][place[0]]}: the logit of class {place[1]} is "
            f"{logits[place].item()}. Delete the head and run again to train it again."
        )
    best = labels.start + logits.topk(min(TOP, logits.shape[1]), dim=1).indices.cpu()
    return pl.DataFrame(
        {
            "shots": pl.repeat(run.shots, len(rows), dtype=pl.Int32, eager=True),
            "seed": pl.repeat(run.seed, len(rows), dtype=pl.Int32, eager=True),
            "image": rows["image"],
            "label": rows["label"],
            "prediction": pl.Series(best[:, 0].numpy()).cast(pl.Int32),
            "confidence": pl.Series(logits.softmax(dim=1).amax(dim=1).cpu().numpy()),
            "top": pl.Series(best.tolist(), dtype=pl.List(pl.Int32)),
        }
    ).with_columns(_decide(rules, logits, images.pooled, rows["label"] - labels.start))


def _decide(
    rules: Rules | None, logits: Tensor, pooled: Tensor, labels: pl.Series
) -> list[pl.Series]:
    """The columns DECIDED; null where there is no rule."""
    sets, refused = (None, None) if rules is None else rules.apply(logits, pooled)
    covered = size = None
    if sets is not None:
        own = torch.from_numpy(labels.to_numpy(writable=True)).to(sets.device, torch.int64)
        covered = sets.gather(1, own[:, None])[:, 0]
        size = sets.sum(dim=1)
    return [
        pl.Series(name, [None] * len(labels) if found is None else found.tolist(), pl.Int32)
        for name, found in zip(DECIDED, (covered, size, refused), strict=True)
    ]

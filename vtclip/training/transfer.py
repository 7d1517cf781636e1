"""Heads on other classes than their own: new ones, by their texts, or some of those they know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch

from vtclip.data.identity import match_classes
from vtclip.features.store import FeatureBatch, FeatureSet, check_origin
from vtclip.features.texts import read_class_names, read_classes, read_texts
from vtclip.halves import labels_of
from vtclip.methods.base import Method
from vtclip.nn.learner import Classifier, at_rest
from vtclip.task import Head, Prompts, Texts, TextTower


@dataclass(frozen=True)
class Trained:
    """What heads were trained on, where they are tested on something else.

    Attributes:
        name: the dataset, or the half of one.
        texts: its text features.
        manifest: its manifest.
    """

    name: str
    texts: str | Path
    manifest: str | Path

    @property
    def classes(self) -> int:
        """How many classes the heads have."""
        return len(labels_of(self.name, len(read_class_names(self.texts))))


@dataclass(frozen=True)
class Tested:
    """The classes that are tested.

    Attributes:
        labels: those of the test set, or of the half that is tested.
        texts: of these classes.
        names: of these classes.
        manifest: of the test set; None where it is believed.
    """

    labels: range
    texts: Texts
    names: list[str]
    manifest: str | Path | None


def read_tested(
    name: str, texts: str | Path, manifest: str | Path | None, device: torch.device
) -> Tested:
    """The classes of a test set, or of a half of one.

    Args:
        name: the dataset, or the half of one; "" stands for a dataset.
        texts: its text features.
        manifest: its manifest.
        device: where the texts go.
    """
    classes, _ = read_classes(texts, device)
    labels = labels_of(name, len(classes.features))
    names = read_class_names(texts)[labels.start : labels.stop]
    return Tested(labels, classes.part(labels), names, manifest)


def apply_head(
    method: Method,
    head: Head,
    tested: Tested,
    trained: Trained | None = None,
    tower: TextTower | None = None,
) -> Classifier:
    """A head as a classifier of the classes that are tested, Images -> logits (B, K).

    A method that names new classes is given their texts. Of another one the columns of the classes
    that it knows are taken; they have the texts of the test set, too.

    Args:
        method: whose head it is.
        head: its tensors, on the device of the texts.
        tested: the classes.
        trained: what the head was trained on; left out, the very classes that are tested.
        tower: the text tower, for a method that reads it.
    """
    device = tested.texts.features.device
    if trained is None:
        return at_rest(method.classifier(head, tested.texts), device)
    if method.names_new_classes:
        prompts = Prompts(tested.names, tower) if tower is not None else None
        return at_rest(method.classifier(method.rename(head, prompts), tested.texts), device)
    assert tested.manifest is not None
    columns = torch.tensor(match_classes(tested.manifest, trained.manifest), device=device)
    known, _ = read_classes(trained.texts, device)
    assert known.norms is not None
    assert tested.texts.norms is not None
    texts = Texts(
        known.features.index_copy(0, columns, tested.texts.features),
        known.logit_scale,
        known.norms.index_copy(0, columns, tested.texts.norms),
    )
    classifier = at_rest(method.classifier(head, texts), device)
    return lambda images: classifier(images)[:, columns]


def check_same_backbone(trained: Trained, texts: str | Path) -> None:
    """Refuse texts that another backbone made than the one that the heads were trained with.

    Raises:
        FeatureError: with both values of the first key that differs.
    """
    check_origin(texts, read_texts(texts)[1], trained.texts, read_texts(trained.texts)[1])


def batches_of(images: FeatureSet, labels: range) -> Iterator[FeatureBatch]:
    """The batches of a test set, without the images of other classes."""
    for batch in images:
        kept = batch.rows["label"].is_between(labels.start, labels.stop - 1)
        if kept.all():
            yield batch
        elif kept.any():
            yield _keep(batch, kept)


def _keep(batch: FeatureBatch, kept: pl.Series) -> FeatureBatch:
    rows = torch.from_numpy(kept.to_numpy(writable=True))
    spatial = None if batch.spatial is None else batch.spatial[rows]
    return FeatureBatch(batch.rows.filter(kept), batch.pooled[rows], spatial, batch.metadata)

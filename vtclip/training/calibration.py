"""Probabilities that can be believed, sets of classes, and images of no class.

All of it is fitted on images that a head was not trained on: its validation shots, or images that
heads of other folds have never seen. What is stored answers any coverage and any rate later.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vtclip.task import Samples, unit
from vtclip.tensors import CALIBRATION

LARGEST = 100.0  # logits are divided by this, or its inverse, at most
COVERAGE, REFUSED = 0.9, 0.05  # that every experiment tests
DECIDED = ("covered", "set_size", "refused")  # of an image: its class is in the set; classes in it
ROUNDING = 1e-9  # 0.55 * 100 is a little more than 55

logger = logging.getLogger(__name__)


class CalibrationError(ValueError):
    """A coverage or a rate of refusals that so few images cannot give."""


@dataclass(frozen=True)
class Calibration:
    """Scores of a head on n images that it was not trained on, and the distances of M."""

    temperature: Tensor  # () logits are divided by it
    scores: Tensor  # (n,) minus the log-probability of each image's own class
    labels: Tensor  # (n,) int64
    centres: Tensor  # (K, D) of unit length: the mean of each class's training images
    distances: Tensor  # (M,) from each image to the nearest centre

    @classmethod
    def fit(cls, logits: Tensor, labels: Tensor, distances: Tensor, centres: Tensor) -> Calibration:
        """Fit on logits (n, K) float32, labels (n,) int64 and the images' distances (n,).

        The centres are those of `class_centres`, the distances those of `nearest`.
        """
        temperature = fit_temperature(logits, labels)
        scores = F.cross_entropy(logits / temperature, labels, reduction="none")
        return cls(temperature, scores, labels, centres, distances)

    @classmethod
    def read(cls, tensors: Mapping[str, Tensor]) -> Calibration | None:
        """Make one of what `read_calibration` reads; None where a head has no calibration."""
        return cls(**tensors) if tensors else None

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, to be stored beside the head's tensors."""
        return {CALIBRATION + field.name: getattr(self, field.name) for field in fields(self)}

    def to(self, device: torch.device | str) -> Calibration:
        """Copy to a device."""
        return Calibration(*(each.to(device) for each in self.tensors().values()))

    def thresholds(self, coverage: float, *, by_class: bool = False) -> Tensor:
        """Scores (K,) up to which a class belongs to an image's set.

        The set contains the true class of `coverage` of all images; with `by_class`, of each class
        with enough calibration images by itself, and of all others together.
        """
        classes = len(self.centres)
        counts = self.labels.bincount(minlength=classes)
        _check_share(coverage, "coverage")
        alone = (counts >= images_needed(coverage)) & by_class
        if by_class and not alone.all():
            logger.warning(
                "%d of %d classes have the %d calibration images that a coverage of %g takes by "
                "class; the others share a threshold.",
                alone.sum(), classes, images_needed(coverage), coverage,
            )  # fmt: skip
        group = torch.where(alone, torch.arange(classes, device=counts.device), -1)
        found = self.scores.new_zeros(classes)
        for number in group.unique():
            scores = self.scores[group[self.labels] == number]
            found[group == number] = _quantile(scores, coverage)
        return found

    def limit(self, refused: float) -> Tensor:
        """Distance () above which an image is of no class; `refused` of the classes' images are."""
        _check_share(refused, "share of refusals")
        images = len(self.distances)
        if images * refused + refused < 1 - ROUNDING:
            raise CalibrationError(
                f"a share of refusals of {refused:g} cannot be had: it takes "
                f"{images_needed(1 - refused)} calibration images, and this head has {images}. It "
                f"can be {math.ceil(1000 / (images + 1)) / 1000:g} at least."
            )
        return _quantile(self.distances, 1 - refused)

    def rules(
        self, coverage: float | None = None, refused: float | None = None, *, by_class: bool = False
    ) -> Rules:
        """The rules of sets with this coverage, and of refusals at this rate; None for neither."""
        return Rules(
            self,
            None if coverage is None else self.thresholds(coverage, by_class=by_class),
            None if refused is None else self.limit(refused),
        )

    def testable(self) -> Rules:
        """The rules that every experiment tests, of those that there are enough images for."""
        images = len(self.scores)
        return self.rules(
            COVERAGE if images >= images_needed(COVERAGE) else None,
            REFUSED if images >= images_needed(1 - REFUSED) else None,
        )


class Rules(NamedTuple):
    """Thresholds of an image's set, and of images of no class."""

    calibration: Calibration
    thresholds: Tensor | None = None  # (K,); None where no sets are asked for
    limit: Tensor | None = None  # (); None where no refusal is asked for

    def apply(self, logits: Tensor, pooled: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Logits (B, K), features (B, D) -> sets (B, K) bool and refusals (B,) bool."""
        sets = None
        if self.thresholds is not None:
            scores = -(logits / self.calibration.temperature).log_softmax(dim=1)
            sets = scores <= self.thresholds
        return sets, self.refuse(pooled)

    def refuse(self, pooled: Tensor) -> Tensor | None:
        """Features (B, D) -> refusals (B,) bool; None where none are asked for."""
        if self.limit is None:
            return None
        return nearest(pooled, self.calibration.centres) > self.limit


def images_needed(coverage: float) -> int:
    """Calibration images without which a set of this coverage is all classes: 9 for 0.9."""
    return math.ceil(coverage / (1 - coverage) - ROUNDING)


def class_centres(train: Samples, classes: int) -> Tensor:
    """Mean directions (K, D) of each class's training images, over all views, as stored."""
    views = unit(train.pooled).sum(dim=1)  # (M, D)
    sums = views.new_zeros(classes, views.shape[1]).index_add(0, train.labels, views)
    # A class without a shot has no direction: zeros, which are near no image.
    return (sums / sums.norm(dim=1, keepdim=True).clamp(min=1e-12)).half().float()


def nearest(pooled: Tensor, centres: Tensor) -> Tensor:
    """Distance (B,) of features (B, D) to the nearest centre: 1 - cosine."""
    return 1 - (unit(pooled) @ centres.T).amax(dim=1)


def fit_temperature(logits: Tensor, labels: Tensor) -> Tensor:
    """The temperature () with the largest likelihood of labels (n,), given logits (n, K).

    One image more is counted whose class is any: else few images, all of them classified rightly,
    would make every probability 1.
    """
    logits, smoothing = logits.double(), 1 / (len(labels) + 1)
    low, high = -math.log(LARGEST), math.log(LARGEST)
    for _ in range(30):  # the loss has one minimum in 1/temperature: thirds without it are cut off
        third = (high - low) / 3
        left, right = (
            F.cross_entropy(logits / math.exp(log), labels, label_smoothing=smoothing)
            for log in (low + third, high - third)
        )
        low, high = (low, high - third) if left < right else (low + third, high)
    return torch.tensor(math.exp((low + high) / 2), dtype=torch.float32, device=logits.device)


def _quantile(scores: Tensor, coverage: float) -> Tensor:
    """The score () that a further image does not exceed with this probability, at least."""
    images = len(scores)
    place = math.ceil((images + 1) * coverage - ROUNDING)
    if place > images:
        raise CalibrationError(
            f"a coverage of {coverage:g} cannot be had: it takes {images_needed(coverage)} "
            f"calibration images, and this head has {images}. It can be "
            f"{math.floor(1000 * images / (images + 1)) / 1000:g} at most."
        )
    return scores.sort().values[place - 1]


def _check_share(share: float, what: str) -> None:
    if not 0 < share < 1:
        raise CalibrationError(f"expected a {what} between 0 and 1, found {share:g}")

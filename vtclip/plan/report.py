"""The job that writes the report of an experiment: what it reads, and what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vtclip import paths
from vtclip.methods import METHODS
from vtclip.methods.base import Recipe
from vtclip.settings import Settings

if TYPE_CHECKING:
    from vtclip.plan import Key, Plan


@dataclass(frozen=True)
class Report:
    """Tables, figures, predictions and records to one page."""

    plan: Plan

    @property
    def page(self) -> str:
        """What it makes."""
        return self.plan.paths.report

    @property
    def inputs(self) -> dict[str, str | Sequence[str]]:
        """Small files that are read."""
        plan = self.plan
        names = ["accuracy", "cost", *(["ablation"] if plan.experiment.ablation else [])]
        receipts = (plan.images_receipt(key.dataset) for key in self.shown)
        return {
            **{name: plan.paths.table(name, "parquet")[0] for name in _TABLES},
            "config": plan.paths.config,
            "figures": [plan.paths.figure(name)[0] for name in names],
            "attention": [file for key in self.shown if (file := self._attention(key))],
            "records": plan.records,
            "images": list(dict.fromkeys(receipt for receipt in receipts if receipt)),
            "template": paths.find_own(paths.TEMPLATE),
        }

    @property
    def shown(self) -> list[Key]:
        """The rows whose images are shown: the reference method's, one a backbone and dataset."""
        return [key for key in self.plan.keys if key.method == self.plan.reference]

    @property
    def predictions(self) -> list[str]:
        """What the reference method says of each dataset's own test images."""
        return [self.plan.predict_test(*key, tested=key.dataset).predictions for key in self.shown]

    @property
    def texts(self) -> list[str]:
        """The text features, for the class names."""
        return [self.plan.texts_of(key.backbone, key.dataset) for key in self.shown]

    @property
    def told(self) -> dict[str, Any]:
        """What the page is told, as plain values."""
        plan = self.plan
        return {
            "name": plan.name,
            "titles": plan.titles,
            "reference": plan.reference,
            "choices": {
                METHODS[name].title: explain_choice(name, settings)
                for name, settings in plan.settings.items()
            },
            "missing": dict(plan.missing),
            "shown": [
                (key.backbone, key.dataset, plan.images_of(key.dataset), self._attention(key))
                for key in self.shown
            ],
            "keys_of_records": plan.keys_of_records,
        }

    def _attention(self, key: Key) -> str | None:
        """The picture of attention; None for a row that has none."""
        if key not in self.plan.drawn_attention():
            return None
        return self.plan.paths.figure(f"attention/{key.backbone}/{key.dataset}")[1]


_TABLES = ("results", "differences", "metrics")


def explain_choice(name: str, settings: Settings) -> str:
    """What a method chooses in a run, and on which images."""
    method = METHODS[name]
    if not method.few_shot:
        return "Nothing: it learns from no image."
    parts = []
    if method.tunes:
        parts.append("settings with several values")
    if isinstance(settings, Recipe) and settings.select == "val":
        parts.append("the epoch")
    if not parts:
        kept = ": the last epoch is kept" if isinstance(settings, Recipe) else ""
        return f"Nothing{kept}."
    return f"{' and '.join(parts).capitalize()}: best on the run's validation shots."

"""Heads that lie where others belong: copied there, or made for what has another name now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vtclip import paths
from vtclip.config.dataset import labels_of
from vtclip.config.experiment import name_model
from vtclip.files import DamagedError, read_record
from vtclip.settings import ConfigError

if TYPE_CHECKING:
    from vtclip.plan import Plan
    from vtclip.plan.heads import TrainHead


def check_heads(plan: Plan) -> None:
    """Refuse heads of another dataset, class count, method or backbone than their place is for.

    A head that is damaged, or whose record does not tell, is left to the job that reads it.

    Raises:
        ConfigError: with the first of them, what it is, and what belongs there.
    """
    for job in dict.fromkeys([*plan.trainings(), *plan.ablation_trainings()]):
        for what, expected, found in _compare(job):
            raise ConfigError(
                f"{job.head}: this head belongs elsewhere.\n  found:    {what} {found}\n"
                f"  expected: {what} {expected}\n  Delete its folder, or move it away; it is then "
                "trained anew."
            )


def _compare(job: TrainHead) -> Iterator[tuple[str, Any, Any]]:
    """(what, expected, found) of each thing in a head's record that is not its place's."""
    record = Path(paths.record_of(job.head))
    if not record.is_file():
        return
    try:
        told = read_record(record)
    except DamagedError:
        return
    backbone, features = job.named, told.get("features") or {}
    model = name_model(backbone.name, backbone.architecture)
    pairs = [
        ("dataset", job.dataset, told.get("dataset") or None),
        ("method", job.base, told.get("method")),
        ("shots", job.shots, told.get("shots")),
        ("seed", job.seed, told.get("seed")),
        ("backbone", model, features.get("backbone")),
        ("spatial features", backbone.spatial, features.get("spatial")),
        ("precision of features", backbone.precision, features.get("precision")),
    ]
    if job.described.counts is not None:
        classes = len(labels_of(job.dataset, job.counts.classes))
        pairs.append(("number of classes", classes, told.get("classes")))
    yield from (pair for pair in pairs if pair[2] is not None and pair[1] != pair[2])

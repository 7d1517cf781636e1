"""Footnotes: what was used where that is not what was requested, and what differs between runs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from vtclip.config.dataset import ClassSplit
from vtclip.data.pick_lists import VAL_SHOTS
from vtclip.files import read_record
from vtclip.methods import METHODS
from vtclip.methods.base import Recipe
from vtclip.parquet import read_parquet
from vtclip.paths import ALL, Run, Sample, history_of, name_shots
from vtclip.wording import count, explain_alike

PACKAGES = ("torch", "open_clip_torch", "scikit-learn")  # whose versions may move a number
SPLITS = {"train": "training", "val": "validation"}


class _Span(NamedTuple):
    smallest: int
    largest: int

    def __str__(self) -> str:
        return " to ".join(map(str, dict.fromkeys(self)))


Used = Mapping[tuple[str, int], Mapping[str, _Span]]  # dataset, shots -> split -> images per class


def describe_used(
    runs: Sequence[Run], samples: Sequence[Sample], titles: Mapping[str, str]
) -> list[str]:
    """Sentences about classes with fewer images than requested, and trainings that ended early."""
    key = attrgetter("dataset", "shots")  # of a dataset in folds, one of each fold
    used = {place: _count_images(list(group)) for place, group in groupby(samples, key)}
    return [*_describe_images(used, titles), *_describe_epochs(runs, used, titles)]


def describe_ties(runs: Sequence[Run], titles: Mapping[str, str]) -> Iterator[str]:
    """Sentences about classes whose text features are equal, so that zero-shot can only tie."""
    for texts, run in {run.texts: run for run in runs if run.texts}.items():
        classes = read_parquet(texts, "class_name", "text")
        equal = classes.group_by("text", maintain_order=True).agg("class_name")
        groups = [names for names in equal["class_name"].to_list() if len(names) > 1]
        if groups:
            yield explain_alike(groups, titles.get(run.dataset, run.dataset), run.backbone)


def find_inconsistencies(records: Sequence[str | Path]) -> list[str]:
    """A sentence for each kind of device, precision or version (major.minor) that differs."""
    runs = [read_record(record) for record in records]
    found = {
        "device": [run["device_kind"] for run in runs if "device_kind" in run],
        "precision": [run["precision"] for run in runs if "precision" in run],
    }
    for package in PACKAGES:
        versions = (run.get("versions", {}).get(package) for run in runs)
        short = [".".join(version.split(".")[:2]) for version in versions if version]
        found[f"version of {package}"] = short
    return [
        f"Not all runs have the same {kind}: {count_values(values)}."
        for kind, values in found.items()
        if len(set(values)) > 1
    ]


def count_values(values: Sequence[Any]) -> str:
    """Each value with the number of runs that have it, the most frequent first."""
    counts = Counter(map(str, values)).most_common()
    return ", ".join(f"{value} ({count(number, 'run')})" for value, number in counts)


def _count_images(samples: Sequence[Sample]) -> dict[str, _Span]:
    """The smallest and largest number of a class's images in samples of one dataset."""
    counts: dict[str, list[int]] = {split: [] for split in SPLITS}
    for sample in samples:
        rows = read_parquet(sample.path, "label", "split")
        labels = ClassSplit.parse(sample.dataset).labels(rows["label"].n_unique())
        # In folds, heads of all images learn from the validation images too, in the end.
        learns_all = len(samples) > 1 and sample.shots == ALL
        learned = rows if learns_all else rows.filter(split="train")
        for split, part in {"train": learned, "val": rows.filter(split="val")}.items():
            counts[split] += [part.filter(label=label).height for label in labels]
    return {split: _Span(min(found), max(found)) for split, found in counts.items()}


def _describe_images(used: Used, titles: Mapping[str, str]) -> Iterator[str]:
    """Smallest and largest number of images per class, where they are not as many as requested."""
    for split, name in SPLITS.items():
        parts = []
        for dataset, group in groupby(used, key=lambda place: place[0]):
            found = {shots: used[dataset, shots][split] for _, shots in group}
            most = {"train": ALL, "val": VAL_SHOTS}[split]
            other = [
                f"{span} at {name_shots(shots)}"
                for shots, span in found.items()
                if set(span) != {min(shots, most)}
            ]
            parts += [f"{titles.get(dataset, dataset)} {', '.join(other)}"] if other else []
        if parts:
            yield f"Images per class used for {name}: {'; '.join(parts)}."


def _describe_epochs(runs: Sequence[Run], used: Used, titles: Mapping[str, str]) -> Iterator[str]:
    """Smallest and largest number of epochs of trainings that ended at `stop_at_loss`."""
    ended: dict[tuple[str, int], list[int]] = {}  # method, epochs requested -> epochs
    for run in {run.head: run for run in runs if run.head}.values():
        record = read_record(run.record)
        settings = METHODS[record["method"]].settings_type.model_validate(record["settings"])
        if isinstance(settings, Recipe) and settings.stop_at_loss is not None:
            shots = used[run.dataset, run.shots]["train"].largest
            epochs, requested = len(read_parquet(history_of(run.head))), settings.epochs_at(shots)
            if epochs < requested:
                name = run.label or titles.get(run.method, run.method)
                ended.setdefault((name, requested), []).append(epochs)
    parts = [
        f"{name} {_Span(min(epochs), max(epochs))} of {count(requested, 'epoch')} in "
        f"{count(len(epochs), 'run')}"
        for (name, requested), epochs in ended.items()
    ]
    if parts:
        yield f"Ended early, at `stop_at_loss`: {'; '.join(parts)}."

"""Footnotes: requests that were met in part, differences between runs, and what made the runs."""

import json
import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from vtclip import __version__
from vtclip.config.dataset import ClassSplit
from vtclip.data.pick_lists import VAL_SHOTS
from vtclip.files import read_record
from vtclip.methods import METHODS
from vtclip.methods.base import Recipe
from vtclip.parquet import read_parquet
from vtclip.paths import ALL, PROJECT, Run, Sample, history_of, name_shots
from vtclip.wording import count, explain_alike

PACKAGES = ("torch", "open_clip_torch", "scikit-learn")  # whose versions may move a number
SPLITS = {"train": "Images per class used for training", "val": "Validation shots per class"}


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
        f"Not all runs have the same {kind}: {_count_values(values)}."
        for kind, values in found.items()
        if len(set(values)) > 1
    ]


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
            yield f"{name}: {'; '.join(parts)}."


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


def describe_settings(records: Sequence[str | Path]) -> dict[str, str]:
    """Method -> the settings that its heads' records have; of several values each is counted."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in map(read_record, records):
        for setting, value in run["settings"].items():
            values = found.setdefault(run["method"], {}).setdefault(setting, [])
            values.append(json.dumps(value, ensure_ascii=False))
    return {
        method: ", ".join(f"{name}: {_one_or_counted(values)}" for name, values in settings.items())
        for method, settings in found.items()
    }


def describe_provenance(records: Sequence[str | Path]) -> list[tuple[str, str]]:
    """Origin of the runs, as names and values; of several values each with its number of runs."""
    runs = [read_record(record) for record in records]
    kinds: dict[str, list[Any]] = {
        "backbone": [run["features"].get("backbone") for run in runs],
        "weights": [run["features"].get("pretrained") for run in runs],
        "SHA-256 of the weights": [run["features"].get("weights_sha256") for run in runs],
        "device of the features": [run["features"].get("device_kind") for run in runs],
        "device of the heads": [run["device"] for run in runs],
        "precision of the heads": [run["precision"] for run in runs],
    }
    for package in runs[0]["versions"] if runs else ():
        kind = "vtclip of the heads" if package == "vtclip" else package
        kinds[kind] = [run["versions"].get(package) for run in runs]
    return [
        ("vtclip", __version__),
        ("commit", _find_commit() or "not known"),
        ("Python", platform.python_version()),
        *((kind, _one_or_counted(found)) for kind, found in kinds.items()),
        ("written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]


def _one_or_counted(values: Sequence[Any]) -> str:
    return str(values[0]) if len(set(values)) == 1 else _count_values(values)


def _find_commit() -> str | None:
    """The commit of the project's folder, if it is one of git's and has its own history."""
    git = shutil.which("git")
    if git is None or not (PROJECT / ".git").exists():
        return None
    command = [git, "-C", str(PROJECT), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def _count_values(values: Sequence[Any]) -> str:
    """Each value with the number of runs that have it, the most frequent first."""
    counts = Counter(map(str, values)).most_common()
    return ", ".join(f"{value} ({count(number, 'run')})" for value, number in counts)

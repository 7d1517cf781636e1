"""What made the runs of a table, where it was not the same for all of them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vtclip.files import read_record

PACKAGES = ("torch", "open_clip_torch", "scikit-learn")  # whose versions may move a number


def list_differences(records: Sequence[str | Path]) -> list[str]:
    """A sentence for each kind of thing that differs between the runs of a table.

    Device kinds, precisions, and major.minor versions of the packages that compute.

    Args:
        records: the run.json of every head.
    """
    runs = [read_record(record) for record in records]
    return [
        f"Not all runs have the same {kind}: {_count(found)}."
        for kind, found in _gather(runs).items()
        if len(found) > 1
    ]


def _gather(runs: Sequence[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Kind -> how many runs have each value."""
    kinds = {"device": "device_kind", "precision": "precision"}
    found = {
        kind: Counter(str(run[key]) for run in runs if key in run) for kind, key in kinds.items()
    }
    for package in PACKAGES:
        versions = (run.get("versions", {}).get(package) for run in runs)
        short = (".".join(version.split(".")[:2]) for version in versions if version)
        found[f"version of {package}"] = Counter(short)
    return found


def _count(found: Counter[str]) -> str:
    return ", ".join(f"{value} ({number} runs)" for value, number in found.most_common())

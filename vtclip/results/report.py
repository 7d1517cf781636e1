"""The report: one HTML page that needs no network, with all that an experiment has found."""

import platform
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vtclip import __version__
from vtclip.features.texts import read_class_names
from vtclip.files import read_record, write_text
from vtclip.parquet import read_parquet
from vtclip.paths import PROJECT, TEMPLATE
from vtclip.results.differences import CONFIDENCE
from vtclip.results.figures import drawing
from vtclip.results.mistakes import (
    COLUMNS,
    embed_picture,
    embed_svg,
    find_confusions,
    find_mistakes,
    measure_reliability,
)
from vtclip.results.tables import MEAN, name_shots

PAIRS, EXAMPLES, MISTAKES = 5, 3, 8  # shown of each dataset
PICTURE_BYTES = 1_500_000  # of all pictures of attention, and as many of all examples
CAPTIONS = {
    "accuracy": "Accuracy against the number of images per class. A band is one standard deviation "
    "over seeds; a dashed line is a published number.",
    "cost": "Accuracy against the seconds of a run. Each point is a number of shots.",
    "ablation": "What each variant gains over the method as configured.",
}


class Shown(NamedTuple):
    """A dataset whose images are shown, with one backbone."""

    backbone: str
    dataset: str
    images: str
    """the folder that the image paths start from"""
    attention: str | None
    """the picture of attention, if there is one"""
    predictions: str
    texts: str


def report(
    destination: str | Path,
    *,
    told: Mapping[str, Any],
    tables: Mapping[str, str | Path],
    config: str | Path,
    figures: Sequence[str | Path],
    records: Sequence[str | Path],
    predictions: Sequence[str],
    texts: Sequence[str],
    template: str | Path = PROJECT / TEMPLATE,
) -> None:
    """Write the page.

    Args:
        destination: the HTML file.
        told: what `vtclip.plan.report.Report.told` gives.
        tables: "results", "differences" and "metrics", in Parquet.
        config: the experiment's configuration.
        figures: SVG files.
        records: the run.json of every head.
        predictions: of the reference method, one for each of `told["shown"]`.
        texts: their text features, for the class names.
        template: the page's template; whatever is filled in is escaped.
    """
    pairs = zip(told["shown"], predictions, texts, strict=True)
    shown = [Shown(*place, *files) for place, *files in pairs]
    runs = [read_record(record) for record in records]
    titles = {**told["titles"], MEAN: "Mean over datasets"}
    results = read_parquet(tables["results"])
    page = _load(template).render(
        name=told["name"],
        datasets=list(dict.fromkeys(results["dataset"])),
        titles=titles,
        reference=titles.get(told["reference"], told["reference"]),
        results=tabulate_results(results, titles),
        differences=_tabulate_differences(read_parquet(tables["differences"]), titles),
        metrics=read_parquet(tables["metrics"]).to_dicts(),
        costs=_tabulate_costs(told["keys_of_records"], runs),
        figures=[
            (embed_svg(figure), CAPTIONS.get(Path(figure).stem, Path(figure).stem))
            for figure in figures
        ],
        shown=[_show(one, len(shown)) for one in shown],
        choices=told["choices"],
        missing=told["missing"],
        config=Path(config).read_text(encoding="utf-8"),
        provenance=describe_provenance(runs),
        confidence=f"{CONFIDENCE:.0%}",
    )
    write_text(destination, page)


def tabulate_results(results: pl.DataFrame, titles: Mapping[str, str]) -> dict[str, Any]:
    """The results as a page shows them: a row a dataset, backbone and method.

    Returns:
        columns: the names of the numbers of shots; rows: dataset, backbone, method, and cells,
        each None or (text, number to sort by).
    """
    shots = sorted(results["shots"].unique())
    rows = []
    for group in results.partition_by("dataset", "backbone", "method", maintain_order=True):
        first = group.row(0, named=True)
        cells = {row["shots"]: _cell(row) for row in group.to_dicts()}
        rows.append(
            {
                "dataset": first["dataset"],
                "backbone": first["backbone"],
                "method": titles.get(first["method"], first["method"]),
                "cells": [cells.get(number) for number in shots],
            }
        )
    return {"columns": [name_shots(number) for number in shots], "rows": rows}


def _cell(row: Mapping[str, Any]) -> tuple[str, float]:
    spread = "" if row["std"] is None else f" ± {row['std']:.1f}"
    published = "" if row["published"] is None else f" (published {row['published']:.1f})"
    return f"{row['mean']:.1f}{spread}{published}", row["mean"]


def _tabulate_differences(table: pl.DataFrame, titles: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each pair with its interval; `sure` tells that zero is outside of it."""
    return [
        row
        | {
            "method": titles.get(row["method"], row["method"]),
            "other": titles.get(row["other"], row["other"]),
            "sure": row["low"] is not None and not row["low"] <= 0 <= row["high"],
        }
        for row in table.to_dicts()
    ]


def _tabulate_costs(
    keys: Sequence[Sequence[str]], runs: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Mean seconds and largest memory of a run, by backbone, method and shots."""
    groups: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    for (backbone, _, method), run in zip(keys, runs, strict=True):
        groups.setdefault((backbone, method, run["shots"]), []).append(run)
    return [
        {
            "backbone": backbone, "method": method, "shots": shots, "runs": len(found),
            "seconds": sum(run["seconds"] for run in found) / len(found),
            "memory": max(run["peak_memory_bytes"] for run in found) / 1e9,
            "gpu_memory": max(run["peak_gpu_memory_bytes"] for run in found) / 1e9,
        }
        for (backbone, method, shots), found in groups.items()
    ]  # fmt: skip


def _show(one: Shown, number: int) -> dict[str, Any]:
    """What the page shows of a dataset; `number` of them share the bytes for pictures."""
    names = read_class_names(one.texts)
    run = read_parquet(one.predictions, *COLUMNS)
    run = run.filter(pl.col("shots") == pl.col("shots").max())
    limit = PICTURE_BYTES // (number * (PAIRS * EXAMPLES + MISTAKES))

    def picture(image: str) -> str | None:
        return embed_picture(Path(one.images, image), limit=limit, side=160)

    attention = one.attention and embed_picture(one.attention, limit=PICTURE_BYTES // number)
    return {
        "backbone": one.backbone,
        "dataset": one.dataset,
        "shots": name_shots(run["shots"][0]),
        "attention": attention,
        "reliability": _draw_reliability(run),
        "confusions": [
            (names[found.label], names[found.prediction], found.share,
             [(image, picture(image)) for image in found.images])
            for found in find_confusions(run, number=PAIRS, examples=EXAMPLES)
        ],
        "mistakes": [
            (found.image, picture(found.image), names[found.label], names[found.prediction],
             found.confidence)
            for found in find_mistakes(run, number=MISTAKES)
        ],
    }  # fmt: skip


def _draw_reliability(run: pl.DataFrame) -> str:
    """Accuracy against confidence, as an embedded figure."""
    accuracy, confidence = measure_reliability(run)
    with TemporaryDirectory() as folder:
        file = Path(folder, "reliability")
        with drawing(file, 3.2, 2.9) as figure:
            panel = figure.subplots()
            panel.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
            panel.plot(confidence, accuracy, "o-", color="C0", markersize=4)
            panel.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
            panel.grid(alpha=0.3)
        return embed_svg(file.with_suffix(".svg"))


def describe_provenance(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What made the runs, as names and values; of several values each with its number of runs."""
    kinds: dict[str, list[Any]] = {
        "backbone": [run["features"].get("backbone") for run in runs],
        "weights": [run["features"].get("pretrained") for run in runs],
        "SHA-256 of the weights": [run["features"].get("weights_sha256") for run in runs],
        "device of the features": [run["features"].get("device_kind") for run in runs],
        "device of the heads": [run["device"] for run in runs],
        "precision of the heads": [run["precision"] for run in runs],
    }
    for package in runs[0]["versions"] if runs else ():
        kinds[package] = [run["versions"].get(package) for run in runs]
    told = [(kind, _count(found)) for kind, found in kinds.items()]
    return [
        ("vtclip", __version__),
        ("commit", _find_commit() or "not known"),
        ("Python", platform.python_version()),
        *told,
        ("written", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
    ]


def _count(values: Sequence[Any]) -> str:
    found = Counter(str(value) for value in values)
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{value} ({number} runs)" for value, number in found.most_common())


def _find_commit() -> str | None:
    """The commit of the project's folder, if it is one of git's and has git's own history."""
    git = shutil.which("git")
    if git is None or not (PROJECT / ".git").exists():
        return None
    asked = subprocess.run(
        [git, "-C", str(PROJECT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() or None


def _load(template: str | Path) -> Any:
    path = Path(template)
    environment = Environment(
        loader=FileSystemLoader(path.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(path.name)

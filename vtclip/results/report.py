"""The report: one HTML page that needs no network, with all that an experiment has found."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from vtclip.config.dataset import Exif
from vtclip.data.images import PictureError, open_picture
from vtclip.data.shots import checksum_of
from vtclip.features.store import FeatureSet
from vtclip.features.texts import read_class_names, read_exif
from vtclip.files import check_receipt, check_seal, read_record, write_text
from vtclip.parquet import read_parquet
from vtclip.paths import (
    PROJECT,
    TEMPLATE,
    Example,
    Run,
    distinct,
    format_shots,
    name_shots,
    receipt_of,
)
from vtclip.results.differences import CONFIDENCE
from vtclip.results.estimates import EXPLAINED
from vtclip.results.figures import drawing, read_costs
from vtclip.results.footnotes import describe_provenance, describe_settings
from vtclip.results.labels import NEIGHBOURS, SUSPICIOUS, describe_copies, describe_labels
from vtclip.results.metrics import find_confusions, find_mistakes, measure_reliability
from vtclip.results.tables import (
    MEAN,
    describe_mean,
    drop_lone_mean,
    format_mean,
    pivot,
    read_notes,
)
from vtclip.tensors import read_calibration
from vtclip.training.calibration import COVERAGE, DECIDED, REFUSED, Calibration

PAIRS, EXAMPLES, MISTAKES = 5, 3, 8  # shown of each dataset
PICTURE_BYTES = 1_500_000  # of all pictures of attention, and as many of all examples
SIDES = (1200, 900, 700, 500, 350, 240, 160, 96, 64)  # pixels of the longer side that are tried
CAPTIONS = {
    "accuracy": "Accuracy against the number of images per class. A band is one standard deviation "
    "over seeds; a dashed line is a published number.",
    "cost": "Accuracy against the seconds of a run. Each point is a number of shots.",
    "ranks": "Average ranks of the methods, 1 the best. Two methods whose bars do not overlap "
    "differ by Nemenyi's test, if Friedman's finds any difference.",
    "ablation": "What each variant gains over the method as configured.",
}


def report(
    destination: str | Path,
    *,
    runs: Sequence[Run],  # all heads on their own test sets
    examples: Sequence[Example],  # the datasets whose images the page shows
    name: str,  # of the experiment
    titles: Mapping[str, str],  # dataset or method -> the name to show
    reference: str,  # the method whose mistakes are shown where there is no head to take
    choices: Mapping[str, str],  # title of a method -> a sentence about what it chooses in a run
    missing: Mapping[str, str],  # dataset that was left out -> the reason
    tables: Mapping[str, str | Path],  # "results", "differences" and "metrics", in Parquet
    config: str | Path,
    best: str | Path,  # of `aggregate_estimates`
    figures: Sequence[str | Path],  # SVG files
    picks: Mapping[str, str | Path] = {},  # name of each list of `vtclip picks` -> its images
    template: str | Path = PROJECT / TEMPLATE,  # whatever is filled in is escaped
) -> None:
    """Write the page, an HTML file."""
    titles = {**titles, MEAN: "Mean over datasets"}
    check_receipt(config)
    results = drop_lone_mean(read_parquet(tables["results"]))
    chosen, records = read_record(best), distinct(runs, "record")
    shown = [(example, find_shown(example, runs, chosen, reference)) for example in examples]
    values = {
        "name": name, "missing": missing, "choices": choices, "titles": titles, "best": chosen,
        "datasets": list(dict.fromkeys(results["dataset"])),
        "reference": titles.get(reference, reference),
        "results": tabulate_results(results, titles),
        "explained": describe_mean(results),
        "notes": read_notes(tables["results"]),
        "differences": read_parquet(tables["differences"]).to_dicts(),
        "metrics": read_parquet(tables["metrics"]).to_dicts(),
        "costs": read_costs(runs).to_dicts(),
        "figures": [(embed_svg(each), CAPTIONS.get(Path(each).stem, Path(each).stem))
                    for each in figures],
        "examples": [_describe_example(*each, len(examples)) for each in shown],
        "calibrations": [describe_calibration(*each) for each in shown],
        "tested_at": (COVERAGE, REFUSED),
        "picks": [(name, checksum_of(read_parquet(file))) for name, file in picks.items()],
        "explained_best": EXPLAINED,
        "settings": describe_settings(records),
        "config": Path(config).read_text(encoding="utf-8"),
        "provenance": describe_provenance(records),
        "confidence": f"{CONFIDENCE:.0%}",
    }  # fmt: skip
    write_text(destination, _fill_in(Path(template), values))


def _fill_in(template: Path, values: Mapping[str, Any]) -> str:
    loader = FileSystemLoader(template.parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["format_shots"] = format_shots
    return environment.get_template(template.name).render(values)


def tabulate_results(results: pl.DataFrame, titles: Mapping[str, str]) -> list[list[Any]]:
    """The results as the page shows them: the head, then a row per dataset, backbone and method.

    A row is the three names, and for each number of shots None or (text, number to sort by).
    """

    def cell(row: dict[str, Any]) -> tuple[str, float]:
        published = "" if row["published"] is None else f" (published {row['published']:.1f})"
        return f"{format_mean(row['mean'], row['std'])}{published}", row["mean"]

    key = ["dataset", "backbone", "method"]
    return pivot(results, key, "shots", cell, titles=titles, empty=None)


def find_shown(
    example: Example, runs: Sequence[Run], chosen: Mapping[str, Any], reference: str
) -> list[Run]:
    """The heads whose mistakes are shown, of all seeds: those of the head to take of a dataset.

    Where its backbone is another one, or there is none, those of the reference at the most shots.
    """
    place = example.backbone, example.dataset
    runs = [run for run in runs if (run.backbone, run.dataset) == place]
    best = chosen.get(example.dataset, {})
    if best.get("backbone") == example.backbone:
        return [run for run in runs if (run.method, run.shots) == (best["method"], best["shots"])]
    runs = [run for run in runs if run.method == reference]
    most = max(run.shots for run in runs)
    return [run for run in runs if run.shots == most]


def _describe_example(example: Example, shown: Sequence[Run], number: int) -> dict[str, Any]:
    """The part of the page about a dataset; `number` of them share the bytes for pictures."""
    names = read_class_names(example.texts)
    exif = read_exif(example.texts)
    columns = ("shots", "seed", "image", "label", "prediction", "confidence")
    run = read_parquet(shown[0].predictions, *columns).filter(shots=shown[0].shots)
    pictures = PAIRS * EXAMPLES + MISTAKES + (NEIGHBOURS + 5) * SUSPICIOUS
    limit = PICTURE_BYTES // (number * pictures)

    def picture(image: str) -> str | None:
        return embed_picture(Path(example.images, image), limit=limit, side=160, exif=exif)

    attention = example.attention
    if attention:
        check_seal(attention)
    confusions = find_confusions(run, number=PAIRS, examples=EXAMPLES)
    return {
        "backbone": example.backbone,
        "dataset": example.dataset,
        "method": shown[0].method,
        "shots": name_shots(shown[0].shots),
        "attention": attention and embed_picture(attention, limit=PICTURE_BYTES // number),
        "reliability": _draw_reliability(run),
        "labels": describe_labels(example.learned, names, picture),
        "copies": describe_copies(example.copies, run["image"], picture),
        "confusions": [
            (names[label], names[found], share, [(image, picture(image)) for image in images])
            for label, found, share, images in confusions.iter_rows()
        ],
        "mistakes": [
            (image, picture(image), names[label], names[found], confidence)
            for image, label, found, confidence in find_mistakes(run, number=MISTAKES).iter_rows()
        ],
    }


def describe_calibration(example: Example, runs: Sequence[Run]) -> dict[str, Any]:
    """The test of some heads' calibrations: means over the runs, None where unknown."""
    receipt, shots = Path(receipt_of(runs[0].predictions)), runs[0].shots
    tests = read_record(receipt).get("calibration", []) if receipt.is_file() else []
    found: dict[str, Any] = {
        "dataset": example.dataset, "backbone": example.backbone, "method": runs[0].method,
        "shots": name_shots(shots), "others": "", "others_refused": None,
    }  # fmt: skip
    found |= {name: _mean([test[name] for test in tests if test["shots"] == shots])
              for name in DECIDED}  # fmt: skip
    if example.others is not None:
        found["others"] = Path(example.others).parts[-3]
        found["others_refused"] = _mean(_refuse_others([run.head for run in runs], example.others))
    return found


def _refuse_others(heads: Sequence[str], features: str) -> list[float | None]:
    """Share of another dataset's images that each head's calibration refuses."""
    images = FeatureSet([features], spatial=False)
    rows = images.rows.with_row_index("row").filter(view=0)["row"].to_list()
    pooled = images.take(rows).pooled.float()
    shares: list[float | None] = []
    for calibration in map(Calibration.read, map(read_calibration, heads)):
        refused = None if calibration is None else calibration.testable().refuse(pooled)
        shares.append(None if refused is None else refused.float().mean().item())
    return shares


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _draw_reliability(run: pl.DataFrame) -> str:
    """Accuracy against confidence, as an embedded figure."""
    hits = (run["prediction"] == run["label"]).to_numpy()
    accuracy, confidence = measure_reliability(hits, run["confidence"].to_numpy())
    with TemporaryDirectory() as folder:
        file = Path(folder, "reliability")
        with drawing(file, 3.2, 2.9) as figure:
            panel = figure.subplots()
            panel.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
            panel.plot(confidence, accuracy, "o-", color="C0", markersize=4)
            panel.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
            panel.grid(alpha=0.3)
        return embed_svg(file.with_suffix(".svg"))


def embed_svg(path: str | Path) -> str:
    """A figure of `drawing` as an address that contains it."""
    check_seal(path)
    return _data_address("image/svg+xml", Path(path).read_bytes())


def embed_picture(
    path: str | Path, *, limit: int, side: int = SIDES[0], exif: Exif = "ignore"
) -> str | None:
    """A picture as an address that contains it, in JPEG; None for a file that cannot be read.

    It is made smaller until it has at most `limit` bytes, or is 64 pixels large.
    """
    try:
        picture = open_picture(path, exif=exif)
    except PictureError:
        return None
    content = b""
    for size in (size for size in SIDES if size <= side):
        picture.thumbnail((size, size), Image.Resampling.LANCZOS)
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=82)
        content = written.getvalue()
        if len(content) <= limit:
            break
    return _data_address("image/jpeg", content)


def _data_address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"

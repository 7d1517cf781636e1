"""The estimates of a dataset in folds: accuracy with an interval, and which head to take."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.files import read_record, write_record
from vtclip.parquet import read_parquet
from vtclip.paths import Run, format_shots, name_shots
from vtclip.results import tables
from vtclip.results.tables import KEY

NORMAL = 1.96  # of a 95 % interval


def widen(folds: int) -> float:
    """The factor on the variance of a share of images, where heads of folds have predicted them.

    If one head had predicted n images, the variance of its accuracy p would be p (1 - p) / n. Two
    more things vary here. Two folds' heads share most of their images, so that their errors are
    correlated; and the head to use, trained on all images, has an accuracy that depends on the draw
    of these images. For the mean over k folds with variance S^2 each, Nadeau and Bengio (2003) take
    (1/k + n_test/n_train) S^2. A fold has n/k images, S^2 is k p (1 - p) / n, and n_test/n_train is
    1/(k - 1): the factor is 1 + k / (k - 1), 2.25 for five folds.

    S^2 comes from images, and not from the k accuracies: five numbers say little about a variance.
    The nested cross-validation of Bates, Hastie and Tibshirani (2023) estimates the same error
    from k (k - 1) / 2 further trainings of each head, ten for five folds. `benchmarks/folds.py`
    measures how often the interval contains the accuracy of the head to use: without the factor in
    80 to 83 % of draws.
    """
    return 1 + folds / (folds - 1)


def find_interval(share: float, images: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, 0 .. 1, of so many independent images."""
    square = NORMAL**2 / images
    centre = (share + square / 2) / (1 + square)
    half = NORMAL * math.sqrt(share * (1 - share) / images + square / images / 4) / (1 + square)
    return centre - half, centre + half


def aggregate_estimates(
    runs: Sequence[Run],
    manifests: Mapping[str, str | Path],
    destination: str | Path,
    confusions: str | Path,
    best: str | Path,
    *,
    titles: Mapping[str, str] = {},
) -> pl.DataFrame:
    """Write the tables of estimates and confusions, and which head to take.

    Args:
        runs: all heads of the datasets in folds.
        manifests: the manifest of each of these datasets.
        destination: the path of the table of estimates, without a suffix: Parquet, CSV, Markdown.
        confusions: that of the table of the chosen heads' predictions, Parquet and CSV: dataset,
            class_name, predicted, images (of that class, a mean over seeds).
        best: the JSON file: dataset -> what `choose_head` describes, and its classes.
        titles: method or dataset -> the name to show.

    Returns:
        backbone, dataset, method, shots, accuracy, low, high (percent; a 95 % interval), images,
        folds, seeds. All images of a dataset are predicted, by heads that have not seen them.
    """
    rows, confused, chosen = [], [], {}
    for dataset, manifest in manifests.items():
        own = [run for run in runs if run.dataset == dataset]
        folds = read_parquet(manifest, "image", "split")
        hits = _read_hits(own).join(folds, on="image", maintain_order="left")
        table = _estimate(hits)
        rows.append(table)
        run, described = choose_head(own, table, hits)
        counts = count_confusions(run)
        confused.append(counts)
        chosen[dataset] = described | {"classes": list_classes(counts)}
    estimates = pl.concat(rows)
    tables.write_table(estimates, destination, md=render_markdown(estimates, titles))
    tables.write_table(pl.concat(confused), confusions)
    write_record(best, chosen)
    return estimates


def _read_hits(runs: Sequence[Run]) -> pl.DataFrame:
    """Share of seeds that classify each image correctly: KEY, image, hit, seeds."""
    found = []
    for backbone, dataset, method, predictions in dict.fromkeys(
        (run.backbone, run.dataset, run.method, run.predictions) for run in runs
    ):
        table = read_parquet(predictions, "shots", "seed", "image", "label", "prediction")
        hit = (pl.col("prediction") == pl.col("label")).mean().alias("hit")
        each = table.group_by("shots", "image", maintain_order=True).agg(
            hit, pl.len().cast(pl.Int32).alias("seeds")
        )
        named = {"backbone": backbone, "dataset": dataset, "method": method}
        found.append(each.with_columns(pl.lit(value).alias(key) for key, value in named.items()))
    return pl.concat(found)


def _estimate(hits: pl.DataFrame) -> pl.DataFrame:
    rows = []
    folds = hits["split"].n_unique()
    for key, found in hits.group_by(KEY, maintain_order=True):
        share, images = float(found["hit"].to_numpy().mean()), found.height
        low, high = find_interval(share, images / widen(folds))
        percent = {"accuracy": 100 * share, "low": 100 * low, "high": 100 * high}
        counts = {"images": images, "folds": folds, "seeds": found["seeds"][0]}
        rows.append(dict(zip(KEY, key, strict=True)) | percent | counts)
    small = dict.fromkeys(["shots", "images", "folds", "seeds"], pl.Int32)
    return pl.DataFrame(rows, schema_overrides=small)


def count_confusions(run: Run) -> pl.DataFrame:
    """Count the predictions of a run's heads by class: dataset, class_name, predicted, images."""
    columns = ("shots", "seed", "label", "prediction")
    found = read_parquet(run.predictions, *columns).filter(shots=run.shots)
    names = dict(read_parquet(run.texts, "label", "class_name").iter_rows())
    counts = found.group_by("label", "prediction").len("images").sort("label", "prediction")
    return counts.select(
        pl.lit(run.dataset).alias("dataset"),
        pl.col("label").replace_strict(names).alias("class_name"),
        pl.col("prediction").replace_strict(names).alias("predicted"),
        pl.col("images") / found["seed"].n_unique(),
    )


def list_classes(confusions: pl.DataFrame) -> list[dict[str, Any]]:
    """List the classes, the least accurate first: name, images, accuracy (percent), taken_for."""
    classes = []
    for (name,), found in confusions.group_by("class_name", maintain_order=True):
        counts = dict(found.select("predicted", "images").iter_rows())
        images, right = sum(counts.values()), counts.pop(name, 0)
        wrong = max(counts, key=lambda other: counts[other], default="")
        taken = f"{wrong} ({counts[wrong]:g})" if wrong else ""
        accuracy = 100 * right / images
        classes.append({"name": name, "images": images, "accuracy": accuracy, "taken_for": taken})
    return sorted(classes, key=lambda each: each["accuracy"])


def choose_head(
    runs: Sequence[Run], table: pl.DataFrame, hits: pl.DataFrame
) -> tuple[Run, dict[str, Any]]:
    """Choose the head of a dataset to take: the most accurate of those with the most images.

    The row about it, and its description: head (its file), seed, backbone, dataset, method, shots,
    trained (in words), accuracy, low, high, images, folds, seconds, bytes; candidates, their
    number; as_good, the others within the interval; nested, the accuracy if the choice is made
    without the images that it is scored on; curve, a sentence.
    """
    most = max(run.shots for run in runs)
    candidates = table.filter(pl.col("shots").is_in([0, most]))
    first, *others = candidates.sort("accuracy", descending=True, maintain_order=True).to_dicts()
    run = next(run for run in runs if all(getattr(run, key) == first[key] for key in KEY))
    near = [other for other in others if other["accuracy"] >= first["low"]]
    alone = candidates["backbone"].n_unique() == 1
    return run, first | {
        "head": run.head,
        "seed": run.seed,
        "trained": name_shots(run.shots),
        "seconds": read_record(run.record)["seconds"],
        "bytes": Path(run.head).stat().st_size,
        "candidates": candidates.height,
        "as_good": [(other["method"], "" if alone else other["backbone"]) for other in near],
        "nested": 100 * choose_nested(hits.join(candidates.select(KEY), on=KEY)),
        "curve": describe_curve(hits.filter(backbone=run.backbone, method=run.method)),
    }


def choose_nested(hits: pl.DataFrame) -> float:
    """Accuracy, 0 .. 1, of the best of several methods, if each fold's is chosen on the others.

    What the best of all has beyond this was luck: it was chosen on the images that score it.
    """
    by_method = [
        dict(found.group_by("split").agg(pl.sum("hit")).iter_rows())
        for _, found in hits.group_by(KEY, maintain_order=True)
    ]  # hits in each fold
    score = 0.0
    for fold in hits["split"].unique():
        rest = [sum(found.values()) - found[fold] for found in by_method]
        score += by_method[rest.index(max(rest))][fold]
    return score / hits["image"].n_unique()


def describe_curve(hits: pl.DataFrame) -> str:
    """Say if more images per class would help a method, by its two largest numbers of shots."""
    *_, few, many = [0, *hits["shots"].unique().sort()]
    if few == 0:
        return ""
    before, after = (hits.filter(shots=n).sort("image")["hit"].to_numpy() for n in (few, many))
    gains = 100 * (after - before)
    factor = widen(hits["split"].n_unique())
    gain, error = gains.mean(), NORMAL * gains.std() * math.sqrt(factor / len(gains))
    measured = (
        f"From {name_shots(few)} to {name_shots(many)} per class the accuracy changes by "
        f"{gain:+.1f} points (95 % interval {gain - error:+.1f} to {gain + error:+.1f})"
    )
    if gain > error:
        return f"{measured}: more images per class would probably help."
    return f"{measured}: it cannot be seen here that more images would help."


def render_markdown(estimates: pl.DataFrame, titles: Mapping[str, str] = {}) -> str:
    """The table in Markdown, with what the interval means."""
    head = ["dataset", "backbone", "method", "shots", "accuracy", "95 % interval"]
    rows = [
        [
            titles.get(row["dataset"], row["dataset"]), row["backbone"],
            titles.get(row["method"], row["method"]), str(format_shots(row["shots"])),
            f"{row['accuracy']:.1f}", f"{row['low']:.1f} to {row['high']:.1f}",
        ]
        for row in estimates.to_dicts()
    ]  # fmt: skip
    return f"{tables.align([head, *rows])}\n\n{EXPLAINED}\n"


EXPLAINED = (
    "Accuracy in percent over all images, each predicted by heads that were trained on the other "
    "folds. The interval is for the accuracy, on new images of the same kind, of the head that is "
    "trained on all images. That head has seen more images than the folds' heads: it is more "
    "often better than the interval than worse."
)

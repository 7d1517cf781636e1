"""Accuracies with their intervals, and which head of a dataset to take."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.data.pick_lists import VAL_SHOTS
from vtclip.files import read_record, write_record
from vtclip.parquet import read_parquet
from vtclip.paths import Run, distinct, format_shots, name_images, name_shots
from vtclip.results import tables
from vtclip.results.tables import KEY

NORMAL = 1.96  # of a 95 % interval
TESTED = "test"  # the split of all images that are predicted, where there are no folds
CONFUSIONS = {
    "dataset": pl.String, "class_name": pl.String, "predicted": pl.String, "images": pl.Float64
}  # fmt: skip


def widen(folds: int) -> float:
    """The factor on the variance of a share of images, where heads of folds have predicted them.

    1 for the images of a test split, which `folds` counts as one.

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
    82 to 91 % of draws.
    """
    return 1 + folds / (folds - 1) if folds > 1 else 1


def find_interval(share: float, images: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, 0 .. 1, of so many independent images."""
    square = NORMAL**2 / images
    centre = (share + square / 2) / (1 + square)
    half = NORMAL * math.sqrt(share * (1 - share) / images + square / images / 4) / (1 + square)
    return centre - half, centre + half


def aggregate_estimates(
    runs: Sequence[Run],  # all heads on their own test sets
    manifests: Mapping[str, str | Path],  # of each dataset in folds
    destination: str | Path,  # its suffix is replaced
    confusions: str | Path,  # its suffix is replaced
    best: str | Path,  # a JSON file
    *,
    titles: Mapping[str, str] = {},  # method or dataset -> the name to show
) -> pl.DataFrame:
    """Write the tables of estimates and confusions, and which head to take.

    The confusions are the chosen heads' predictions: dataset, class_name, predicted, images (of
    that class, a mean over seeds). `best` is dataset -> what `describe_head` says of the head to
    take, and its classes, the least accurate first; a dataset without such a head is not in it.

    Returns:
        backbone, dataset, method, shots, accuracy, low, high (percent; a 95 % interval), images,
        folds, seeds. With folds, all images of a dataset are predicted, by heads that have not seen
        them; without (folds 0), those of the test split are.
    """
    rows, confused, chosen = [], [pl.DataFrame(schema=CONFUSIONS)], {}
    for dataset in distinct(runs, "dataset"):
        own = [run for run in runs if run.dataset == dataset]
        hits = _read_hits(own, manifests.get(dataset))
        table = _estimate(hits)
        rows.append(table)
        candidates = list_candidates(own, table, in_folds=dataset in manifests)
        if candidates.is_empty():
            continue
        run, described = describe_head(own, candidates, table, hits)
        counts = count_confusions(run)
        confused.append(counts)
        chosen[dataset] = described | {"classes": list_classes(counts)}
    estimates = pl.concat(rows)
    tables.write_table(estimates, destination, md=render_markdown(estimates, titles))
    tables.write_table(pl.concat(confused), confusions)
    write_record(best, chosen)
    return estimates


def _read_hits(runs: Sequence[Run], manifest: str | Path | None) -> pl.DataFrame:
    """Share of seeds that classify each image correctly: KEY, image, hit, seeds, split."""
    found = []
    for run in tables.by_file(runs):
        table = read_parquet(run.predictions, "shots", "seed", "image", "label", "prediction")
        hit = (pl.col("prediction") == pl.col("label")).mean()
        each = table.group_by("shots", "image", maintain_order=True)
        found.append(tables.name_rows(each.agg(hit=hit, seeds=pl.len().cast(pl.Int32)), run))
    hits = pl.concat(found)
    if manifest is None:
        return hits.with_columns(split=pl.lit(TESTED))
    return hits.join(read_parquet(manifest, "image", "split"), on="image", maintain_order="left")


def _estimate(hits: pl.DataFrame) -> pl.DataFrame:
    rows = []
    folds = hits["split"].n_unique()
    for key, found in hits.group_by(KEY, maintain_order=True):
        share, images = float(found["hit"].to_numpy().mean()), found.height
        low, high = find_interval(share, images / widen(folds))
        percent = {"accuracy": 100 * share, "low": 100 * low, "high": 100 * high}
        counts = {
            "images": images, "folds": folds if folds > 1 else 0, "seeds": found["seeds"][0]
        }  # fmt: skip
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
        taken = f"{wrong} ({round(counts[wrong], 1):g})" if wrong else ""
        accuracy = 100 * right / images
        classes.append({"name": name, "images": images, "accuracy": accuracy, "taken_for": taken})
    return sorted(classes, key=lambda each: each["accuracy"])


def list_candidates(runs: Sequence[Run], table: pl.DataFrame, *, in_folds: bool) -> pl.DataFrame:
    """The rows of a dataset's table of which a head may be taken, the best first.

    With folds, all numbers of shots are candidates: each image is scored by all of them. The
    column `score`, by which they are ordered, is then the accuracy itself.

    Without, it is the accuracy on the validation shots, as the records have it, in percent: the
    test images choose nothing. Heads with fewer than four shots are scored on fewer validation
    images, so they are candidates only where they have the most shots; heads without any are none.
    Of equally good candidates, that with the most shots comes first.
    """
    if in_folds:
        scored = table.with_columns(score="accuracy")
    else:
        rows = [
            {key: getattr(run, key) for key in KEY}
            | {"score": read_record(run.record)["val_accuracy"]}
            for run in runs
        ]
        schema = {key: table.schema[key] for key in KEY} | {"score": pl.Float64}
        scores = pl.DataFrame(rows, schema=schema).group_by(KEY).agg(pl.mean("score") * 100)
        scored = table.join(scores, on=KEY, maintain_order="left").drop_nulls("score")
        scored = scored.filter(pl.col("shots") >= pl.min_horizontal(VAL_SHOTS, pl.max("shots")))
    return scored.sort("score", "shots", descending=True, maintain_order=True)


def describe_head(
    runs: Sequence[Run], candidates: pl.DataFrame, table: pl.DataFrame, hits: pl.DataFrame
) -> tuple[Run, dict[str, Any]]:
    """Describe the first of a dataset's candidates.

    The row about it, and its description: head (its file), seed, backbone, dataset, method, shots,
    trained (in words), accuracy, low, high, images, folds, seeds, score, seconds, bytes;
    candidates, their number; as_good, the other methods and numbers of shots whose accuracy is
    within the interval; nested, the accuracy if the choice is made without the images that it is
    scored on, None without folds; curve, a sentence.
    """
    first = candidates.row(0, named=True)
    run = next(run for run in runs if all(getattr(run, key) == first[key] for key in KEY))
    record = read_record(run.record)
    nested = 100 * choose_nested(hits) if first["folds"] else None
    return run, first | {
        "head": run.head,
        "seed": run.seed,
        "trained": name_images(run.shots),
        "seconds": record["seconds"],
        "bytes": record["bytes"],
        "candidates": candidates.height,
        "as_good": list_as_good(first, table),
        "nested": nested,
        "curve": describe_curve(hits.filter(backbone=run.backbone, method=run.method)),
    }


def list_as_good(first: Mapping[str, Any], table: pl.DataFrame) -> list[tuple[str, str]]:
    """Method, and in words its numbers of shots and backbone, of all within a row's interval."""
    near = table.filter(pl.col("accuracy") >= first["low"])
    alone = table["backbone"].n_unique() == 1
    found = []
    for (method, backbone), rows in near.group_by("method", "backbone", maintain_order=True):
        is_first = (method, backbone) == (first["method"], first["backbone"])
        shots = [n for n in rows["shots"] if not (is_first and n == first["shots"])]
        words = list(map(str, map(format_shots, shots[:-1]))) + list(map(name_shots, shots[-1:]))
        if shots:
            found.append((method, ", ".join([*words, *([] if alone else [backbone])])))
    return found


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
        f"{gain:+z.1f} points (95 % interval {gain - error:+z.1f} to {gain + error:+z.1f})"
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
    "Accuracy in percent. With a test split, the interval is Wilson's, for the number of test "
    "images. With folds, all images count, each predicted by heads that were trained on the other "
    "folds. The interval is for the accuracy, on new images of the same kind, of the head that is "
    "trained on all folds. A head of all shots has then seen more images than the folds' heads: "
    "it is more often better than the interval than worse."
)

"""Labels that the other images contradict, classes that are alike, and near-duplicates."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from vtclip.config.dataset import Exif
from vtclip.data.duplicates import (
    MAX_BITS,
    find_copies,
    find_near_duplicates,
    hash_images,
    unit_rows,
)
from vtclip.features.store import FeatureSet
from vtclip.parquet import read_parquet
from vtclip.results.tables import write_table
from vtclip.wording import count, inline

NEIGHBOURS = 3  # of an image that are named
# Share of the images of two classes that a regression without them gives to the other of the two:
# half is chance.
ALIKE = 0.3
SUSPICIOUS = 4  # doubtful labels, and near-duplicates, that the report shows of a dataset
TOP = 20  # suspicious labels and pairs that are shown
FEWEST = 3  # images of a class that is compared


class LabelCheck(NamedTuple):
    """Doubtful labels, copies and similar classes of a dataset."""

    images: int  # that were checked
    # image, label, looks_like, margin, nearest (images with the nearest features); the surest first
    suspicious: pl.DataFrame
    duplicates: pl.DataFrame  # of `find_near_duplicates`
    alike: pl.DataFrame  # one, other (labels) and share; the most alike first


def check_labels(
    images: pl.DataFrame,  # image, label (numbers) and split; M rows
    features: np.ndarray,  # (M, D), pooled
    hashes: np.ndarray | None = None,  # (M, 256), of `hash_images`, for near-duplicates
) -> LabelCheck:
    """Check labels by the features of all images."""
    labels = images["label"].to_numpy()
    scores = leave_one_out(features, labels)
    return LabelCheck(
        images.height,
        _find_suspicious(images, scores, features),
        find_near_duplicates(images, features=features, hashes=hashes),
        _find_alike(scores, labels),
    )


def read_pooled(files: Sequence[str | Path]) -> tuple[pl.DataFrame, np.ndarray]:
    """Read image, label and split of the images of feature files, and their pooled features."""
    found = FeatureSet(files, spatial=False)
    rows = found.rows.with_row_index().filter(view=0).unique("image", maintain_order=True)
    batch = found.take(rows["index"].to_list())
    return rows.select("image", "label", "split"), batch.pooled.float().numpy()


def leave_one_out(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Score each image by a ridge regression on all other images, in closed form.

    The features x have unit length and a 1 behind them; the targets Y are 1 for an image's class
    and 0 for others. With H = X inverse(X'X + s I) X', the regression without image i gives it

        ((H Y)_i - H_ii Y_i) / (1 - H_ii)

    Returns:
        (M, K) in double precision; K is the largest label plus one.
    """
    rows, strength = ridge_system(features)
    targets = np.eye(labels.max() + 1)[labels]
    system = rows.T @ rows + strength * np.eye(rows.shape[1])
    solved = np.linalg.solve(system, rows.T)  # (D + 1, M)
    own = (rows * solved.T).sum(axis=1)[:, None]  # H_ii
    return (rows @ (solved @ targets) - own * targets) / (1 - own)


def ridge_system(features: np.ndarray) -> tuple[np.ndarray, float]:
    """The rows (M, D + 1) of the regression, and its strength: the mean variance of a feature."""
    unit = unit_rows(features.astype(np.float64))
    strength = len(unit) * unit.var(axis=0).mean()
    return np.hstack([unit, np.ones((len(unit), 1))]), max(float(strength), 1e-6)


def find_test_copies(
    destination: str | Path,  # its suffix is replaced
    *,
    manifest: str | Path,
    samples: Sequence[str | Path],  # the images of each run
    images: str | Path,  # the folder that image paths start from
    exif: Exif = "ignore",
    # Files of one backbone with all these images, of which few are then hashed; without, hashes
    # alone are compared, of all.
    features: Sequence[str | Path] = (),
) -> pl.DataFrame:
    """Write which test images are near-duplicates of an image that was drawn for a run.

    Returns:
        test_image, image (that was drawn), cosine and bits (of the 256 of a hash that differ).
    """
    drawn = pl.concat([read_parquet(sample, "image") for sample in samples])
    drawn = drawn.unique(maintain_order=True)
    tested = read_parquet(manifest, "image", "split").filter(split="test").select("image")
    both = pl.concat([drawn, tested])
    hash_some = partial(hash_images, folder=images, exif=exif)
    if features:
        rows, found = read_pooled(features)
        places = {image: row for row, image in enumerate(rows["image"])}
        pooled = found[[places[image] for image in both["image"]]]
        pairs = find_copies(both, drawn.height, features=pooled, hash_some=hash_some)
    else:
        pairs = find_near_duplicates(both, hashes=hash_some(both["image"].to_list()))
    across = pairs.filter(pl.col("row") < drawn.height, pl.col("other_row") >= drawn.height)
    table = across.select("image", "cosine", "bits", test_image="other_image")
    table = table.select("test_image", pl.exclude("test_image")).sort("test_image", "image")
    write_table(table, destination)
    return table


def _find_suspicious(
    images: pl.DataFrame, scores: np.ndarray, features: np.ndarray
) -> pl.DataFrame:
    """Images to which another class gives a higher score than their own."""
    rows, labels = np.arange(images.height), images["label"].to_numpy()
    others = scores.copy()
    others[rows, labels] = -np.inf
    margin = others.max(axis=1) - scores[rows, labels]
    doubtful = np.argsort(-margin, kind="stable")[: int((margin > 0).sum())]
    unit, names = unit_rows(features.astype(np.float32)), images["image"].to_list()
    cosine = unit[doubtful] @ unit.T
    cosine[np.arange(len(doubtful)), doubtful] = -np.inf
    nearest = np.argsort(-cosine, axis=1)[:, :NEIGHBOURS]
    return images[doubtful].with_columns(
        looks_like=pl.Series(others.argmax(axis=1)[doubtful], dtype=pl.Int64),
        margin=pl.Series(margin[doubtful], dtype=pl.Float64),
        nearest=pl.Series(
            [[names[row] for row in each] for each in nearest], dtype=pl.List(pl.String)
        ),
    )


def _find_alike(scores: np.ndarray, labels: np.ndarray) -> pl.DataFrame:
    """Pairs of classes whose images are hardly scored higher for their own class of the two."""
    found = []
    present = [label for label in np.unique(labels) if (labels == label).sum() >= FEWEST]
    wrong = {  # label -> how many of its images score higher for each other class
        label: (scores[labels == label] > scores[labels == label, label][:, None]).sum(axis=0)
        for label in present
    }
    for place, one in enumerate(present):
        for other in present[place + 1 :]:
            number = (labels == one).sum() + (labels == other).sum()
            share = (wrong[one][other] + wrong[other][one]) / number
            if share >= ALIKE:
                found.append((int(one), int(other), float(share)))
    schema = {"one": pl.Int64, "other": pl.Int64, "share": pl.Float64}
    return pl.DataFrame(found, schema, orient="row").sort("share", descending=True)


def describe_check(check: LabelCheck, names: Mapping[int, str], top: int = TOP) -> list[str]:
    """Describe what is doubtful in lines of text, and end with lines for a dataset's file."""
    suspicious = [
        f"{row['image']}: {names[row['label']]}, looks like {names[row['looks_like']]} "
        f"(by {row['margin']:.2f}); nearest: {', '.join(row['nearest'])}"
        for row in check.suspicious.iter_rows(named=True)
    ]
    pairs = [
        f"{row['image']} = {row['other_image']}{_describe_place(row, names)}"
        for row in _first_those_apart(check.duplicates).iter_rows(named=True)
    ]
    alike = [
        f"{names[one]} and {names[other]}: {share:.0%} go to the other one"
        for one, other, share in check.alike.iter_rows()
    ]
    parts = {
        "Labels that the other images contradict, the surest first": suspicious,
        "Near-duplicates, first those in two classes or splits": pairs,
        "Classes that these features can hardly tell apart": alike,
    }
    lines = [f"{count(check.images, 'image')} checked."]
    for title, found in parts.items():
        lines += [f"\n{title}: {len(found) or 'none'}."] + [f"  {line}" for line in found[:top]]
        lines += [f"  and {len(found) - top} more"] if len(found) > top else []
    return lines + suggest_leaving_out(check, names, top)


def suggest_leaving_out(check: LabelCheck, names: Mapping[int, str], top: int) -> list[str]:
    """Lines for a dataset's file, of the images that are shown."""
    reasons = {
        row["image"]: f"{names[row['label']]}, looks like {names[row['looks_like']]}"
        for row in check.suspicious[:top].iter_rows(named=True)
    }
    for row in _first_those_apart(check.duplicates)[:top].iter_rows(named=True):
        place = _describe_place(row, names)
        if place and row["image"] not in reasons:  # one of the two is left
            reasons.setdefault(row["other_image"], f"the picture of {row['image']}{place}")
    if not reasons:
        return []
    return [
        "\nTo leave images out, paste those of these lines that are right into the dataset's file.",
        "leave_out:",
        *(f"- {inline(image)}  # {reason}" for image, reason in reasons.items()),
    ]


def _first_those_apart(pairs: pl.DataFrame) -> pl.DataFrame:
    """Pairs of near-duplicates, first those in two classes, then those in two splits."""
    differ = [pl.col(name) == pl.col(f"other_{name}") for name in ("label", "split")]
    return pairs.sort(*differ, maintain_order=True)


def _describe_place(row: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """In which classes or splits a pair is, if it is in two."""
    differ = []
    if row["label"] != row["other_label"]:
        differ.append(f"{names[row['label']]} and {names[row['other_label']]}")
    if row["split"] != row["other_split"]:
        differ.append(f"{row['split']} and {row['other_split']}")
    return f" ({', '.join(differ)})" if differ else ""


def describe_labels(
    files: Sequence[str | Path], names: Sequence[str], picture: Callable[[str], str | None]
) -> dict[str, Any] | None:
    """The report's section on the labels in feature files; None without files."""
    if not files:
        return None
    found = check_labels(*read_pooled(files))
    return {
        "images": found.images,
        "number": found.suspicious.height,
        "suspicious": [
            (
                row["image"],
                picture(row["image"]),
                names[row["label"]],
                names[row["looks_like"]],
                [(image, picture(image)) for image in row["nearest"]],
            )
            for row in found.suspicious[:SUSPICIOUS].iter_rows(named=True)
        ],
        "pairs": found.duplicates.height,
        "duplicates": [
            [(image, picture(image)) for image in (row["image"], row["other_image"])]
            for row in found.duplicates[:SUSPICIOUS].iter_rows(named=True)
        ],
        "alike": [(names[one], names[other], share) for one, other, share in found.alike.rows()],
    }


def describe_copies(
    table: str | Path | None,
    tested: pl.Series,  # the test images that are predicted
    picture: Callable[[str], str | None],  # image -> what to show of it
) -> dict[str, Any] | None:
    """The report's section on a table of `find_test_copies`; None without a table."""
    if table is None:
        return None
    tested = tested.unique()
    found = read_parquet(table).filter(pl.col("test_image").is_in(tested.implode()))
    surest = found.sort("bits").unique("test_image", keep="first", maintain_order=True)
    return {
        "tested": len(tested),
        "number": surest.height,
        "by_hash": surest.filter(pl.col("bits") <= MAX_BITS).height,
        "pairs": [
            [(image, picture(image)) for image in (row["test_image"], row["image"])]
            for row in surest[:SUSPICIOUS].iter_rows(named=True)
        ],
    }

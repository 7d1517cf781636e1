"""Picks: lists of the images that few-shot runs train on, as the field publishes them.

A list is CoOp's pickled cache, cross-modal's JSON, JSON lines (those of 2SFS and of `vtclip picks`)
or CSV.
"""

import csv
import io
import json
import pickle  # noqa: TID251  what a file may name is limited in `_Unpickler`
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vtclip import paths
from vtclip.data.walk import NAMES, find_separator
from vtclip.paths import format_shots
from vtclip.wording import count, list_some

FORMS = (".jsonl", ".json", ".pkl", ".pickle", ".csv", ".tsv")
# The columns of a list by the names that projects give them.
IMAGE = ("image", "impath", "_impath", "path", "image_path", "img_path", "filename", "file")
LABEL = ("label", "_label", "class_id", "target")
NAME = ("class_name", "classname", "_classname", "class")
TRAIN, VAL = "train", "val"
SHOWN = 5  # images of each kind in an error
VAL_SHOTS = 4  # CoOp never takes more than four validation images per class.


class PicksError(ValueError):
    """A list of picks that cannot be read or used; the message names the file."""


class Pick(NamedTuple):
    """An image of a list."""

    image: str
    split: str  # train or val
    label: int | None
    class_name: str | None


def read_picks(path: str | Path) -> list[Pick]:
    """Read a list of picks in any of FORMS. Nothing in it is run.

    Raises:
        PicksError: another form, or a pickle that contains more than plain data and records.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMS:
        raise PicksError(f"{path}: expected a file that ends in {', '.join(FORMS)}.")
    try:
        return list(_read(path))
    except PicksError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, EOFError,
            MemoryError, RecursionError, csv.Error, pickle.UnpicklingError) as error:  # fmt: skip
        raise PicksError(f"{path}: no list of picks can be read from it: {error}") from error


def _read(path: Path) -> Iterable[Pick]:
    content, suffix = path.read_bytes(), path.suffix.lower()
    if suffix in (".pkl", ".pickle"):
        return _read_splits(_Unpickler(io.BytesIO(content), path).load(), path)
    text = content.decode("utf-8-sig")
    if suffix == ".json":
        return _read_splits(json.loads(text), path)
    if suffix == ".jsonl":
        lines = (line for line in text.split("\n") if line.strip())
        return (_read_record(json.loads(line), path) for line in lines)
    rows = csv.DictReader(io.StringIO(text, newline=None), delimiter=find_separator(text))
    return (_read_record(row, path) for row in rows)


def _read_splits(content: Any, path: Path) -> Iterable[Pick]:
    """A list for each split, or one list for training; cross-modal's have `data` in between."""
    splits = content if isinstance(content, dict) else {TRAIN: content}
    for split in (TRAIN, VAL):
        records = splits.get(split, [])
        records = records["data"] if isinstance(records, dict) else records
        yield from (_read_record(record, path, split) for record in records)


def _read_record(record: Any, path: Path, split: str = TRAIN) -> Pick:
    """A pick from a path, a row [path, label, class name], a mapping or a record of a pickle."""
    if isinstance(record, str):
        record = {"image": record}
    elif isinstance(record, (list, tuple)):
        record = dict(zip(("image", "label", "class_name"), record, strict=False))
    fields = record if isinstance(record, dict) else vars(record)
    image, label, name = (
        next((fields[key] for key in keys if fields.get(key) not in (None, "")), None)
        for keys in (IMAGE, LABEL, NAME)
    )
    if not isinstance(image, str):
        raise PicksError(f"{path}: expected an image's path, as one of {', '.join(IMAGE)}.")
    given = fields.get("split") or split
    split = NAMES.get(str(given).strip().lower(), "")
    if split not in (TRAIN, VAL):
        raise PicksError(f"{path}: {image}: expected the split {TRAIN} or {VAL}, found {given}.")
    if isinstance(label, str) and not label.strip().isdecimal():
        label, name = None, name or label  # tables name classes in such a column, too
    if label is not None and (isinstance(label, bool) or int(label) != float(label)):
        raise PicksError(f"{path}: {image}: expected the number of a class, found {label}.")
    return Pick(image, split, None if label is None else int(label), name)


class _Unpickler(pickle.Unpickler):
    """Reads plain data and Dassl's `Datum`, and refuses all else that a pickle may name or call."""

    def __init__(self, file: io.BytesIO, path: Path) -> None:
        super().__init__(file)
        self.path = path
        # A class for each file: a pickle may set attributes of what it names.
        self.record = type("Datum", (), {})

    def find_class(self, module: str, name: str) -> Any:
        """The record for `Datum`, of whatever module; how old protocols make one."""
        if name == "Datum":
            return self.record
        if (module, name) in (("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor")):
            return self._make
        if (module, name) in (("__builtin__", "object"), ("builtins", "object")):
            return object
        raise PicksError(
            f"{self.path}: expected a pickle of plain data and Datum records, found "
            f"{module}.{name}. Nothing was run. Use the list in another form: "
            f"{', '.join(FORMS[:2])} or .csv."
        )

    def _make(self, kind: Any, base: Any, state: Any) -> Any:
        if kind is not self.record or base is not object or state is not None:
            raise PicksError(f"{self.path}: expected Datum records, found another object.")
        return self.record()


Rows = Mapping[tuple[str, ...], dict[str, Any]]  # parts of an image's path -> its row


def index_rows(rows: Iterable[dict[str, Any]]) -> Rows:
    """Index the rows of a manifest or a split, with image, label, class_name and split."""
    return {PurePosixPath(row["image"]).parts: row for row in rows}


def match_rows(rows: Rows, picks: Iterable[Pick], *, source: str | Path) -> list[dict[str, Any]]:
    """Find a dataset's rows of some picks, in the picks' order, those to train with first.

    Raises:
        PicksError: images that the dataset does not have, or that are of its test split; other
            labels or class names than the dataset's; an image twice; none to train with.
    """
    problems: dict[str, list[str]] = {}
    found: dict[str, list[dict[str, Any]]] = {TRAIN: [], VAL: []}
    seen: Counter[str] = Counter()
    for pick in picks:
        row = _find_row(rows, pick.image)
        if row is not None:
            seen[row["image"]] += 1
            found[pick.split].append(row | {"split": pick.split})
        if problem := _find_problem(pick, row, seen):
            problems.setdefault(problem, []).append(pick.image)
    if not found[TRAIN] and not problems:
        raise PicksError(f"{source}: expected images to train with, found none.")
    if problems:
        lines = [
            f"  {count(len(images), 'image')} {problem}: {list_some(images, SHOWN)}"
            for problem, images in problems.items()
        ]
        raise PicksError("\n".join([f"{source}: the list does not match the dataset.", *lines]))
    return found[TRAIN] + found[VAL]


def _find_row(rows: Rows, image: str) -> dict[str, Any] | None:
    """The row of an image: that with the longest path with which the list's path ends."""
    parts = PurePosixPath(image.replace("\\", "/")).parts
    return next((rows[end] for n in range(len(parts)) if (end := parts[n:]) in rows), None)


def _find_problem(pick: Pick, row: Mapping[str, Any] | None, seen: Mapping[str, int]) -> str:
    """The fault of a pick, in words that go on from `3 images`; empty for a good one."""
    if row is None:
        return "not in the dataset's split"
    if row["split"] == "test":
        return "of the dataset's test split"
    if pick.label is not None and pick.label != row["label"]:
        return "with another label than the dataset's"
    if pick.label is None and pick.class_name not in (None, row["class_name"]):
        return "with another class name than the dataset's"
    return "listed twice" if seen[row["image"]] > 1 else ""


def count_validation(images: int, shots: int = VAL_SHOTS) -> int:
    """Number of a class's images in folds that are validated on."""
    return min(shots, VAL_SHOTS, max(1, images // 4))


def find_list(picks: str, *, dataset: str, shots: int, seed: int) -> Path | None:
    """Find the list of a run: a file, or one of a folder's by its name; None if there is none."""
    number = format_shots(shots)
    filled = picks.replace("{dataset}", dataset).replace("{shots}", str(number))
    path = Path(filled.replace("{seed}", str(seed)))
    if not path.is_dir():
        return path if path.is_file() else None
    names = (f"shot_{number}-seed_{seed}", paths.RUN.format(shots=number, seed=seed))
    tried = product((path / dataset, path), names, FORMS)
    found = (folder / f"{name}{form}" for folder, name, form in tried)
    return next((file for file in found if file.is_file()), None)

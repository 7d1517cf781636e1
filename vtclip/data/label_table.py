"""A user's table of images and labels: CSV, tab-separated or JSON lines, a row for each image.

The columns are found by their content where the dataset's file does not name them. Nothing is
guessed: a table that could be read in two ways is refused. No image is opened.
"""

import io
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import polars as pl

from vtclip.data.walk import NAMES, UNSPLIT, ManifestError, list_folder, refuse_unknown, walk
from vtclip.wording import count, did_you_mean, find_alike, list_some, plain, quote, shorten

LINES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", ".tsv", *LINES)
SEPARATORS = (",", ";", "\t")
# Names that a column of labels has, where several columns repeat their values.
LABELS = {
    "label", "labels", "class", "classes", "class_name", "classname", "category", "target",
    "species", "breed",
}  # fmt: skip
SEEN = 1000  # rows in which the column of paths is searched
PARTS = ("|", ";", ",")  # between the labels of an image that has several

# What tables may name an image by: its path, that without suffix, its name, that without suffix.
FORMS: Sequence[Callable[[str], str]] = (
    str,
    lambda path: str(PurePosixPath(path).with_suffix("")),
    lambda path: PurePosixPath(path).name,
    lambda path: PurePosixPath(path).stem,
)


class LabelTable(NamedTuple):
    """The rows of a table, and its columns."""

    rows: Sequence[tuple[str, str, str]]  # image below the folder, label, split or ""
    columns: Mapping[str, str]  # path, label and, if there is one, split -> the column's name

    @property
    def labels(self) -> list[str]:
        """The labels, sorted, so that their places are the numbers of the classes."""
        return sorted({label for _, label, _ in self.rows})


def read_table(dataset: Mapping[str, Any], folder: str | Path) -> LabelTable:
    """Read the table of a dataset, given as plain values, and find its images in the folder."""
    file, columns = Path(dataset["table"]), dataset.get("columns", {})
    table = _read(file)
    list_folder(folder)  # refuses one that cannot be read
    for key, name in columns.items():
        refuse_unknown(file, f"columns.{key}: there is no column", [name], table.columns)
    files = _Files(file, folder)
    path = columns.get("path") or _find_paths(file, table, files)
    split = columns.get("split") or _find_splits(table.drop(path))
    others = table.drop(path, *([split] if split else []))
    label = columns.get("label") or _find_labels(file, others)
    images = _resolve(file, table[path].to_list(), files)
    labels = _read_labels(file, table[label])
    _check_repeats(file, images, labels)
    names = dataset.get("class_names", {})
    refuse_unknown(file, "class_names: there is no label", names, sorted(set(labels)))
    splits = [UNSPLIT] * len(images) if split is None else _read_splits(file, table[split])
    found = {"path": path, "label": label} | ({"split": split} if split else {})
    return LabelTable(list(zip(images, labels, splits, strict=True)), found)


def _read(file: Path) -> pl.DataFrame:
    """Read a table of texts, and of lists of texts in JSON lines."""
    if file.suffix.lower() not in SUFFIXES:
        raise ManifestError(
            f"{file}: a table of labels has one of the suffixes {', '.join(SUFFIXES)}."
        )
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ManifestError(f"{file}: this table cannot be read: {error.strerror}.") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ManifestError(
            f"{file}: line {line} is not in UTF-8.\n"
            "  Save the table as UTF-8: spreadsheets call it `CSV UTF-8`."
        ) from None
    if not text.strip():
        raise ManifestError(f"{file}: the table is empty.")
    try:
        if file.suffix.lower() in LINES:
            table = _read_lines(text)
        else:
            separator = max(SEPARATORS, key=text.partition("\n")[0].count)
            table = pl.read_csv(io.StringIO(text), separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        raise ManifestError(
            f"{file}: the table cannot be read: {reason}.\n"
            "  expected: as many values in each row as the first has columns, and quotes around a "
            "value that contains a separator"
        ) from None
    table = table.rename({name: name.strip() for name in table.columns})
    if table.height == 0:
        raise ManifestError(f"{file}: the table has no row below its header.")
    return table


def _read_lines(text: str) -> pl.DataFrame:
    """Read JSON lines; a list stays one, any other value becomes text."""
    table = pl.read_ndjson(io.StringIO(text), infer_schema_length=None)
    return table.select(
        pl.col(name).cast(pl.List(pl.String) if kind == pl.List else pl.String)
        for name, kind in table.schema.items()
        if not isinstance(kind, pl.Struct)
    )


class _Files:
    """The files below a folder, by the forms in which a table may name them."""

    def __init__(self, table: str | Path, folder: str | Path) -> None:
        self.table, self.folder = Path(table), Path(folder)
        self.paths = [entry.path for entry in walk(folder) if entry.kind == "file"]
        self.by_form: list[dict[str, list[str]]] = [defaultdict(list) for _ in FORMS]
        for shorten_path, names in zip(FORMS, self.by_form, strict=True):
            for path in self.paths:
                names[shorten_path(path)].append(path)

    def find(self, values: Sequence[str | None]) -> tuple[Collection[str], list[list[str]]]:
        """All names in the form in which most values name files, and the files of each value."""
        found = [
            (names, [self._find_one(value, names) for value in values]) for names in self.by_form
        ]
        return max(found, key=lambda each: sum(map(bool, each[1])))

    def _find_one(self, value: str | None, names: Mapping[str, list[str]]) -> list[str]:
        name = (value or "").strip().replace("\\", "/").removeprefix("./")
        if "/" not in name or name in names:
            return names.get(name, [])
        # As seen from the table's folder or the working directory, or an absolute path.
        seen = (os.path.relpath(start / name, self.folder) for start in (self.table.parent, Path()))
        return next((names[path] for path in seen if path in names), [])


def _find_paths(file: str | Path, table: pl.DataFrame, files: _Files) -> str:
    """The column most of whose values name files."""
    rows = table.head(SEEN).select(pl.col(pl.String))
    shares = {c.name: sum(map(bool, files.find(c.to_list())[1])) / rows.height for c in rows}
    best = max(shares, key=shares.__getitem__, default="")
    if shares.get(best, 0) > 0.5:
        return best
    example = next(iter(files.paths), "no file")
    raise ManifestError(
        f"{file}: no column names images of the folder '{files.folder}'.\n"
        f"  found:    {_describe_columns(table)}; in the folder {example}\n"
        "  expected: a column of paths below that folder, of file names, or of names without "
        "suffix\n  Name the images' folder with --images, or the column with --path-column."
    )


def _find_splits(table: pl.DataFrame) -> str | None:
    """The column whose values are names of splits, train and test among them."""
    for name in table.select(pl.col(pl.String)).columns:
        values = {(value or "").strip().lower() for value in table[name].unique()}
        if {"train", "test"} <= {NAMES.get(value) for value in values} and values <= {*NAMES, ""}:
            return name
    return None


def _find_labels(file: str | Path, table: pl.DataFrame) -> str:
    """The one column whose values repeat; of several, the one that is called as labels are."""
    several = [name for name in table.columns if 1 < table[name].n_unique() < table.height]
    called = [name for name in several if name.lower() in LABELS]
    if len(several) == 1 or len(called) == 1:
        return (called or several)[0]
    kind = "several columns may be the labels" if several else "no column can be the labels"
    marks = [name for name in several if set(table[name].cast(pl.String)) <= {"0", "1"}]
    one_hot = f"\n  {list_some(marks)} contain 0 and 1: write the name of the class in one column"
    raise ManifestError(
        f"{file}: {kind}.\n  found:    {_describe_columns(table.select(several or table.columns))}"
        "\n  expected: a column in which the images of a class have the same value"
        + (one_hot if len(marks) > 1 else "")
        + "\n  Name it with --label-column."
    )


def _describe_columns(table: pl.DataFrame) -> str:
    shown = [f"{name} ({shorten(table[name].to_list()[0], 30)})" for name in table.columns]
    return list_some(shown, 6) if shown else "no other column"


def _resolve(file: Path, values: Sequence[str | None], files: _Files) -> list[str]:
    values = _refuse_blanks(file, values, "image")
    known, found = files.find(values)
    missing = [value for value, paths in zip(values, found, strict=True) if not paths]
    if missing:
        raise ManifestError(
            f"{file}: {len(missing)} of {count(len(values), 'image')} are missing in "
            f"{files.folder}: {list_some(missing)}.{did_you_mean(missing[0], known)}\n"
            "  Put the files there, or take out their rows."
        )
    for value, paths in zip(values, found, strict=True):
        if len(paths) > 1:
            raise ManifestError(
                f"{file}: {quote(value)} may be several images: {list_some(paths)}.\n"
                "  expected: paths that name one file each"
            )
    return [paths[0] for paths in found]


def _read_labels(file: Path, column: pl.Series) -> list[str]:
    """The label of each row; refuse several, and labels that are one in two spellings."""
    values = column.to_list()
    for number, value in enumerate(values):
        if isinstance(value, list) and len(value) > 1:
            raise _several_labels(file, number, ", ".join(map(str, value)))
    if column.dtype == pl.List:
        values = [value[0] if value else None for value in values]
    labels = _refuse_blanks(file, values, "label")
    known = {plain(label) for label in labels}
    for number, label in enumerate(labels):
        for mark in PARTS:
            parts = [plain(part) for part in label.split(mark)]
            if len(parts) > 1 and known.issuperset(parts):
                raise _several_labels(file, number, label)
    numbers = Counter(labels)
    for group in find_alike(sorted(numbers)):
        shown = [f"{label!r} ({count(numbers[label], 'row')})" for label in group]
        raise ManifestError(
            f"{file}: labels that differ by case or blanks alone: {' and '.join(shown)}.\n"
            "  expected: one spelling of each label"
        )
    if len(numbers) < 2:
        raise ManifestError(
            f"{file}: expected two labels or more in column {quote(column.name)}, found "
            f"{list_some(numbers)}.\n  Name the column of labels with --label-column."
        )
    return labels


def _several_labels(file: Path, number: int, shown: str) -> ManifestError:
    return ManifestError(
        f"{file}: {_row(file, number)} has several labels: {shown}.\n"
        "  expected: one label for each image; a few-shot classifier has one answer"
    )


def _read_splits(file: Path, column: pl.Series) -> list[str]:
    values = _refuse_blanks(file, column.to_list(), "split")
    for number, value in enumerate(values):
        if value.strip().lower() not in NAMES:
            raise ManifestError(
                f"{file}: {_row(file, number)} has the split {quote(value)}.\n"
                "  expected: train, val or test"
            )
    splits = [NAMES[value.strip().lower()] for value in values]
    if not {"train", "test"} <= set(splits):
        raise ManifestError(
            f"{file}: column {quote(column.name)} has no image to "
            f"{'test with' if 'train' in splits else 'train on'}; found: {list_some(set(splits))}."
        )
    return splits


def _check_repeats(file: Path, images: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse an image in two rows."""
    for image, number in Counter(images).items():
        if number > 1:
            first, second = [row for row, name in enumerate(images) if name == image][:2]
            raise ManifestError(
                f"{file}: the image {quote(image)} is in two rows.\n"
                f"  found:    {_row(file, first)} with the label {quote(labels[first])}, "
                f"{_row(file, second)} with {quote(labels[second])}\n"
                "  expected: each image once, with one label"
            )


def _refuse_blanks(file: Path, values: Sequence[str | None], noun: str) -> list[str]:
    """Return the values, of which none is blank."""
    blank = [_row(file, number) for number, value in enumerate(values) if not (value or "").strip()]
    if blank:
        raise ManifestError(
            f"{file}: {len(blank)} of {count(len(values), 'row')} have no {noun}: "
            f"{list_some(blank)}.\n  Fill them in, or take them out."
        )
    return [value for value in values if value is not None]


def _row(file: Path, number: int) -> str:
    """Name a row as people count, the header of a spreadsheet among the rows."""
    return f"row {number + (1 if file.suffix.lower() in LINES else 2)}"

"""A user's table of images and labels: CSV, tab-separated or JSON lines, a row for each image.

The columns are found by their content where the dataset's file does not name them. Nothing is
guessed: a table that could be read in two ways is refused. No image is opened.
"""

import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from vtclip.data.walk import (
    NAMES,
    TABLES,
    UNSPLIT,
    ManifestError,
    NamedFiles,
    find_separator,
    list_folder,
    refuse_unknown,
)
from vtclip.wording import (
    count,
    did_you_mean,
    find_alike,
    inline,
    list_some,
    plain,
    quote,
    shorten,
    show_difference,
)

LINES = (".jsonl", ".ndjson")
# Names that a column of labels has, where several columns repeat their values.
LABELS = {
    "label", "labels", "class", "classes", "class_name", "classname", "category", "target",
    "species", "breed",
}  # fmt: skip
SEEN = 1000  # rows in which the column of paths is searched
PARTS = ("|", ";", ",", "/", " ")  # between the labels of an image that has several


class LabelTable(NamedTuple):
    """The rows of a table, and its columns."""

    rows: Sequence[tuple[str, str, str]]  # image below the folder, label, split or ""
    columns: Mapping[str, str]  # path, label and, if there is one, split -> the column's name
    unused: Sequence[str]  # the other columns
    without_row: Sequence[str]  # the folder's other files

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
    files = NamedFiles(folder, file.parent)
    path = columns.get("path") or _find_paths(file, table, files)
    images = _resolve(file, table[path], files)
    others = table.drop({path, *columns.values()})
    split = columns.get("split") or _find_splits(others)
    label = columns.get("label") or _find_labels(file, others.drop(split or [], strict=False))
    found = {"path": path, "label": label} | ({"split": split} if split else {})
    if len({*found.values()}) < len(found):
        raise ManifestError(f"{file}: one column is named twice: {inline(found)}.")
    labels = _read_labels(file, table[label])
    _check_repeats(file, images, labels)
    names = dataset.get("class_names", {})
    refuse_unknown(file, "class_names: there is no label", names, sorted(set(labels)))
    splits = _split_by_folders(images) if split is None else _read_splits(file, table[split])
    if {*splits} != {UNSPLIT} and not {"train", "test"} <= {*splits}:
        place = "the folders of the images" if split is None else f"column {quote(split)}"
        raise ManifestError(
            f"{file}: there is no image to {'test' if 'train' in splits else 'train'} with.\n"
            f"  found:    the splits {list_some(sorted({*splits}))}, by {place}\n"
            "  expected: train and test, or no split"
        )
    unused = [name.strip() or "(no name)" for name in table.columns if name not in found.values()]
    rows = list(zip(images, labels, splits, strict=True))
    return LabelTable(rows, found, unused, sorted({*files.paths} - {*images}))


def _read(file: Path) -> pl.DataFrame:
    """Read a table of texts."""
    if file.suffix.lower() not in TABLES:
        raise ManifestError(f"{file}: the suffix of a table of labels is {' or '.join(TABLES)}.")
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
    text = re.sub(r"\r\n?", "\n", text).strip("\n")
    if not text.strip():
        raise ManifestError(f"{file}: the table is empty.")
    table = _read_lines(file, text) if file.suffix.lower() in LINES else _read_csv(file, text)
    names = [re.sub(r"_duplicated_\d+$", "", name).strip() for name in table.columns]  # by Polars
    if twins := [name for name, number in Counter(filter(None, names)).items() if number > 1]:
        raise ManifestError(f"{file}: two columns have one name: {list_some(twins)}.")
    table.columns = [name.strip() or name for name in table.columns]
    while table.height and not any((value or "").strip() for value in table.row(-1)):
        table = table.head(-1)  # spreadsheets write blank rows at the end
    if table.height == 0:
        raise ManifestError(f"{file}: the table has no row of values.")
    return table


def _read_csv(file: Path, text: str) -> pl.DataFrame:
    try:
        return pl.read_csv(io.StringIO(text), separator=find_separator(text), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().splitlines()[0]
        raise ManifestError(
            f"{file}: the table cannot be read: {reason}.\n"
            "  expected: as many values in each row as the first has columns, and quotes around a "
            "value that contains a separator"
        ) from None


def _read_lines(file: Path, text: str) -> pl.DataFrame:
    """Read JSON lines; values become text, and objects in them are left out."""
    rows: list[dict[str, str | None]] = []
    names: dict[str, Any] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            row = json.loads(line.strip() or "{}")
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise ManifestError(
                f"{file}: line {number} is no JSON object: {shorten(line)}.\n"
                '  expected: an object in each line, such as {"file_name": "1.jpg", "label": "cat"}'
            )
        if row:
            rows.append({n: _as_text(v) for n, v in row.items() if not isinstance(v, dict)})
            names |= rows[-1]
    return pl.DataFrame(rows, dict.fromkeys(names, pl.String))


def _as_text(value: Any) -> str | None:
    """Text of a JSON value: null, an empty list, and a list of one value are that of the value."""
    if isinstance(value, list) and len(value) < 2:
        value = value[0] if value else None
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _find_paths(file: str | Path, table: pl.DataFrame, files: NamedFiles) -> str:
    """The column most of whose values name files."""
    rows = table.head(SEEN)
    shares = {c.name: sum(map(bool, files.find(c.to_list())[1])) / rows.height for c in rows}
    best = max(shares, key=shares.__getitem__, default="")
    if shares.get(best, 0) > 0.5:
        return best
    there = {plain(name): name for names in files.by_form for name in names}
    values = (value.strip() for c in rows for value in c.to_list() if value and "." in value)
    alike = next((value for value in values if plain(value) in there), None)
    found = next(iter(files.paths), "no file") if alike is None else there[plain(alike)]
    hint = "" if alike is None else f" (not {quote(alike)}: upper and lower case count)"
    raise ManifestError(
        f"{file}: no column names images of the folder '{files.folder}'.\n"
        f"  found:    {_describe_columns(table)}; in the folder {found}{hint}\n"
        "  expected: a column of paths below that folder, of file names, or of names without "
        "suffix\n  Name the images' folder with --images, or the column with --path-column."
    )


def _find_splits(table: pl.DataFrame) -> str | None:
    """The column that has names of several splits alone; else one that is called split."""
    called = None
    for name in table.columns:
        values = {(value or "").strip().lower() for value in table[name].unique()} - {""}
        if values <= {*NAMES} and len({NAMES[value] for value in values}) > 1:
            return name
        if name.lower() == "split" and len(values) > 1:
            called = name
    return called


def _split_by_folders(images: Sequence[str]) -> list[str]:
    """The splits of images that are all in folders called as splits are; else no split."""
    splits = [NAMES.get(image.partition("/")[0].lower(), UNSPLIT) for image in images]
    return splits if UNSPLIT not in splits and len({*splits}) > 1 else [UNSPLIT] * len(images)


def _find_labels(file: str | Path, table: pl.DataFrame) -> str:
    """The one column whose values repeat; of several, the one that is called as labels are."""
    several = [name for name in table.columns if 1 < table[name].n_unique() < table.height]
    called = [name for name in several if name.lower() in LABELS]
    if len(several) == 1 or len(called) == 1:
        return (called or several)[0]
    kind = "several columns may be the labels" if several else "no column can be the labels"
    marks = [name for name in several if set(table[name]) <= {"0", "1"}]
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


def _resolve(file: Path, column: pl.Series, files: NamedFiles) -> list[str]:
    values = _refuse_blanks(file, column, "image")
    known, found = files.find(values)
    if files.find_one(column.name, known) and file.suffix.lower() not in LINES:
        raise ManifestError(
            f"{file}: the first row is that of an image: {quote(column.name)}.\n"
            "  expected: the names of the columns there, such as: path,label"
        )
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
    labels = _refuse_blanks(file, column, "label")
    numbers = Counter(labels)
    known = {plain(label) for label in numbers}
    for label in numbers:
        is_list = re.fullmatch(r"\[.*,.*\]", label.strip())
        parts = [{plain(part) for part in label.split(mark)} for mark in PARTS]
        if is_list or any(len(each) > 1 and each <= known for each in parts):
            raise ManifestError(
                f"{file}: {_row(file, labels.index(label))} has several labels: {label}.\n"
                "  expected: one label for each image; a few-shot classifier has one answer\n"
                "  If it is the name of one class, write it with other signs, such as '_'."
            )
    for group in find_alike(sorted(numbers)):
        shown = [f"{label!r} ({count(numbers[label], 'row')})" for label in group]
        raise ManifestError(
            f"{file}: labels that differ by case or blanks alone: {' and '.join(shown)}"
            f"{show_difference(*group[:2])}.\n  expected: one spelling of each label"
        )
    if len(numbers) < 2:
        raise ManifestError(
            f"{file}: expected two labels or more in column {quote(column.name)}, found "
            f"{list_some(numbers)}.\n  Name the column of labels with --label-column."
        )
    return labels


def _read_splits(file: Path, column: pl.Series) -> list[str]:
    values = _refuse_blanks(file, column, "split")
    for number, value in enumerate(values):
        if value.strip().lower() not in NAMES:
            raise ManifestError(
                f"{file}: {_row(file, number)} has the split {quote(value)} in column "
                f"{quote(column.name)}.\n  expected: train, val or test\n"
                "  If the column means another thing, give it another name."
            )
    return [NAMES[value.strip().lower()] for value in values]


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


def _refuse_blanks(file: Path, column: pl.Series, noun: str) -> list[str]:
    """Return the values of a column, of which none is blank."""
    values = column.to_list()
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

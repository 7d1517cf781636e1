"""Files and folders below a folder, without those of systems and editors, and its class folders."""

import os
import posixpath
import stat
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from vtclip.wording import did_you_mean, list_some, quote

SYSTEM = {
    "$recycle.bin", "#recycle", "@eadir", "@recycle", "__macosx", "__pycache__", "desktop.ini",
    "ehthumbs.db", "icon\r", "lost+found", "system volume information", "thumbs.db",
    ".appledouble", ".git", ".ipynb_checkpoints", ".spotlight-v100", ".thumbnails", ".trashes",
}  # fmt: skip
OF_SYSTEM = "of a system or an editor"
SPLITS = ("train", "val", "test")
NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
UNSPLIT = ""  # the split of class folders that are in no split folder
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")  # suffixes of tables of labels
DEEPEST = 5  # levels of folders in which classes are searched, for a message


class ManifestError(ValueError):
    """A split file or a folder of images that is not what the dataset's file promises."""


class Entry(NamedTuple):
    """One file or folder."""

    path: str  # from the walk's root, with slashes
    # "hidden" includes the files of systems and editors; "passed over" cannot be used.
    kind: Literal["folder", "file", "hidden", "passed over"]
    note: str = ""  # why it is hidden or passed over; of a file, its size and time


def walk(root: str | Path) -> Iterator[Entry]:
    """Go through a folder, level by level, except inside hidden folders.

    Names that are not UTF-8, broken links, links to a folder above them, and what may not be read
    are passed over without an error.
    """
    waiting: deque[tuple[str, tuple[str, ...]]] = deque([("", ())])
    while waiting:
        folder, above = waiting.popleft()
        resolved = os.path.realpath(Path(root, folder))
        if resolved in above:
            yield Entry(folder, "passed over", "a folder inside itself")
            continue
        try:
            entries = list_entries(root, folder)
        except OSError as error:
            yield Entry(folder, "passed over", str(error.strerror))
            continue
        for entry in entries:
            yield entry
            if entry.kind == "folder":
                waiting.append((entry.path, (*above, resolved)))


def list_entries(root: str | Path, folder: str = "") -> Iterator[Entry]:
    """List the entries of one folder below `root`, sorted by name.

    Raises:
        OSError: a folder that is not there or cannot be read.
    """
    names = sorted(path.name for path in Path(root, folder).iterdir())
    return (_describe(root, f"{folder}/{name}" if folder else name) for name in names)


def list_below(root: str | Path, folder: str, levels: int = 1) -> list[str]:
    """List the folders so many levels below a folder, as paths from the root."""
    found = [folder]
    for _ in range(levels):
        entries = [entry for parent in found for entry in list_folder(root, parent)]
        found = [entry.path for entry in entries if entry.kind == "folder"]
    return found


def list_folder(root: str | Path, folder: str = "") -> Iterator[Entry]:
    """List the entries of a folder; refuse one that cannot be read."""
    path = Path(root, folder)
    try:
        return list_entries(root, folder)
    except FileNotFoundError:
        raise ManifestError(
            f"{path}: there is no such folder.\n"
            "  expected: a folder, seen from the working directory"
        ) from None
    except NotADirectoryError:
        raise ManifestError(f"{path}: this is a file.\n  expected: a folder of images") from None
    except OSError as error:
        raise ManifestError(
            f"{path}: this folder cannot be read: {error.strerror}.\n"
            f"  expected: a folder that you may list and enter, as after: chmod -R u+rX '{path}'"
        ) from None


def refuse_unknown(
    place: str | Path, what: str, names: Iterable[str], known: Sequence[str]
) -> None:
    """Refuse a name that is not known; `what` says what there is none of."""
    for name in names:
        if name not in known:
            raise ManifestError(
                f"{place}: {what} {quote(name)}; found: {list_some(known, 20)}."
                f"{did_you_mean(name, known)}"
            )


def has_pictures(folder: Path) -> bool:
    """Check that a folder contains a file with the suffix of a picture, at any depth."""
    from vtclip.data.images import has_suffix

    return any(entry.kind == "file" and has_suffix(entry.path) for entry in walk(folder))


def _describe(root: str | Path, path: str) -> Entry:
    name = path.rpartition("/")[2]
    printable = os.fsencode(path).decode("utf-8", "backslashreplace")
    if name.casefold() in SYSTEM or name.startswith("._"):
        return Entry(printable, "hidden", OF_SYSTEM)
    if name.startswith(".") or name.endswith("~"):
        return Entry(printable, "hidden", "hidden by its name")
    if printable != path:
        return Entry(printable, "passed over", "its name is not UTF-8")
    try:
        status = Path(root, path).stat()
    except OSError as error:
        is_link = Path(root, path).is_symlink()
        reason = "a link that leads nowhere" if is_link else str(error.strerror)
        return Entry(path, "passed over", reason)
    if stat.S_ISDIR(status.st_mode):
        return Entry(path, "folder")
    if stat.S_ISREG(status.st_mode):
        return Entry(path, "file", f"{status.st_size} {status.st_mtime_ns}")
    return Entry(path, "passed over", "no plain file")


def find_separator(text: str) -> str:
    """The separator of the columns of CSV: the most frequent one of its first line."""
    return max(",;\t|", key=text.partition("\n")[0].count)


# What tables may name an image by: its path, that without suffix, its name, that without suffix.
FORMS: Sequence[Callable[[str], str]] = (
    str,
    lambda path: posixpath.splitext(path)[0],
    posixpath.basename,
    lambda path: posixpath.splitext(posixpath.basename(path))[0],
)


class NamedFiles:
    """The files below a folder, by the forms in which a table may name them.

    Names may also be paths as seen from `start` or the working directory, or absolute ones.
    """

    def __init__(self, folder: str | Path, start: Path) -> None:
        self.folder = folder
        self.root, *self.starts = (os.path.abspath(each) for each in (folder, start, "."))  # noqa: PTH100
        self.paths = [entry.path for entry in walk(folder) if entry.kind == "file"]
        self.by_form: list[dict[str, list[str]]] = [defaultdict(list) for _ in FORMS]
        for shorten_path, names in zip(FORMS, self.by_form, strict=True):
            for path in self.paths:
                names[shorten_path(path)].append(path)

    def find(self, values: Sequence[str | None]) -> tuple[Mapping[str, list[str]], list[list[str]]]:
        """All names in the form in which most values name files, and the files of each value."""
        found = []
        for names in self.by_form:
            files = [self.find_one(value, names) for value in values]
            found.append((names, files))
            if all(files):
                break  # no other form names more
        return max(found, key=lambda each: sum(map(bool, each[1])))

    def find_one(self, value: str | None, names: Mapping[str, list[str]]) -> list[str]:
        """The files that a value names, among all names in one form."""
        name = (value or "").strip().replace("\\", "/").removeprefix("./")
        if "/" not in name or name in names:
            return names.get(name, [])
        for start in self.starts:
            path = posixpath.normpath(posixpath.join(start, name)).removeprefix(f"{self.root}/")
            if path in names:
                return names[path]
        return []


# Class folders, alone or inside split folders.


class Tree(NamedTuple):
    """The class folders of a user's image folder, or the labels of a table."""

    classes: Sequence[str]  # the folders' names, sorted, so that their places are the labels
    splits: Collection[str]  # those that have a folder; none without split folders
    # Class folder, from the root, or image of a table -> label, split.
    places: Mapping[str, tuple[int, str]]


def read_tree(
    root: str | Path,
    *,
    levels: int | None = None,  # folders down to the classes, below the split folders; default 1
    split_folders: Mapping[str, str] = {},  # folder -> split, of folders with other names
) -> Tree:
    """Find the class folders by the names of the folders alone."""
    splits = _find_splits(root, split_folders)
    parents = list(splits) or [""]
    found = {parent: list_below(root, parent, levels or 1) for parent in parents}
    classes = sorted({PurePosixPath(path).name for paths in found.values() for path in paths})
    if len(classes) < 2:
        where = f" {levels} levels below" if levels and levels > 1 else ""
        raise ManifestError(
            f"{', '.join(str(Path(root, parent)) for parent in parents)}: expected two class "
            f"folders or more{where}, found {list_some(classes) or 'none'}."
            f"{_advise(root, parents, levels or 1)}"
        )
    labels = {name: label for label, name in enumerate(classes)}
    places = {
        path: (labels[PurePosixPath(path).name], splits.get(parent, UNSPLIT))
        for parent, paths in found.items()
        for path in paths
    }
    return Tree(classes, set(splits.values()), places)


def _find_splits(root: str | Path, given: Mapping[str, str]) -> dict[str, str]:
    """Find the split folders, as folder -> split in order; empty if there are class folders."""
    folders = list_below(root, "")
    refuse_unknown(root, "split_folders: there is no folder", given, folders)
    found = given or {name: NAMES[name.lower()] for name in folders if name.lower() in NAMES}
    if not found:
        return {}
    beside = [name for name in folders if name not in found and has_pictures(Path(root, name))]
    if beside:
        raise ManifestError(
            f"{root}: split folders ({list_some([*found])}) are beside other folders of images "
            f"({list_some(beside)}).\n"
            "  expected: class folders alone, or train, val and test folders that contain them\n"
            "  Move away what does not belong, or name all split folders under `split_folders`. If "
            "a class has the name of a split, rename its folder and give the class's name in "
            "`class_names`."
        )
    for split, count in {} if given else Counter(found.values()).items():
        if count > 1:
            twins = [name for name in found if found[name] == split]
            raise ManifestError(
                f"{root}: {count} folders for one split, {split}: {list_some(twins)}.\n"
                "  expected: one; move the others away, or their images into it"
            )
    if not {"train", "test"} <= set(found.values()):
        raise ManifestError(
            f"{root}: expected a train and a test folder, found {list_some([*found])}.\n"
            "  Without split folders, class folders are split by `fractions`."
        )
    return dict(sorted(found.items(), key=lambda item: SPLITS.index(item[1])))


def _advise(root: str | Path, parents: Sequence[str], searched: int) -> str:
    """Say what to name in place of folders that contain fewer than two class folders."""
    above = {PurePosixPath(path).name for parent in parents for path in list_below(root, parent)}
    if searched > 1 and len(above) > 1:
        return f" If the classes are {list_some(sorted(above))}, write: levels: 1"
    for levels in range(2, DEEPEST + 1):
        below = [path for parent in parents for path in list_below(root, parent, levels)]
        names = sorted({PurePosixPath(path).name for path in below})
        if len(names) > 1 and parents == [""]:
            inside = Path(root, below[0]).parent
            return f" Did you mean {inside}, which contains {list_some(names)}?"
        if len(names) > 1:
            return f" If the classes are {list_some(names)}, write: levels: {levels}"
    entries = [entry for parent in parents for entry in list_folder(root, parent)]
    unused = [f"{e.path} ({e.note})" for e in entries if e.kind not in ("file", "folder")]
    if unused:
        return f" Not used: {list_some(unused)}."
    tables = [e.path for e in entries if e.kind == "file" and e.path.lower().endswith(TABLES)]
    if tables and len(parents) > 1:
        return (
            f" The labels may be in the tables {list_some(tables)}: put their rows into one, "
            f"{Path(root, 'metadata.csv')}, with paths such as {parents[0]}/1.jpg."
        )
    if tables:
        return (
            f" The labels may be in a table: name {Path(root, tables[0])} in place of the folder."
        )
    if any(entry.kind == "file" for entry in entries):
        return " It contains files: name the folder above, whose folders are the classes."
    return ""

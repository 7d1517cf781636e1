"""A folder of one's own: class folders, alone or inside split folders, as people really have them.

Nothing is guessed. What could be read in two ways is refused, and what is not used is told.
`check_folder` opens no file and looks into no class folder, so that the plan can ask it.
"""

import difflib
import logging
import os
import stat
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from vtclip.runtime.job import warn_on_terminal

SPLITS = ("train", "val", "test")
Row = tuple[str, int, str, str]  # image, label, class name, split


class ManifestError(ValueError):
    """A split file or a folder of images that is not what the dataset's file promises."""


SYSTEM = {
    "$recycle.bin", "#recycle", "@eadir", "@recycle", "__macosx", "__pycache__", "desktop.ini",
    "ehthumbs.db", "icon\r", "lost+found", "system volume information", "thumbs.db",
}  # fmt: skip

Kind = Literal["folder", "file", "hidden", "passed over"]


class Entry(NamedTuple):
    """One file or folder.

    Attributes:
        path: from the walk's root, with slashes.
        kind: "hidden" stands for what systems and editors leave behind, too, and "passed over" for
            what cannot be used.
        note: why it is passed over; of a file, its size and time.
    """

    path: str
    kind: Kind
    note: str = ""


def walk(root: str | Path) -> Iterator[Entry]:
    """Everything below a folder, level by level, but for what is inside hidden folders.

    Nothing in there raises: names that are not UTF-8, links that lead nowhere or back to a folder
    above them, and what may not be read are passed over.
    """
    waiting: deque[tuple[str, tuple[Path, ...]]] = deque([("", ())])
    while waiting:
        folder, above = waiting.popleft()
        resolved = _resolve(Path(root, folder), above)
        if resolved in above:
            yield Entry(folder, "passed over", "a folder inside itself")
            continue
        for entry in look(root, folder):
            yield entry
            if entry.kind == "folder":
                waiting.append((entry.path, (*above, resolved)))


def _resolve(folder: Path, above: tuple[Path, ...]) -> Path:
    """Where a folder really is, given the same of those above it."""
    if above and not folder.is_symlink():
        return above[-1] / folder.name
    return Path(os.path.realpath(folder))


def look(root: str | Path, folder: str = "") -> Iterator[Entry]:
    """What stands in `folder`, seen from `root`, and not in the folders inside it; by name."""
    try:
        names = sorted(path.name for path in Path(root, folder).iterdir())
    except OSError as error:
        yield Entry(folder, "passed over", error.strerror or "not readable")
        return
    for name in names:
        yield _describe(root, f"{folder}/{name}" if folder else name)


def list_folders(folder: str | Path) -> list[str]:
    """The names of the folders in a folder, sorted; hidden ones are none."""
    return [entry.path for entry in look(folder) if entry.kind == "folder"]


def _describe(root: str | Path, path: str) -> Entry:
    if _is_hidden(path.rpartition("/")[2]):
        return Entry(_printable(path), "hidden")
    if _printable(path) != path:
        return Entry(_printable(path), "passed over", "its name is not UTF-8")
    try:
        status = Path(root, path).stat()
    except OSError as error:
        is_link = Path(root, path).is_symlink()
        note = "a link that leads nowhere" if is_link else error.strerror or "not readable"
        return Entry(path, "passed over", note)
    if stat.S_ISDIR(status.st_mode):
        return Entry(path, "folder")
    if stat.S_ISREG(status.st_mode):
        return Entry(path, "file", f"{status.st_size} {status.st_mtime_ns}")
    return Entry(path, "passed over", "no plain file")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.endswith("~") or name.casefold() in SYSTEM


def _printable(path: str) -> str:
    """The path, with the bytes of it that are not UTF-8 written out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


logger = logging.getLogger(__name__)

NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
Place = tuple[int, str, str]  # label, class name, split
ALL = ""  # the split of class folders that are in no split folder
SHOWN = 5  # names in a message


def find_splits(root: str | Path) -> dict[str, str]:
    """The split folders in a folder of one's own, by split; none where it holds class folders.

    Raises:
        ManifestError: folders that could be read in two ways, or train or test alone.
    """
    folders = list_folders(root)
    named = [folder for folder in folders if folder.lower() in NAMES]
    if not named:
        return {}
    beside = [f for f in folders if f not in named and _holds_pictures(Path(root, f))]
    if beside:
        raise ManifestError(
            f"{root}: folders of splits ({_short(named)}) stand beside other folders of images "
            f"({_short(beside)}).\n"
            "  expected: class folders alone, or train, val and test folders that hold them\n"
            "  Move away what does not belong. A class that is called as a split is needs a folder "
            "of another name; `class_names` gives it its own."
        )
    found: dict[str, list[str]] = {}
    for folder in named:
        found.setdefault(NAMES[folder.lower()], []).append(folder)
    for split, twins in found.items():
        if len(twins) > 1:
            raise ManifestError(
                f"{root}: {len(twins)} folders for one split, {split}: {_short(twins)}.\n"
                "  expected: one; move the others away, or their images into it"
            )
    if not {"train", "test"} <= set(found):
        raise ManifestError(
            f"{root}: expected a train and a test folder, found {_short(named)}.\n"
            "  Without split folders, class folders are split by `fractions`."
        )
    return {split: found[split][0] for split in SPLITS if split in found}


def find_classes(
    root: str | Path, splits: Mapping[str, str], class_names: Collection[str]
) -> list[str]:
    """The names of the class folders, sorted: a class is its place in them.

    Args:
        root: the folder.
        splits: its split folders, by split.
        class_names: the folders that the dataset's file gives another name.

    Raises:
        ManifestError: fewer than two class folders, or one in `class_names` that is not there.
    """
    parents = [Path(root, folder) for folder in splits.values() or (ALL,)]
    classes = sorted({name for parent in parents for name in list_folders(parent)})
    if len(classes) < 2:
        raise ManifestError(
            f"{', '.join(map(str, parents))}: expected two class folders or more, "
            f"found {_short(classes) or 'none'}."
        )
    for name in class_names:
        if name not in classes:
            close = difflib.get_close_matches(name, classes, n=1)
            raise ManifestError(
                f"{root}: class_names: there is no class folder '{name}'; "
                f"found: {_short(classes, 20)}." + (f" Did you mean '{close[0]}'?" if close else "")
            )
    return classes


def check_folder(root: str | Path, class_names: Collection[str]) -> None:
    """Refuse what the names of the folders alone show to be wrong.

    Raises:
        ManifestError: as of `find_splits` and `find_classes`.
    """
    find_classes(root, find_splits(root), class_names)


def list_images(root: str | Path, class_names: Mapping[str, str]) -> list[Row]:
    """The images of a folder of one's own; their split is "" where there are no split folders.

    What is skipped is counted on the terminal, and named in the log.

    Args:
        root: the folder.
        class_names: class folder -> the class's name, where it is another.

    Returns:
        Train, then val, then test; classes in order; images of a class sorted by path.

    Raises:
        ManifestError: there is no such folder, it could be read in two ways, or a class has no
            image for training or for testing.
    """
    if not Path(root).is_dir():
        raise ManifestError(f"{root}: there is no such folder.")
    splits = find_splits(root)
    classes = find_classes(root, splits, class_names)
    places = {
        PurePosixPath(folder, name).as_posix(): (label, class_names.get(name, name), split)
        for split, folder in (splits or {ALL: ""}).items()
        for label, name in enumerate(classes)
    }
    images, folders = _collect(Path(root), places, depth=2 if splits else 1)
    if not splits:
        _refuse_inner_splits(root, folders)
    _check_parts(root, places, images)
    return [
        (image, *place)
        for path, place in places.items()
        for image in sorted(images[path], key=lambda image: image.split("/"))
    ]


def _collect(
    root: Path, places: Collection[str], *, depth: int
) -> tuple[dict[str, list[str]], list[str]]:
    """The images of each class folder, at this depth, and all folders; the rest is told."""
    from vtclip.data.images import is_picture  # with Pillow, which the plan does without

    images: dict[str, list[str]] = {path: [] for path in places}
    folders, unused = [], []
    for entry in walk(root):
        place = "/".join(entry.path.split("/")[:depth])
        if entry.kind == "hidden":
            logger.info("Hidden, or of the system: %s", entry.path)
        elif entry.kind == "passed over":
            unused.append(f"{entry.path} ({entry.note})")
        elif entry.kind == "folder":
            folders.append(entry.path)
        elif place not in places:
            unused.append(f"{entry.path} (in no class folder)")
        elif not is_picture(root / entry.path):
            unused.append(f"{entry.path} (Pillow cannot read it as an image)")
        else:
            images[place].append(entry.path)
    if unused:
        warn_on_terminal(f"{root}: {len(unused)} skipped: {_short(unused)}.")
        logger.info("Skipped:\n  %s", "\n  ".join(unused))
    return images, folders


def _refuse_inner_splits(root: str | Path, folders: Iterable[str]) -> None:
    """Refuse class folders that hold split folders: their images would be mixed."""
    inner: dict[str, set[str]] = {}
    for name, *rest in (folder.split("/") for folder in folders):
        if len(rest) == 1 and rest[0].lower() in NAMES:
            inner.setdefault(name, set()).add(NAMES[rest[0].lower()])
    mixed = [name for name, splits in inner.items() if {"train", "test"} <= splits]
    if mixed:
        raise ManifestError(
            f"{root}: class folders that hold train and test folders: {_short(mixed)}.\n"
            "  expected: train and test folders that hold the class folders"
        )


def _check_parts(
    root: str | Path, places: Mapping[str, Place], images: Mapping[str, Sequence[str]]
) -> None:
    """Refuse a class without images to train or to test with; tell of one without others."""
    empty = [path for path, (*_, split) in places.items() if not images[path] and split != "val"]
    if empty:
        raise ManifestError(
            f"{root}: class folders without an image: {_short(empty, 10)}.\n"
            "  Put images there, or move the class away. One class has one name, to the letter, in "
            "all split folders."
        )
    unseen = [path for path, (*_, split) in places.items() if not images[path] and split == "val"]
    if unseen:
        warn_on_terminal(f"{root}: class folders without a validation image: {_short(unseen)}.")


def _holds_pictures(folder: Path) -> bool:
    from vtclip.data.images import has_suffix

    return any(entry.kind == "file" and has_suffix(entry.path) for entry in walk(folder))


def _short(names: Sequence[str], limit: int = SHOWN) -> str:
    """The first names, and how many there are beyond them."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")

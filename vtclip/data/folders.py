"""Walk a user's image folder: class folders, alone or inside split folders.

Nothing is guessed: a folder that could be read in two ways is refused, and unused files are listed.
`check_folder` opens no file and no class folder, so that planning can call it.
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

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
Row = tuple[str, int, str, str]  # image, label, class name, split
NAMES = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "dev": "val", "test": "test", "testing": "test",
}  # fmt: skip
Place = tuple[int, str, str]  # label, class name, split
ALL = ""  # the split of class folders that are in no split folder
SHOWN = 5  # names in a message
SYSTEM = {
    "$recycle.bin", "#recycle", "@eadir", "@recycle", "__macosx", "__pycache__", "desktop.ini",
    "ehthumbs.db", "icon\r", "lost+found", "system volume information", "thumbs.db",
}  # fmt: skip


class ManifestError(ValueError):
    """A split file or a folder of images that is not what the dataset's file promises."""


class Entry(NamedTuple):
    """One file or folder."""

    path: str  # from the walk's root, with slashes
    # "hidden" includes the files of systems and editors; "passed over" cannot be used.
    kind: Literal["folder", "file", "hidden", "passed over"]
    note: str = ""  # why it is passed over; of a file, its size and time


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
        for entry in list_entries(root, folder):
            yield entry
            if entry.kind == "folder":
                waiting.append((entry.path, (*above, resolved)))


def list_entries(root: str | Path, folder: str = "") -> Iterator[Entry]:
    """List the entries of one folder below `root`, sorted by name."""
    try:
        names = sorted(path.name for path in Path(root, folder).iterdir())
    except OSError as error:
        yield Entry(folder, "passed over", error.strerror or "not readable")
        return
    for name in names:
        yield _describe(root, f"{folder}/{name}" if folder else name)


def list_folders(folder: str | Path) -> list[str]:
    """List the folders in a folder, sorted, without hidden ones."""
    return [entry.path for entry in list_entries(folder) if entry.kind == "folder"]


def _describe(root: str | Path, path: str) -> Entry:
    name = path.rpartition("/")[2]
    printable = os.fsencode(path).decode("utf-8", "backslashreplace")
    if name.startswith(".") or name.endswith("~") or name.casefold() in SYSTEM:
        return Entry(printable, "hidden")
    if printable != path:
        return Entry(printable, "passed over", "its name is not UTF-8")
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


def find_splits(root: str | Path) -> dict[str, str]:
    """Find the split folders in a user's image folder, by split; empty if it has class folders."""
    folders = list_folders(root)
    named = [folder for folder in folders if folder.lower() in NAMES]
    if not named:
        return {}
    beside = [f for f in folders if f not in named and _has_pictures(Path(root, f))]
    if beside:
        raise ManifestError(
            f"{root}: split folders ({_short(named)}) are beside other folders of images "
            f"({_short(beside)}).\n"
            "  expected: class folders alone, or train, val and test folders that contain them\n"
            "  Move away what does not belong. If a class has the name of a split, rename its "
            "folder and give the class's name in `class_names`."
        )
    found: dict[str, str] = {}
    for folder in named:
        split = NAMES[folder.lower()]
        if split in found:
            twins = [name for name in named if NAMES[name.lower()] == split]
            raise ManifestError(
                f"{root}: {len(twins)} folders for one split, {split}: {_short(twins)}.\n"
                "  expected: one; move the others away, or their images into it"
            )
        found[split] = folder
    if not {"train", "test"} <= set(found):
        raise ManifestError(
            f"{root}: expected a train and a test folder, found {_short(named)}.\n"
            "  Without split folders, class folders are split by `fractions`."
        )
    return {split: found[split] for split in SPLITS if split in found}


def find_classes(
    root: str | Path,
    splits: Mapping[str, str],  # split -> its folder in `root`
    class_names: Collection[str],  # class folders whose classes have another name
) -> list[str]:
    """List the class folders, sorted, so that their places are the labels."""
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
    """Raise the ManifestErrors that need only the folders' names."""
    find_classes(root, find_splits(root), class_names)


def list_images(
    root: str | Path,
    class_names: Mapping[str, str],  # class folder -> the class's name, if they differ
) -> list[Row]:
    """List the images of a user's image folder; their split is "" without split folders.

    Train, then val, then test; classes in order; images of a class sorted by path. Skipped files
    are counted on the terminal, and listed in the log.
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
    """List the images of each class folder, at this depth, and all folders; report the rest."""
    from vtclip.data.images import is_picture  # imports Pillow, which planning does not need

    images: dict[str, list[str]] = {path: [] for path in places}
    folders, unused = [], []
    for entry in walk(root):
        place = "/".join(entry.path.split("/")[:depth])
        if entry.kind == "hidden":
            logger.info("Hidden, or a system's file: %s", entry.path)
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
    """Refuse class folders that contain split folders: their images would be mixed."""
    inner: dict[str, set[str]] = {}
    for name, *rest in (folder.split("/") for folder in folders):
        if len(rest) == 1 and rest[0].lower() in NAMES:
            inner.setdefault(name, set()).add(NAMES[rest[0].lower()])
    mixed = [name for name, splits in inner.items() if {"train", "test"} <= splits]
    if mixed:
        raise ManifestError(
            f"{root}: class folders that contain train and test folders: {_short(mixed)}.\n"
            "  expected: train and test folders that contain the class folders"
        )


def _check_parts(
    root: str | Path, places: Mapping[str, Place], images: Mapping[str, Sequence[str]]
) -> None:
    """Refuse a class without training or test images; warn of one without validation images."""
    empty = [path for path, (*_, split) in places.items() if not images[path] and split != "val"]
    if empty:
        raise ManifestError(
            f"{root}: class folders without an image: {_short(empty, 10)}.\n"
            "  Put images there, or move the class away. A class has exactly the same name in all "
            "split folders."
        )
    unseen = [path for path, (*_, split) in places.items() if not images[path] and split == "val"]
    if unseen:
        warn_on_terminal(f"{root}: class folders without a validation image: {_short(unseen)}.")


def _has_pictures(folder: Path) -> bool:
    from vtclip.data.images import has_suffix

    return any(entry.kind == "file" and has_suffix(entry.path) for entry in walk(folder))


def _short(names: Sequence[str], limit: int = SHOWN) -> str:
    """Join the first names, and count the others."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest} more" if rest > 0 else "")

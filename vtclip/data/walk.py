"""What stands in a folder of one's own: one walk, to list its images and to see it change.

Links are followed; a folder inside itself is not. No file is opened.
"""

import os
import stat
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

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

"""Files and folders below a folder, without those of systems and editors."""

import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from vtclip.wording import did_you_mean, list_some, quote

SYSTEM = {
    "$recycle.bin", "#recycle", "@eadir", "@recycle", "__macosx", "__pycache__", "desktop.ini",
    "ehthumbs.db", "icon\r", "lost+found", "system volume information", "thumbs.db",
    ".appledouble", ".git", ".ipynb_checkpoints", ".spotlight-v100", ".thumbnails", ".trashes",
}  # fmt: skip
OF_SYSTEM = "of a system or an editor"


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

"""Images sorted into one folder per class, beside `unsure` and `unknown`."""

import filecmp
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vtclip.files import atomic_write, write_json
from vtclip.inference.classifier import Prediction

UNSURE, UNKNOWN = "unsure", "unknown"
JOURNAL = "sorted.jsonl"  # a line for each image that has its place
MADE_BY = "sorted-by.json"  # the head and the options of the first start


class Sorter:
    """Puts each image into the folder of its class, once, and over no other file.

    An image is never changed or moved: its folder has a link to it, or a copy. The journal is
    written after that, so that what was killed goes on where it was.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], *, copies: bool) -> None:
        self.folder, self.copies = folder, copies
        self.names = dict(zip(class_names, name_folders(class_names), strict=True))
        self.done = dict(_read_journal(folder / JOURNAL))  # absolute path -> folder

    def left(self, images: Iterable[str]) -> list[str]:
        """The images that are to be sorted: not those that are, nor links to them."""
        inside = f"{self.folder.absolute()}{os.sep}"
        paths = [(image, os.path.abspath(image)) for image in images]  # noqa: PTH100  keeps links
        outside = [(image, path) for image, path in paths if not path.startswith(inside)]
        if paths and not outside:
            raise ValueError(
                f"{self.folder}: all images are in the folder that they are to be sorted into. "
                "Sort into another folder."
            )
        return [image for image, path in outside if path not in self.done]

    def place(self, prediction: Prediction) -> str:
        """Put an image into its folder, and return the folder's name."""
        name = self._choose(prediction)
        source = Path(os.path.abspath(prediction.image))  # noqa: PTH100
        target = self.folder / name / source.name
        target.parent.mkdir(parents=True, exist_ok=True)
        number = 2
        while not self._put(source, target):
            target = target.with_name(f"{source.stem}-{number}{source.suffix}")
            number += 1
        line = json.dumps({"image": str(source), "folder": name})
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(line + "\n")
        self.done[str(source)] = name
        return name

    def _choose(self, prediction: Prediction) -> str:
        if prediction.is_unknown:
            return UNKNOWN
        if prediction.classes is not None and len(prediction.classes) != 1:
            return UNSURE
        ((best, _),) = prediction.top(1)
        return self.names[best]

    def _put(self, source: Path, target: Path) -> bool:
        """Link or copy, unless it is there; False if another image has the name."""
        if target.is_symlink():
            return target.readlink() == source
        if target.exists():
            same = self.copies and target.is_file()
            return same and filecmp.cmp(source, target, shallow=False)
        if self.copies:
            with atomic_write(target) as temporary:
                shutil.copyfile(source, temporary)
        else:
            target.symlink_to(source)
        return True


@contextmanager
def sorting(
    folder: Path, class_names: Sequence[str], *, copies: bool, made_by: Mapping[str, Any]
) -> Iterator[Sorter]:
    """A sorter into a folder; `made_by` describes the head and the options.

    Raises:
        ValueError: another process sorts into the folder, or another head or other options have.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: expected a folder to sort into, found a file.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", blocking=False):
            _check_made_by(folder / MADE_BY, made_by)
            yield Sorter(folder, class_names, copies=copies)
    except Timeout:
        raise ValueError(f"{folder}: another process is sorting into this folder.") from None


def _check_made_by(path: Path, made_by: Mapping[str, Any]) -> None:
    """Refuse to go on with another head or other options; write those of the first start."""
    if not path.exists():
        write_json(path, dict(made_by))
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    others = [name for name in made_by if made_by[name] != before.get(name)]
    if others:
        raise ValueError(
            f"{path.parent}: images were sorted into it with another {' and '.join(others)}. "
            "Sort into another folder."
        )


def name_folders(class_names: Sequence[str]) -> list[str]:
    """A folder's name for each class: no path, no other class's on any system, not `unsure`."""
    taken, names = {UNSURE, UNKNOWN, JOURNAL, MADE_BY}, []
    for label, class_name in enumerate(class_names):
        name = re.sub(r"[^\w ,&'()+=@.-]", "_", class_name)[:60].strip(" .") or "class"
        if name.casefold() in taken:
            name = f"{name} ({label})"
        taken.add(name.casefold())
        names.append(name)
    return names


def _read_journal(path: Path) -> Iterator[tuple[str, str]]:
    """The images that have a place; a last line that was not finished is cut off."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    for line in whole.decode("utf-8").splitlines():
        entry = json.loads(line)
        yield entry["image"], entry["folder"]

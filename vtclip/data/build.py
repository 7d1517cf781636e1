"""Folders of many files: under its own name a folder is whole, and one process at a time builds it.

Two projects may share `resources/`, and a job may outlive its Snakemake: each fills a folder of its
own beside the place, and none takes away what another has built.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from vtclip.files import sha256_of_all, write_json

logger = logging.getLogger(__name__)

Fill = Callable[[Path], Mapping[str, str]]


def build_folder(folder: str | Path, receipt: str | Path, fill: Fill, *, asked: str) -> int:
    """Build a folder, which appears only once it is whole, and then its receipt.

    Where another process builds the same folder, it is waited for. If it was asked for the same,
    its work is taken.

    Args:
        folder: replaced if it is there.
        receipt: a JSON file that tells how many files there are and their joint checksum.
        fill: writes the files into the empty folder that it is given; gives their paths in it,
            each with its SHA-256.
        asked: what the folder is built from, as a text that is another one for other content.

    Returns:
        The number of files.

    Raises:
        RuntimeError: other files are there than `fill` has written.
    """
    folder, receipt = Path(folder), Path(receipt)
    asked = hashlib.sha256(asked.encode()).hexdigest()
    receipt.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(receipt.with_name(f".{receipt.name}.lock")) as waited:
        if waited and _is_built(folder, receipt, asked):
            logger.info("%s: another process has built it.", folder)
        else:
            receipt.unlink(missing_ok=True)
            _remove_leftovers(folder)
            content = _replace(folder, fill)
            write_json(receipt, content | {"asked": asked})
        files: int = json.loads(receipt.read_text(encoding="utf-8"))["files"]
    logger.info("%d files in %s.", files, folder)
    return files


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock; gives whether it was waited for."""
    lock = FileLock(path)
    waited = False
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.info("%s: another process is at work: waiting.", path)
        lock.acquire()
        waited = True
    try:
        yield waited
    finally:
        lock.release()


def _is_built(folder: Path, receipt: Path, asked: str) -> bool:
    """Whether a folder is there and whole, built from what is asked."""
    try:
        content = json.loads(receipt.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    return content.get("asked") == asked and _count(folder) == content["files"]


def _replace(folder: Path, fill: Fill) -> dict[str, int | str]:
    """Fill a private folder and put it in the place of the old one; gives what a receipt tells."""
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as private:
        new, old = Path(private, "new"), Path(private, "old")
        new.mkdir()
        written = fill(new)
        # The receipt must not reach the disk before the files; one by one would take far longer.
        os.sync()
        found = _count(new)
        if found != len(written):
            raise RuntimeError(
                f"{folder}: {len(written)} files were written, but {found} are there. "
                "Does something else write or delete there? Run again."
            )
        with suppress(FileNotFoundError):
            folder.rename(old)
        new.rename(folder)
    return {"files": found, "sha256": sha256_of_all(written)}


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def _remove_leftovers(folder: Path) -> None:
    """Remove the private folders of killed processes: whoever holds the lock has none yet."""
    private = re.compile(re.escape(f".{folder.name}.") + "[a-z0-9_]{8}")  # as tempfile names them
    for path in folder.parent.iterdir():
        if private.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)

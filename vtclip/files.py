"""Files that are whole or not there: atomic writes, and checksums that readers compare."""

import hashlib
import json
import logging
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from filelock import FileLock, Timeout

from vtclip.paths import receipt_of
from vtclip.task import Head

SEAL = "seal"  # the key of a record that holds the checksum of the others


class DamagedError(ValueError):
    """A file whose content is not what was written. The message names it, and what to delete."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, and rename it to `path` once the block has ended well.

    A block that raises leaves nothing behind. A process that is killed leaves a hidden
    `.<name>.<machine>.<pid>.tmp`, which nobody reads and the next writer removes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{_machine()}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())  # safetensors would keep it from everybody else
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_record(path: str | Path, content: dict[str, Any]) -> None:
    """Write `content` as indented JSON with a checksum of it under `seal`, atomically."""
    sealed = content | {SEAL: _seal(content)}
    write_text(path, json.dumps(sealed, indent=2, ensure_ascii=False) + "\n")


def read_record(path: str | Path) -> dict[str, Any]:
    """What `write_record` wrote. A record without a seal, which somebody else wrote, passes.

    Raises:
        DamagedError: no such JSON, or other values than were written.
    """
    with name_file_in_errors(path):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"expected a JSON object, found {type(content).__name__}")
        seal = content.pop(SEAL, None)
        if seal is not None and seal != _seal(content):
            raise ValueError("its seal does not match")
    return content


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(checksums: Mapping[str, str]) -> str:
    """One SHA-256 for many files, given as path -> SHA-256 of the content, in any order."""
    lines = (f"{path}\0{checksum}\n" for path, checksum in sorted(checksums.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_receipt(path: str | Path) -> None:
    """Write the checksum of a large file into the small file beside it, atomically.

    Snakemake compares large files by their time; by the receipt it sees whether one has changed.
    """
    write_record(receipt_of(path), measure(path))


def measure(path: str | Path) -> dict[str, Any]:
    """The length of a file in bytes and its SHA-256, as receipts hold them."""
    return {"bytes": Path(path).stat().st_size, "sha256": sha256_of(path)}


def check_receipt(path: str | Path) -> str:
    """Compare a file with its receipt, where it has one.

    Returns:
        Its SHA-256.

    Raises:
        DamagedError: it is not the file that the receipt was written for.
    """
    found, receipt = sha256_of(path), Path(receipt_of(path))
    expected = read_record(receipt).get("sha256", found) if receipt.is_file() else found
    with name_file_in_errors(path):
        if found != expected:
            raise ValueError(f"{receipt} tells of SHA-256 {expected}, found {found}")
    return found


@contextmanager
def name_file_in_errors(path: str | Path) -> Iterator[None]:
    """Let whatever goes wrong in reading a file end in an error that names it.

    Raises:
        DamagedError: for all but errors of the file system, such as a file that is not there.
    """
    try:
        yield
    except DamagedError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error).strip() or type(error).__name__
        raise DamagedError(
            f"{path}: the file is damaged: {reason}. Delete it and run again."
        ) from error


def _seal(content: dict[str, Any]) -> str:
    told = json.dumps(content, sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _machine() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _remove_leftovers(path: Path) -> None:
    """Remove what writers of this file left that were killed on this machine."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.{_machine()}\.(\d+)\.tmp")
    for other in path.parent.iterdir():
        found = pattern.fullmatch(other.name)
        if found and not psutil.pid_exists(int(found[1])):
            other.unlink(missing_ok=True)


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
            _remove_unfinished(folder)
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


def _remove_unfinished(folder: Path) -> None:
    """Remove the private folders of killed processes: whoever holds the lock has none yet."""
    private = re.compile(re.escape(f".{folder.name}.") + "[a-z0-9_]{8}")  # as tempfile names them
    for path in folder.parent.iterdir():
        if private.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def read_head(path: str | Path) -> Head:
    """The tensors of a head, on the CPU, once they are seen to be those of its record.

    Raises:
        DamagedError: the file is damaged.
    """
    from safetensors.torch import load_file  # with torch, which the plan does without

    check_receipt(path)
    with name_file_in_errors(path):
        return load_file(path)

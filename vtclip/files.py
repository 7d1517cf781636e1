"""Files that are whole or not there: atomic writes, and checksums that readers compare."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import mmap
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

logger = logging.getLogger(__name__)

SEAL = "seal"  # key of a record for the checksum of the others
MARK = "vtclip-seal:"  # stands before the 64 digits of a seal inside another file
BLANK = "0" * 64
LISTS = {".csv", ".json", ".mat", ".tsv", ".txt"}  # suffixes of files that say what images show
AGAIN = "Delete it and run again."


class DamagedError(ValueError):
    """A file whose content is not what was written. The message names it, and what to delete."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to, and rename it to `path` if the block succeeds.

    It is in a hidden folder beside `path`, `.<name>.<machine>.<pid>.tmp`, with whatever a library
    writes beside its file. A killed process leaves this folder, and the next writer removes it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, f".{path.name}.")
    folder = path.with_name(f".{path.name}.{owner()}.tmp")
    try:
        folder.mkdir(exist_ok=True)
        temporary = folder / path.name
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0o077)  # it can only be read by setting it
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # safetensors writes files that others may not read
        temporary.replace(path)
    except OSError as error:
        if error.errno is not None and str(error.filename or folder).startswith(str(folder)):
            error.filename = str(path)  # for a full disk the system gives no name
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def owner() -> str:
    """Name of this process, as in the names of what it leaves if it is killed: `machine.4711`."""
    return f"{re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())[:40]}.{os.getpid()}"


def remove_leftovers(folder: Path, start: str) -> None:
    """Remove what killed processes of this machine left: `start`, their name, a dot and a word."""
    leftovers = re.compile(rf"{re.escape(start)}{owner().partition('.')[0]}\.(\d+)\.\w+")
    for other in folder.iterdir():
        found = leftovers.fullmatch(other.name)
        if found and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(other, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_record(path: str | Path, content: dict[str, Any]) -> None:
    """Write `content` as indented JSON with its checksum under `seal`, atomically."""
    write_json(path, content | {SEAL: _seal(content)})


def read_record(path: str | Path) -> dict[str, Any]:
    """Read what `write_record` wrote; a record without a seal is read as it is."""
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
    """SHA-256 of a file's content."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_all(checksums: Mapping[str, str]) -> str:
    """Combine path -> SHA-256 of many files into one SHA-256, whatever their order."""
    lines = (f"{path}\0{checksum}\n" for path, checksum in sorted(checksums.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_receipt(path: str | Path) -> None:
    """Write the checksum of a large file into its receipt, atomically; see `receipt_of`."""
    write_record(receipt_of(path), measure(path))


def measure(path: str | Path) -> dict[str, Any]:
    """Length in bytes and SHA-256 of a file, as in receipts."""
    return {"bytes": Path(path).stat().st_size, "sha256": sha256_of(path)}


def check_receipt(path: str | Path) -> str:
    """Compare a file with its receipt, if there is one, and return its SHA-256."""
    found, receipt = sha256_of(path), Path(receipt_of(path))
    expected = read_record(receipt).get("sha256", found) if receipt.is_file() else found
    if found != expected:
        with name_file_in_errors(path):
            raise ValueError(f"expected SHA-256 {expected}, as in {receipt}, found {found}")
    return found


def seal(path: str | Path, start: int = 0) -> None:
    """Write the SHA-256 of a file from `start` on into it, for the zeros after MARK."""
    with Path(path).open("r+b") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            place = content.find((MARK + BLANK).encode(), start) + len(MARK)
            digits = digest_around(content, place, start)
        file.seek(place)
        file.write(digits.encode())


def check_seal(path: str | Path, advice: str = AGAIN) -> None:
    """Compare a file's content with the seal inside it; raise a DamagedError if they differ."""
    with (
        name_file_in_errors(path, advice),
        Path(path).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        place = content.find(MARK.encode()) + len(MARK)
        if place < len(MARK):
            raise ValueError("it has no seal")
        if content[place : place + len(BLANK)] != digest_around(content, place).encode():
            raise ValueError("its seal does not match")


def digest_around(content: bytes | mmap.mmap, place: int, start: int = 0) -> str:
    """SHA-256 of a content from `start` on, with zeros for the 64 digits of its seal."""
    with memoryview(content) as view:
        digest = hashlib.sha256(view[start:place])
        digest.update(BLANK.encode())
        digest.update(view[place + len(BLANK) :])
    return digest.hexdigest()


@contextmanager
def name_file_in_errors(path: str | Path, advice: str = AGAIN) -> Iterator[None]:
    """Turn an error in reading a file into a DamagedError that names it, and what to do.

    Errors of the file system, such as a missing file, pass unchanged.
    """
    try:
        yield
    except Exception as error:
        is_of_system = isinstance(error, OSError) and error.errno is not None
        if is_of_system or isinstance(error, DamagedError):
            raise
        reason = str(error).strip() or type(error).__name__
        raise DamagedError(f"{path}: the file is damaged: {reason}. {advice}") from error


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def build_folder(
    folder: str | Path,
    receipt: str | Path,
    fill: Callable[[Path], Mapping[str, str]],  # writes files into a folder: path in it -> SHA-256
    *,
    sources: str,  # describes what the folder is built from
) -> int:
    """Build a folder, which appears only when it is complete, and then its receipt.

    Returns the number of files. If another process builds the same folder from the same sources,
    its work is taken.
    """
    folder, receipt = Path(folder), Path(receipt)
    asked = hashlib.sha256(sources.encode()).hexdigest()
    for path in (folder, receipt):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(receipt.with_name(f".{receipt.name}.lock")) as waited:
        if waited and _is_built(folder, receipt, asked):
            logger.info("%s: another process has built it.", folder)
        else:
            receipt.unlink(missing_ok=True)
            # Of killed processes, as tempfile names them; this process has the lock.
            for old in folder.parent.glob(f".{glob.escape(folder.name)}.{'[a-z0-9_]' * 8}"):
                shutil.rmtree(old, ignore_errors=True)
            write_record(receipt, _replace(folder, fill) | {"asked": asked})
        files: int = read_record(receipt)["files"]
    logger.info("%d files in %s.", files, folder)
    return files


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Acquire a lock; gives True if another process had it."""
    try:
        with FileLock(path, blocking=False):
            yield False
            return
    except Timeout:
        logger.info("%s: another process is at work: waiting.", path)
    with FileLock(path):
        yield True


def _is_built(folder: Path, receipt: Path, asked: str) -> bool:
    """Check that a folder is complete and was built from these sources."""
    with suppress(FileNotFoundError, DamagedError):
        content = read_record(receipt)
        return content.get("asked") == asked and _count(folder) == content["files"]
    return False


def _replace(folder: Path, fill: Callable[[Path], Mapping[str, str]]) -> dict[str, Any]:
    """Fill a temporary folder and put it in the place of the old one; gives the receipt."""
    with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as private:
        new, old = Path(private, "new"), Path(private, "old")
        new.mkdir()
        written = fill(new)
        # The receipt must not reach the disk before the files; an fsync for each is far slower.
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
    lists = {name: sha256 for name, sha256 in written.items() if Path(name).suffix in LISTS}
    return {"files": found, "sha256": sha256_of_all(written), "lists": lists}


def check_folder(folder: str | Path, receipt: str | Path) -> str:
    """Compare a folder's lists of images with its receipt, and return the SHA-256 of all files."""
    with name_file_in_errors(receipt):
        content = read_record(receipt)
        if "sha256" not in content:
            raise ValueError("it has no sha256 of the files")
    for path, expected in content.get("lists", {}).items():
        file = Path(folder, path)
        with name_file_in_errors(file, f"Delete {receipt} and run again."):
            if file.is_file() and sha256_of(file) != expected:
                raise ValueError("it is not the file that was unpacked")
    return content["sha256"]


def _count(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))

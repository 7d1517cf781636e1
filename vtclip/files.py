"""Atomic writes: a file under its own name is a whole file."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vtclip.paths import receipt_of


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, and rename it to `path` once the block has ended well.

    A block that raises leaves nothing behind; a process that is killed leaves a hidden
    `.<name>.<pid>.tmp`, which nobody reads.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
    content = {"bytes": Path(path).stat().st_size, "sha256": sha256_of(path)}
    write_json(receipt_of(path), content)

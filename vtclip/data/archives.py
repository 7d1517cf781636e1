"""Archives: their members, and files that are called so and are none."""

import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, cast

BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError
)  # fmt: skip
ENCRYPTED = "encrypted file"  # kind of a member
REPACK = "Unpack it with another program, and pack it again as a zip or a tar.gz"

# First bytes of an archive, also of one that is cut off.
ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"PK\x03\x04")
SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz")
# First bytes, in small letters, of what is no archive that is read here.
OTHERS = {
    b"rar!": f"a RAR archive. {REPACK}",
    b"7z\xbc\xaf": f"a 7z archive. {REPACK}",
    b"(\xb5/\xfd": f"compressed by zstd. {REPACK}",
    b"\x04\x22m\x18": f"compressed by lz4. {REPACK}",
    b"\x1f\x9d": f"compressed by compress. {REPACK}",
    b"<!doctype html": "a web page. Put the file itself there",
    b"<html": "a web page. Put the file itself there",
    b"version https://git-lfs": "a pointer of Git LFS. Put the file itself there: `git lfs pull`",
}


class Member(NamedTuple):
    """One entry of an archive."""

    name: str  # its path in the archive
    size: int  # bytes, as the archive declares them
    kind: str  # "file", or what else it is
    open: Callable[[], IO[bytes]]


def is_archive(path: Path) -> bool:
    """Check for a zip or tar file, also of one that is cut off."""
    with path.open("rb") as file:
        if file.read(6).startswith(ARCHIVES):
            return True
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def why_no_archive(path: Path) -> str | None:
    """Explain what a file is that was meant as an archive; None for any other file."""
    with path.open("rb") as file:
        start = file.read(100)
    found = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for sign, what in OTHERS.items():
        if found.startswith(sign):
            return f"it is {what}"
    if path.name.lower().endswith(SUFFIXES):
        return f"it is no archive: it begins with {start[:20]!r}" if start else "it is empty"
    return None


def list_members(file: IO[bytes]) -> Iterator[Member]:
    """Go through a zip, or a tar of any compression."""
    is_zip = file.read(2) == b"PK"
    file.seek(0)
    return _zip_members(file) if is_zip else _tar_members(file)


def _tar_members(file: IO[bytes]) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:*") as archive:
        open_file = cast("Callable[..., IO[bytes]]", archive.extractfile)  # None for other kinds
        for info in archive:
            others = {
                tarfile.SYMTYPE: f"symbolic link to '{info.linkname}'",
                tarfile.LNKTYPE: f"hard link to '{info.linkname}'",
                tarfile.DIRTYPE: "folder",
            }
            kind = "file" if info.isreg() else others.get(info.type, "device")
            yield Member(info.name, info.size, kind, partial(open_file, info))
        # A tar ends with two blocks of zeros. tarfile stops behind the first, and accepts a file
        # without them: if nothing follows, the file was cut off.
        assert archive.fileobj is not None
        if not archive.fileobj.read(1):
            raise tarfile.ReadError("unexpected end of data")


def _zip_members(file: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                kind = "folder"
            elif info.flag_bits & 1:
                kind = ENCRYPTED
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                kind = "file"
            else:
                kind = stat.filemode(mode)[0] + " entry, no file"
            yield Member(info.filename, info.file_size, kind, partial(archive.open, info))

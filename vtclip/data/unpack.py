"""Safe unpacking of downloaded archives: nothing outside the folder, nothing incomplete."""

import fnmatch
import hashlib
import json
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from vtclip.files import build_folder
from vtclip.paths import why_outside

CHUNK = 1 << 20  # bytes
GROWTH = 4  # times an archive's size; images hardly shrink, so more than that is a bomb
SPARE = 64 << 20  # bytes that any archive may unpack to, for small ones full of text
MEMBERS = 5_000_000  # of one archive with its nested ones; ImageNet has 1.3 million
BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError,
    OSError,
)  # fmt: skip


class UnpackError(ValueError):
    """An archive that is broken, or contains what no archive of images should."""


class Archive(NamedTuple):
    """One archive, and how it is unpacked."""

    path: Path  # a zip or tar file; any other file is copied
    into: str = ""  # folder in the dataset's folder; {stem}: a nested archive's name, no suffixes
    nested: str | None = None  # pattern of members that are archives themselves, unpacked in turn


class Member(NamedTuple):
    """One entry of an archive."""

    name: str  # its path in the archive
    size: int  # bytes, as the archive declares them
    kind: str  # "file", or what else it is
    open: Callable[[], IO[bytes]]


def unpack_archives(
    archives: Iterable[Archive],
    folder: str | Path,
    receipt: str | Path,
    *,
    wanted: Iterable[str] | None = None,
) -> int:
    """Unpack a dataset's archives into a folder, which appears only when it is complete.

    Returns the number of files.

    Args:
        archives: in the order in which they are unpacked.
        folder: replaced if it exists.
        receipt: a JSON file for the number of files; written last.
        wanted: paths of the files to unpack, as in the split, without the folders that the archive
            puts above them. None for every file, under its own path.

    Raises:
        UnpackError: a broken archive, an unsafe member, a name that comes twice, more members than
            any dataset has, or more bytes than images could have. `folder` is unchanged then.
    """
    archives = list(archives)
    names = None if wanted is None else frozenset(wanted)
    described = [(a.path.name, a.path.stat().st_size, a.into, a.nested) for a in archives]
    sources = json.dumps([described, None if names is None else sorted(names)])

    def fill(new: Path) -> dict[str, str]:
        written: dict[str, str] = {}
        for archive in archives:
            written |= _Unpacker(archive, new, names).run()
        return written

    return build_folder(folder, receipt, fill, sources=sources)


class _Unpacker:
    """Unpack one archive, and count its members and bytes."""

    def __init__(self, archive: Archive, folder: Path, wanted: frozenset[str] | None) -> None:
        self.archive, self.folder, self.wanted = archive, folder, wanted
        self.left = GROWTH * archive.path.stat().st_size + SPARE
        self.members = 0
        self.written: dict[str, str] = {}

    def run(self) -> dict[str, str]:
        """Unpack; return the paths of the files written, each with its SHA-256."""
        path = self.archive.path
        try:
            with path.open("rb") as file:
                if _is_archive(path):
                    self._unpack(file, self.archive.into)
                else:
                    self._write(path.name, file)
        except UnpackError as error:
            raise UnpackError(f"{path}: {error}") from None
        except BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk (full, say), not of the archive
            raise UnpackError(
                f"{path}: broken or cut off: {error or type(error).__name__}. "
                f"Delete it and {path.name}.json beside it, and run again to download it."
            ) from error
        return self.written

    def _unpack(self, file: IO[bytes], into: str) -> None:
        is_zip = file.read(2) == b"PK"
        file.seek(0)
        for member in _zip_members(file) if is_zip else _tar_members(file):
            self.members += 1
            if self.members > MEMBERS:
                raise UnpackError(f"it has more than {MEMBERS:,} members, which no dataset has")
            _check_path(member.name)
            if self.archive.nested and fnmatch.fnmatch(member.name, self.archive.nested):
                with member.open() as inner:
                    stem = PurePosixPath(member.name).name.split(".")[0]
                    self._unpack(inner, into.replace("{stem}", stem))
                continue
            target = self._choose(member.name, into)
            if target is None or member.kind == "folder":
                continue
            if member.kind != "file":
                raise UnpackError(f"'{member.name}' is a {member.kind}, expected a plain file")
            self._check_growth(member.name, member.size)
            with member.open() as content:
                self._write(target, content)

    def _choose(self, name: str, into: str) -> str | None:
        """Choose the path to write a member to; None for a member that is not wanted."""
        parts = PurePosixPath(into, name).parts
        if self.wanted is None:
            return "/".join(parts)
        tails = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((tail for tail in tails if tail in self.wanted), None)

    def _write(self, target: str, content: IO[bytes]) -> None:
        _check_path(target)  # again, as `into` is part of it
        path = self.folder / target
        digest = hashlib.sha256()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                while chunk := content.read(CHUNK):
                    self._check_growth(target, len(chunk))
                    self.left -= len(chunk)
                    file.write(chunk)
                    digest.update(chunk)
        except (FileExistsError, NotADirectoryError):
            raise UnpackError(f"two members have the name '{target}'") from None
        self.written[target] = digest.hexdigest()

    def _check_growth(self, name: str, size: int) -> None:
        if size > self.left:
            raise UnpackError(
                f"'{name}' would make it more than {GROWTH} times as large as the archive, "
                "which images never do"
            )


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:  # by its first bytes even an archive that is cut off
        if file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"PK\x03\x04")):
            return True
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def _tar_members(file: IO[bytes]) -> Iterator[Member]:
    """Go through a tar of any compression."""
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
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                kind = "file"
            else:
                kind = stat.filemode(mode)[0] + " entry, no file"
            yield Member(info.filename, info.file_size, kind, partial(archive.open, info))


def _check_path(path: str) -> None:
    """Refuse a path that leads out of the folder, or that is not UTF-8."""
    if (reason := why_outside(path)) is not None:
        raise UnpackError(f"{path!r} {reason}")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise UnpackError(f"{path.encode('utf-8', 'surrogateescape')!r} is not UTF-8") from None

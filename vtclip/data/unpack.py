"""Safe unpacking of downloaded archives: nothing outside the folder, nothing incomplete."""

import fnmatch
import hashlib
import json
import lzma
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from vtclip.files import build_folder, read_record
from vtclip.paths import why_outside
from vtclip.wording import list_some

CHUNK = 1 << 20  # bytes
GROWTH = 4  # times an archive's size; images hardly shrink, so more than that is a bomb
SPARE = 64 << 20  # bytes that any archive may unpack to, for small ones full of text
MEMBERS = 5_000_000  # of one archive with its nested ones; ImageNet has 1.3 million

BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError
)  # fmt: skip
ENCRYPTED = "encrypted file"  # kind of a member
KINDS = {
    tarfile.SYMTYPE: "symbolic link", tarfile.LNKTYPE: "hard link", tarfile.DIRTYPE: "folder"
}  # fmt: skip
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
    left_out: Collection[str] = (),
) -> int:
    """Unpack a dataset's archives into a folder, which appears only when it is complete.

    `wanted` are paths as in the split, without the folders that an archive puts above them; None
    for every file, under its own path. Those of `left_out` may be missing. Returns the number of
    files; after an UnpackError the folder is as before.
    """
    archives = list(archives)
    names = None if wanted is None else frozenset(wanted)
    described = [(a.path.name, a.path.stat().st_size, a.into, a.nested) for a in archives]
    sources = json.dumps([described, None if names is None else sorted(names)])

    def fill(new: Path) -> dict[str, str]:
        unpackers = [_Unpacker(archive, new, names) for archive in archives]
        written: dict[str, str] = {}
        for unpacker in unpackers:
            unpacker.run()
            written |= unpacker.written
        missing = (names or frozenset()) - written.keys() - set(left_out)
        if missing or not written:
            raise UnpackError(_explain_missing(sorted(missing), unpackers, len(names or ())))
        return written

    return build_folder(folder, receipt, fill, sources=sources)


class _Unpacker:
    """Unpack one archive, and count its members and bytes."""

    def __init__(self, archive: Archive, folder: Path, wanted: frozenset[str] | None) -> None:
        self.archive, self.folder, self.wanted = archive, folder, wanted
        self.left = GROWTH * archive.path.stat().st_size + SPARE
        self.members = self.nested = 0
        self.names: list[str] = []  # of the files in it, if only some are wanted
        self.written: dict[str, str] = {}  # path -> SHA-256

    def run(self) -> None:
        """Unpack the archive, or copy any other file."""
        path = self.archive.path
        try:
            with path.open("rb") as file:
                if _is_archive(path):
                    self._unpack(file, self.archive.into)
                    if self.archive.nested and not self.nested:
                        raise UnpackError(
                            f"no member of it is called {self.archive.nested} (its `nested:`)\n"
                            f"  found: {list_some(self.written) or 'nothing'}"
                        )
                else:
                    self._write(path.name, file)
                    self._check_copy(path)
        except UnpackError as error:
            raise UnpackError(f"{path}: {error}") from None
        except NotImplementedError as error:
            raise UnpackError(f"{path}: cannot be read here: {error}. {REPACK}.") from error
        except BROKEN as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk (full, say), not of the archive
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(":")
            raise UnpackError(
                f"{path}: broken or cut off: {reason}. Delete it and {path.name}.json beside it, "
                "and run again to download it. Expected is a whole zip or tar, not a part of one."
            ) from error

    def _unpack(self, file: IO[bytes], into: str) -> None:
        is_zip = file.read(2) == b"PK"
        file.seek(0)
        for member in _zip_members(file) if is_zip else _tar_members(file):
            self.members += 1
            if self.members > MEMBERS:
                raise UnpackError(f"it has more than {MEMBERS:,} members, which no dataset has")
            _check_path(member.name)
            if member.kind == "folder":
                continue
            if self.archive.nested and fnmatch.fnmatch(member.name, self.archive.nested):
                self.nested += 1
                with _open(member) as inner:
                    stem = PurePosixPath(member.name).name.split(".")[0]
                    self._unpack(inner, into.replace("{stem}", stem))
                continue
            target = self._choose(member.name, into)
            if target is None:
                self.names.append(member.name)
                continue
            self._check_growth(member.name, member.size)
            with _open(member) as content:
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

    def _check_copy(self, path: Path) -> None:
        """Compare a file that is no archive, such as a split file, with its receipt."""
        receipt = path.with_name(f"{path.name}.json")
        expected = read_record(receipt).get("sha256") if receipt.is_file() else None
        if expected not in (None, self.written[path.name]):
            raise UnpackError(
                f"it has changed since it was fetched. Delete it and {receipt.name} beside it, and "
                "run again"
            )

    def _check_growth(self, name: str, size: int) -> None:
        if size > self.left:
            raise UnpackError(
                f"'{name}' would make it more than {GROWTH} times as large as the archive, "
                "which images never do"
            )


def _open(member: Member) -> IO[bytes]:
    if member.kind == ENCRYPTED:
        raise UnpackError(
            f"'{member.name}' is encrypted. Unpack it with its password, and pack it again without."
        )
    if member.kind != "file":
        raise UnpackError(f"'{member.name}' is a {member.kind}, expected a plain file")
    return member.open()


def _explain_missing(missing: list[str], unpackers: list[_Unpacker], wanted: int) -> str:
    """Explain that files are in no archive, with the names that are in there."""
    lines = ["there are no files in the archives"]
    if missing:
        lines = [f"in no archive: {len(missing):,} of the {wanted:,} images of the split"]
        lines.append(f"  expected: {list_some(missing)}")
    for unpacker in unpackers:
        names = [*unpacker.names, *unpacker.written]
        lines.append(f"  found:    {unpacker.archive.path}: {list_some(names) or 'nothing'}")
        for first in missing[:1]:
            alike = [name for name in names if _simplify(name).endswith(_simplify(first))]
            lines += [
                f"  {like!a} and {first!a} differ in case, slashes or encoding: rename the "
                "files, or write the names of the archive into the split"
                for like in alike[:1]
            ]
    return "\n".join(lines)


def _simplify(path: str) -> str:
    """A path without case, kind of slash and encoding, from a slash on."""
    with suppress(UnicodeError):  # a zip may have UTF-8 and not say so: zipfile then reads cp437
        path = path.encode("cp437").decode()
    return unicodedata.normalize("NFC", "/" + path.replace("\\", "/")).casefold()


def _check_path(path: str) -> None:
    """Refuse a path that leads out of the folder, or that is not UTF-8."""
    if (reason := why_outside(path)) is not None:
        raise UnpackError(f"{path!r} {reason}")
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        raise UnpackError(f"{path.encode('utf-8', 'surrogateescape')!r} is not UTF-8") from None


def _is_archive(path: Path) -> bool:
    """Check for a zip or tar file, also of one that is cut off; refuse another kind of archive."""
    with path.open("rb") as file:
        start = file.read(100)
    if start.startswith(ARCHIVES) or zipfile.is_zipfile(path) or tarfile.is_tarfile(path):
        return True
    found = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for sign, what in OTHERS.items():
        if found.startswith(sign):
            raise UnpackError(f"it is {what}")
    if path.name.lower().endswith(SUFFIXES):
        begins = f"it is no archive: it begins with {start[:20]!r}"
        raise UnpackError(begins if start else "it is empty")
    return False


def _tar_members(file: IO[bytes]) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:*") as archive:
        open_file = cast("Callable[..., IO[bytes]]", archive.extractfile)  # None for other kinds
        for info in archive:
            kind = "file" if info.isreg() else KINDS.get(info.type, "device")
            kind += f" to '{info.linkname}'" if info.linkname else ""
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

"""Downloads from several addresses: verified, and put in place only when complete."""

import glob
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
from filelock import FileLock
from tqdm import tqdm

from vtclip.files import sha256_of, write_record, write_text
from vtclip.runtime.environment import explain, find_certificate_error, trusted_certificates

logger = logging.getLogger(__name__)

TRIES = 5  # per address
PAUSE = 1.0  # seconds before the second try of an address, doubled before each further one
LONGEST_PAUSE = 60.0  # seconds, also if a server's Retry-After requests more
TIMEOUT = httpx.Timeout(30.0)  # seconds without a single byte
DRIVE = "gdrive:"  # before a file's id on Google Drive
# Statuses that may pass, and those of a proxy or a network that requires a login.
TRANSIENT = {407, 408, 425, 429, 500, 502, 503, 504, 511}
WEB_PAGE = (
    "a web page came in place of the file. Open the address in a browser: perhaps the network "
    "requires a login, or the file has moved"
)


class Expected(NamedTuple):
    """Length in bytes and checksums of the right file, each None if not known."""

    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    git_blob: str | None = None


class PermanentError(Exception):
    """The address does not have the file: another try would give the same answer."""


class NetworkError(Exception):
    """The network or this machine failed, which says nothing about the file."""


class TransientError(Exception):
    """The connection or the server failed, for now; `pause` is its Retry-After, in seconds."""

    pause = 0.0


class FetchError(RuntimeError):
    """A file that could not be downloaded from any address."""


def fetch_archive(
    addresses: Sequence[str],
    destination: str | Path,
    receipt: str | Path,
    expected: Expected,
    *,
    pause: float = PAUSE,
) -> dict[str, Any]:
    """Make sure that the right file is in place; write its receipt, and return what is in it.

    A file that is there is verified and used. Otherwise the addresses (http(s), `gdrive:<id>` or
    local files) are tried in order. Each has a part file of its own, from which the next try or the
    next run goes on. If every address has answered that it does not have the file, a marker beside
    it says so; a network that is down, or that requires a login, leaves no marker.
    """
    destination = Path(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(destination.with_name(f".{destination.name}.lock")):
        address = "in place"
        if not destination.is_file():
            address = _try_addresses(addresses, destination, expected, pause)
        elif fault := _find_fault(destination, expected):
            raise FetchError(
                f"{destination}: the file there is not the right one: {fault}. "
                "Move it away, or put the right one in its place. It was not changed."
            )
        content = {
            "file": destination.name,
            "address": address,
            "bytes": destination.stat().st_size,
            "sha256": expected.sha256 or sha256_of(destination),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        # From other addresses, and gdown's.
        parts = f"{glob.escape(destination.name)}.{'[0-9a-f]' * 8}.part*"
        for part in destination.parent.glob(parts):
            part.unlink(missing_ok=True)
    write_record(receipt, content)
    marker_of(destination).unlink(missing_ok=True)
    return content


def marker_of(archive: str | Path) -> Path:
    """Path of the file that says why an archive could not be downloaded."""
    return Path(f"{archive}.unavailable")


def write_marker(
    archive: str | Path, addresses: Sequence[str], expected: Expected, message: str
) -> None:
    """Write why an archive could not be downloaded, and what was searched for."""
    write_text(marker_of(archive), f"{message}\n{_last_line(addresses, expected)}")


def is_unavailable(archive: str | Path, addresses: Sequence[str], expected: Expected) -> bool:
    """Check for the marker of a search for this file at these addresses.

    A local file that has come since makes it void, and so does another address or checksum.
    """
    marker = marker_of(archive)
    if not marker.is_file() or any(_local_path(address).is_file() for address in addresses):
        return False
    return marker.read_text(encoding="utf-8").endswith(_last_line(addresses, expected))


def _last_line(addresses: Sequence[str], expected: Expected) -> str:
    """A marker's last line: a checksum of what was searched for, and where."""
    search = json.dumps([list(addresses), expected])
    return f"(search {hashlib.sha256(search.encode()).hexdigest()[:16]})\n"


def part_of(archive: str | Path, address: str) -> Path:
    """Path of the part of an archive from one address: another one may have other bytes."""
    return Path(f"{archive}.{hashlib.sha256(address.encode()).hexdigest()[:8]}.part")


def _try_addresses(
    addresses: Sequence[str], destination: Path, expected: Expected, pause: float
) -> str:
    """Fetch from the first address that has the right file, and return that address."""
    reasons, is_final = [], True
    for address in addresses:
        part = part_of(destination, address)
        try:
            _fetch_verified(address, part, expected, pause)
            part.replace(destination)
            return address
        except PermanentError as reason:
            reasons.append(f"{address}: {reason}")
            part.unlink(missing_ok=True)
        except NetworkError as reason:
            reasons.append(f"{address}: {reason}")
            is_final = False
        logger.warning("%s", reasons[-1])
    found = "\n  ".join(reasons or ["No download address: this file requires an account."])
    message = (
        f"{destination.name} could not be downloaded:\n  {found}\n"
        f"Put the file at {destination} by hand, and run again."
    )
    if not is_final:
        raise FetchError(f"{message} Or only run again: it goes on where a connection broke off.")
    write_marker(destination, addresses, expected, message)
    raise FetchError(message)


def _fetch_verified(address: str, part: Path, expected: Expected, pause: float) -> None:
    """Fetch one address into `part`, going on from its end, and verify it.

    A wrong file that came in pieces is fetched once more from zero: the server's file may have
    changed since the first piece.
    """
    in_pieces = _download(address, part, expected, pause)
    fault = _find_fault(part, expected)
    if fault and in_pieces:
        logger.warning("%s: %s; it came in pieces: once more from its start", address, fault)
        part.unlink()
        _download(address, part, expected, pause)
        fault = _find_fault(part, expected)
    if fault:
        raise PermanentError(fault)


def _find_fault(path: Path, expected: Expected) -> str:
    """Compare length, then checksum; "" for the right file."""
    size = path.stat().st_size
    if expected.bytes not in (None, size):
        return f"expected {expected.bytes:,} bytes, found {size:,}"
    kinds = {
        "sha256": hashlib.sha256,
        "md5": hashlib.md5,
        "git_blob": lambda: hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False),
    }
    for kind, function in kinds.items():
        if checksum := getattr(expected, kind):
            with path.open("rb") as file:
                found = hashlib.file_digest(file, function).hexdigest()
            return "" if found == checksum else f"expected {kind} {checksum}, found {found}"
    return ""


def _download(address: str, part: Path, expected: Expected, pause: float) -> bool:
    """Fetch one address into `part`; return True if `part` is made of several pieces."""
    in_pieces = False
    if urlsplit(address).scheme in ("http", "https"):
        with trusted_certificates():
            in_pieces = _get_with_retries(address, part, expected, pause)
    elif address.startswith(DRIVE):
        with trusted_certificates():
            _fetch_from_drive(address.removeprefix(DRIVE), part)
    elif _local_path(address).is_file():
        shutil.copyfile(_local_path(address), part)
    else:
        raise PermanentError("there is no such file")
    with part.open("rb") as file:
        start = file.read(200).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        part.unlink()
        raise NetworkError(WEB_PAGE)
    if start.startswith(b"version https://git-lfs"):
        raise PermanentError("a pointer of Git LFS came in place of the file")
    return in_pieces


def _get_with_retries(address: str, part: Path, expected: Expected, pause: float) -> bool:
    for number in range(1, TRIES + 1):
        try:
            return _get(address, part, expected)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise PermanentError(str(error)) from None
        except (TransientError, httpx.RequestError) as error:
            reason = explain(error)
            if isinstance(error, httpx.TooManyRedirects) or find_certificate_error(error):
                raise NetworkError(reason) from None  # which another try cannot change
            requested = getattr(error, "pause", 0.0)
        reason += f" (try {number} of {TRIES})"
        if number < TRIES:
            wait = min(LONGEST_PAUSE, max(requested, pause * 2 ** (number - 1)))
            logger.warning("%s: %s; again in %.1f s", address, reason, wait)
            time.sleep(wait)
    raise NetworkError(reason)


def _get(address: str, part: Path, expected: Expected) -> bool:
    """GET the rest of `part` (some servers refuse HEAD); True if its earlier content is kept."""
    have = part.stat().st_size if part.is_file() else 0
    if have and expected.bytes is not None and have >= expected.bytes:
        return True  # complete, or too long: the checksum decides
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with httpx.stream(
        "GET", address, headers=headers, follow_redirects=True, timeout=TIMEOUT
    ) as response:
        resumed = response.status_code == 206
        start = response.headers.get("Content-Range", "")
        if response.status_code == 416 or (resumed and not start.startswith(f"bytes {have}-")):
            part.unlink(missing_ok=True)
            raise TransientError("the server does not go on from where the download stopped")
        length = _check_response(response, expected)
        if have and not resumed:
            logger.info("%s: the server sends the file from its start", address)
            have = 0
        total = expected.bytes or (None if length is None else have + length)
        size = _append(response, part, have, total)
    if total is not None and size < total:
        raise TransientError(f"the connection closed after {size:,} of {total:,} bytes")
    return resumed


def _check_response(response: httpx.Response, expected: Expected) -> int | None:
    """Refuse what is not the file; return the number of bytes that are announced."""
    status, headers = response.status_code, response.headers
    if status in TRANSIENT:
        error, pause = TransientError(f"status {status}"), headers.get("Retry-After", "")
        error.pause = float(pause) if pause.isdigit() else 0.0
        raise error
    if status not in (200, 206):
        raise PermanentError(f"status {status}")
    if headers.get("Content-Type", "").startswith("text/html"):
        raise NetworkError(WEB_PAGE)
    announced = headers.get("Content-Length", "")
    length = int(announced) if announced.isdigit() else None
    if status == 200 and expected.bytes and length not in (None, expected.bytes):
        raise PermanentError(f"the server announces {length:,} bytes, expected {expected.bytes:,}")
    return length


def _append(response: httpx.Response, part: Path, have: int, total: int | None) -> int:
    """Write behind the first `have` bytes; return the size, which may not be above `total`."""
    bar = tqdm(
        total=total, initial=have, unit="B", unit_scale=True, mininterval=5, desc=response.url.host
    )
    with part.open("ab" if have else "wb") as file, bar:
        # Without a chunk size: a chunk that is not full would be lost with the connection.
        for chunk in response.iter_raw():
            file.write(chunk)
            bar.update(len(chunk))
            if total is not None and bar.n > total:
                raise PermanentError(f"more than the expected {total:,} bytes came")
        file.flush()
        os.fsync(file.fileno())
        return int(bar.n)


def _fetch_from_drive(file_id: str, part: Path) -> None:
    """Fetch by gdown, which answers Google Drive's question before a large file."""
    import gdown

    # Of the same kind for a missing file, one that was requested too often, and a visitor that
    # Google takes for a robot.
    try:
        gdown.download(id=file_id, output=str(part), quiet=False)
    except Exception as error:  # gdown raises what its requests raise
        raise NetworkError(f"Google Drive: {explain(error)}") from None
    if not part.is_file():
        raise NetworkError("Google Drive gave nothing")


def _local_path(address: str) -> Path:
    """Path of a file that an address names; there is none at other addresses."""
    return Path(address.removeprefix("file://"))

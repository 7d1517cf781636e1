"""Download of a file from one address: resumed, and tried again when the network fails."""

import logging
import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
from tqdm import tqdm

from vtclip.runtime.environment import explain, find_certificate_error, trusted_certificates

logger = logging.getLogger(__name__)

TRIES = 5  # per address
LONGEST_PAUSE = 60.0  # seconds, also if a server's Retry-After requests more
TIMEOUT = httpx.Timeout(30.0)  # seconds without a single byte
DRIVE = "gdrive:"  # before a file's id on Google Drive
# Statuses that may pass, and those of a proxy or a network that requires a login.
TRANSIENT = {407, 408, 425, 429, 500, 502, 503, 504, 511}
PERMANENT = (httpx.UnsupportedProtocol, httpx.InvalidURL)
WEB_PAGE = (
    "a web page came in place of the file. Open the address in a browser: perhaps the network "
    "requires a login, or the file has moved"
)


class Expected(NamedTuple):
    """Length in bytes and checksums of the right file, each None if not known."""

    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None


class PermanentError(Exception):
    """The address does not have the file: another try would give the same answer."""


class NetworkError(Exception):
    """The network or this machine failed, which says nothing about the file."""


class TransientError(NetworkError):
    """The connection or the server failed, for now; `pause` is its Retry-After, in seconds."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


def download(address: str, part: Path, expected: Expected, *, pause: float) -> bool:
    """Fetch one address into `part`; return True if `part` is made of several pieces."""
    in_pieces = False
    if urlsplit(address).scheme in ("http", "https"):
        with trusted_certificates():
            in_pieces = _download_with_retries(address, part, expected, pause)
    elif address.startswith(DRIVE):
        with trusted_certificates():
            _fetch_from_drive(address.removeprefix(DRIVE), part)
    else:
        if not local_path(address).is_file():
            raise PermanentError("there is no such file")
        shutil.copyfile(local_path(address), part)
    with part.open("rb") as file:
        start = file.read(200).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        part.unlink()
        raise NetworkError(WEB_PAGE)
    if start.startswith(b"version https://git-lfs"):
        raise PermanentError("a pointer of Git LFS came in place of the file")
    return in_pieces


def _download_with_retries(address: str, part: Path, expected: Expected, pause: float) -> bool:
    for number in range(1, TRIES + 1):
        try:
            return _download(address, part, expected)
        except PERMANENT as error:
            raise PermanentError(str(error)) from None
        except (TransientError, httpx.RequestError) as error:
            if isinstance(error, httpx.TooManyRedirects) or find_certificate_error(error):
                raise NetworkError(explain(error)) from None  # which another try cannot change
            reason = f"{explain(error)} (try {number} of {TRIES})"
            requested = error.pause if isinstance(error, TransientError) else 0.0
        if number < TRIES:
            wait = min(LONGEST_PAUSE, max(requested, pause * 2 ** (number - 1)))
            logger.warning("%s: %s; again in %.1f s", address, reason, wait)
            time.sleep(wait)
    raise TransientError(reason)


def _download(address: str, part: Path, expected: Expected) -> bool:
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
        pause = headers.get("Retry-After", "")
        raise TransientError(f"status {status}", float(pause) if pause.isdigit() else 0.0)
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
    with (
        part.open("ab" if have else "wb") as file,
        tqdm(
            total=total, initial=have, unit="B", unit_scale=True, mininterval=5,
            desc=response.url.host,
        ) as bar,
    ):  # fmt: skip
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
    """Fetch by gdown, which answers Google Drive's question before a large file.

    All errors are transient: gdown raises the same one for a missing file, one that was requested
    too often, and a visitor that Google takes for a robot.
    """
    import gdown

    try:
        gdown.download(id=file_id, output=str(part), quiet=False)
    except Exception as error:  # gdown raises what its requests raise
        raise TransientError(f"Google Drive: {explain(error)}") from None
    if not part.is_file():
        raise TransientError("Google Drive gave nothing")


def local_path(address: str) -> Path:
    """Path of a file that an address names; there is none at other addresses."""
    return Path(address.removeprefix("file://"))

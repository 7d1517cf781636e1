"""Downloading archives: resumed, verified, and never taken for whole before they are."""

import hashlib
import logging
import os
import re
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

from vtclip.files import write_json, write_text

logger = logging.getLogger(__name__)

TRIES = 5  # at each address
PAUSE = 1.0  # seconds before the second try, doubled before each further one
LONGEST_PAUSE = 60.0  # seconds, also where a server's Retry-After asks for more
TIMEOUT = httpx.Timeout(30.0)  # seconds without a single byte
DRIVE = "gdrive:"  # an address of this form is a file's id on Google Drive
# Statuses that may pass, or that a proxy or a network gives which wants a login itself.
BUSY = {407, 408, 425, 429, 500, 502, 503, 504, 511}
# Requests that can never be answered, among httpx's many that may be another time.
HOPELESS = (httpx.UnsupportedProtocol, httpx.TooManyRedirects, httpx.InvalidURL)


class VerdictError(Exception):
    """Why an address does not have the file: asked again, it would answer the same."""


class TransientError(Exception):
    """Why an address could not be asked to the end, which tells nothing about the file.

    `pause` is the wait that the server asked for, in seconds.
    """

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class Expected(NamedTuple):
    """What a file must be: its length in bytes and checksums, each None where it is not known."""

    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None


def download_file(address: str, part: Path, expected: Expected, *, pause: float = PAUSE) -> None:
    """Fetch one address into `part`, going on from what is there already, and verify it.

    What came in pieces and is wrong is fetched once more from zero: the server may have another
    file now than it had for the first piece.

    Args:
        address: an http(s) address, `gdrive:<id>`, or the path of a local file.
        part: the file to write, which belongs to this address alone.
        expected: what the file must be.
        pause: seconds before the second try.

    Raises:
        VerdictError: the address has no such file, or another one.
        TransientError: no connection, one that broke off, or a server that is busy, to the last
            try. `part` keeps what has come.
    """
    in_pieces = _fetch(address, part, expected, pause)
    try:
        return verify_file(part, expected)
    except VerdictError as reason:
        if not in_pieces:
            raise
        logger.warning("%s: %s; it came in pieces: once more from its start", address, reason)
    part.unlink()
    _fetch(address, part, expected, pause)
    return verify_file(part, expected)


def verify_file(path: Path, expected: Expected) -> None:
    """Check length, then checksum.

    Raises:
        VerdictError: with what was expected and what was found.
    """
    size = path.stat().st_size
    if expected.bytes is not None and size != expected.bytes:
        raise VerdictError(f"expected {expected.bytes:,} bytes, found {size:,}")
    for kind in ("sha256", "md5"):
        wanted = getattr(expected, kind)
        if wanted is not None:
            found = checksum_of(path, kind)
            if found != wanted:
                raise VerdictError(f"expected {kind} {wanted}, found {found}")
            return


def checksum_of(path: Path, kind: str) -> str:
    """The checksum of a file in hexadecimal digits; `kind` is "sha256" or "md5"."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _fetch(address: str, part: Path, expected: Expected, pause: float) -> bool:
    """Fetch one address into `part`; give whether it was put together from pieces."""
    if address.startswith(DRIVE):
        _fetch_from_drive(address.removeprefix(DRIVE), part)
        return False
    if urlsplit(address).scheme not in ("http", "https"):
        _copy(Path(address.removeprefix("file://")), part)
        return False
    return _download_patiently(address, part, expected, pause)


def _download_patiently(address: str, part: Path, expected: Expected, pause: float) -> bool:
    """Download with as many tries as it takes."""
    for number in range(1, TRIES + 1):
        try:
            return _download(address, part, expected)
        except HOPELESS as error:
            raise VerdictError(str(error)) from None
        except (TransientError, httpx.RequestError) as error:
            reason = f"{error or type(error).__name__} (try {number} of {TRIES})"
            if number == TRIES:
                raise TransientError(reason) from None
            asked = error.pause if isinstance(error, TransientError) else None
            wait = min(LONGEST_PAUSE, max(asked or 0.0, pause * 2 ** (number - 1)))
            logger.warning("%s: %s; again in %.1f s", address, reason, wait)
            time.sleep(wait)
    raise AssertionError("unreachable")


def _download(address: str, part: Path, expected: Expected) -> bool:
    """One GET, from where `part` ends; HEAD is refused by some servers, so it is never asked.

    Returns:
        Whether something was in `part` before that is still in it.
    """
    have = part.stat().st_size if part.is_file() else 0
    if have and expected.bytes is not None and have >= expected.bytes:
        return True  # whole, or too long: the checksum will tell
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with httpx.stream(
        "GET", address, headers=headers, follow_redirects=True, timeout=TIMEOUT
    ) as response:
        if response.status_code == 416:  # nothing beyond what we have
            part.unlink(missing_ok=True)
            raise TransientError("the server does not go on from where the download stopped")
        _check_response(response, expected)
        resumed = response.status_code == 206
        if resumed and not _starts_at(response, have):
            part.unlink(missing_ok=True)
            raise TransientError("the server goes on from another place than was asked")
        if have and not resumed:
            logger.info("%s: the server sends the file from its start", address)
        length = _length_of(response, have if resumed else 0)
        with part.open("ab" if resumed else "wb") as file:
            _write(response, file, have if resumed else 0, expected.bytes or length)
    size = part.stat().st_size
    whole = expected.bytes if expected.bytes is not None else length
    if whole is not None and size < whole:
        raise TransientError(f"the connection closed after {size:,} of {whole:,} bytes")
    return resumed


def _check_response(response: httpx.Response, expected: Expected) -> None:
    status = response.status_code
    if status in BUSY:
        raise TransientError(f"status {status}", _seconds(response.headers.get("Retry-After")))
    if status not in (200, 206):
        raise VerdictError(f"status {status}")
    kind = response.headers.get("Content-Type", "")
    if kind.startswith("text/html"):
        raise VerdictError("a web page came in place of the file")
    announced = _length_of(response, 0) if status == 200 else None
    if None not in (announced, expected.bytes) and announced != expected.bytes:
        raise VerdictError(f"the server announces {announced:,} bytes, expected {expected.bytes:,}")


def _write(response: httpx.Response, file: Any, have: int, whole: int | None) -> None:
    """Append what comes, with progress; stop where more comes than should."""
    with tqdm(
        total=whole, initial=have, unit="B", unit_scale=True, mininterval=5, desc=response.url.host
    ) as bar:
        try:
            # Without a chunk size: what was buffered to fill one would be lost with the connection.
            for chunk in response.iter_raw():
                file.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
                if whole is not None and have > whole:
                    raise VerdictError(f"more than the expected {whole:,} bytes came")
        except httpx.RemoteProtocolError:
            raise TransientError(f"the connection closed after {have:,} bytes") from None
        finally:
            file.flush()
            os.fsync(file.fileno())


def _starts_at(response: httpx.Response, have: int) -> bool:
    """Whether a partial answer begins where our part ends."""
    return response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _length_of(response: httpx.Response, have: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return have + int(length) if length.isdigit() else None


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isdigit() else None


def _copy(source: Path, part: Path) -> None:
    if not source.is_file():
        raise VerdictError("there is no such file")
    shutil.copyfile(source, part)


def _fetch_from_drive(file_id: str, part: Path) -> None:
    """Google Drive asks before it gives large files; gdown knows how to answer.

    Nothing that goes wrong is a verdict: a file that is gone, one that was asked for too often and
    a visitor that Google takes for a robot come out of gdown as the same error.
    """
    import gdown

    try:
        gdown.download(id=file_id, output=str(part), quiet=False)
    except Exception as error:  # gdown raises what its requests raise
        raise TransientError(f"Google Drive: {error}") from None
    if not part.is_file():
        raise TransientError("Google Drive gave nothing")


logger = logging.getLogger(__name__)


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
    """Make sure that a file is there and is the right one, and write a receipt.

    A file that is already at `destination` is verified and used. Otherwise the addresses are
    tried in order. What has come so far from an address stays in a part of its own, and the next
    try, or the next run, goes on from there. Where every address has said that it does not have
    the file, a marker beside it says so; a network that is down is no such verdict.

    Args:
        addresses: http(s) addresses, `gdrive:<id>`, or paths of local files, best first.
        destination: where the file goes.
        receipt: a JSON file that tells address, bytes, sha256 and time.
        expected: what the file must be.
        pause: seconds before the second try of an address.

    Returns:
        The receipt.

    Raises:
        FetchError: with the reason of each address, and where to put the file by hand.
    """
    destination = Path(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(destination.with_name(f".{destination.name}.lock")):
        address = _use_existing(destination, expected) or _try_addresses(
            addresses, destination, expected, pause
        )
        content = {
            "file": destination.name,
            "address": address,
            "bytes": destination.stat().st_size,
            "sha256": expected.sha256 or checksum_of(destination, "sha256"),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        _remove_parts(destination)
    write_json(receipt, content)
    marker_of(destination).unlink(missing_ok=True)
    return content


def marker_of(archive: str | Path) -> Path:
    """The file that says that an archive could not be downloaded, and why."""
    archive = Path(archive)
    return archive.with_name(f"{archive.name}.unavailable")


def part_of(archive: str | Path, address: str) -> Path:
    """What has come of an archive from one address: another one may have other bytes."""
    archive = Path(archive)
    owner = hashlib.sha256(address.encode()).hexdigest()[:8]
    return archive.with_name(f"{archive.name}.{owner}.part")


def mirror_addresses(mirror: str | None, dataset: str, file: str, urls: Sequence[str]) -> list[str]:
    """The addresses to try: those of the dataset's file, or the mirror's one instead.

    Args:
        mirror: a folder or an http(s) address that holds `<dataset>/<file>`; None for no mirror.
        dataset: the dataset's name.
        file: the archive's name.
        urls: the addresses of the dataset's file.
    """
    return list(urls) if mirror is None else [f"{mirror.rstrip('/')}/{dataset}/{file}"]


def _use_existing(destination: Path, expected: Expected) -> str | None:
    """Verify a file that is in place already; say "in place", or nothing where there is none."""
    if not destination.is_file():
        return None
    try:
        verify_file(destination, expected)
    except VerdictError as reason:
        raise FetchError(
            f"{destination}: the file that lies there is not the right one: {reason}. "
            "Move it away, or put the right one in its place. It was left as it is."
        ) from None
    logger.info("%s is in place.", destination)
    return "in place"


def _try_addresses(
    addresses: Sequence[str], destination: Path, expected: Expected, pause: float
) -> str:
    """Fetch from the first address that has the right file, and give that address."""
    reasons, verdicts = [], 0
    for address in addresses:
        part = part_of(destination, address)
        try:
            download_file(address, part, expected, pause=pause)
        except (VerdictError, TransientError) as reason:
            logger.warning("%s: %s", address, reason)
            reasons.append(f"  {address}: {reason}")
            if isinstance(reason, VerdictError):
                verdicts += 1
                part.unlink(missing_ok=True)
        else:
            part.replace(destination)
            return address
    told = "\n".join(reasons) or "  no address is known: it takes an account"
    message = (
        f"{destination.name} could not be downloaded:\n{told}\n"
        f"Put the file at {destination} by hand, and run again."
    )
    if verdicts == len(addresses):
        write_text(marker_of(destination), message + "\n")
    else:
        message += " Or only run again: it goes on where a connection broke off."
    raise FetchError(message)


def _remove_parts(destination: Path) -> None:
    """Remove what other addresses, and gdown for them, have left of a file that is whole now."""
    parts = re.compile(re.escape(destination.name) + r"\.[0-9a-f]{8}\.part.*")
    for path in destination.parent.iterdir():
        if parts.fullmatch(path.name):
            path.unlink(missing_ok=True)

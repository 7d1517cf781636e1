"""Archives from several addresses: verified, and put in place only when complete."""

import glob
import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from vtclip.data.download import Expected, NetworkError, PermanentError, download, local_path
from vtclip.files import sha256_of, write_record, write_text

logger = logging.getLogger(__name__)

PAUSE = 1.0  # seconds before the second try of an address, doubled before each further one


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
    """Make sure that the right file is in place, and write a receipt.

    A file that is already at `destination` is verified and used. Otherwise the addresses are
    tried in order. Each address has a part file of its own, from which the next try or the next
    run goes on. If every address has answered that it does not have the file, a marker beside it
    says so; a network that is down, or that requires a login, leaves no marker.

    Args:
        addresses: http(s) addresses, `gdrive:<id>`, or paths of local files, best first.
        destination: path of the file.
        receipt: a JSON file for address, bytes, sha256 and time, which are also returned.
        expected: what the file must be.
        pause: seconds before the second try of an address.

    Raises:
        FetchError: with the reason of each address, and where to put the file by hand.
        ConfigError: a variable for certificates names no such file.
    """
    destination = Path(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(destination.with_name(f".{destination.name}.lock")):
        if destination.is_file():
            try:
                _verify(destination, expected)
            except PermanentError as reason:
                raise FetchError(
                    f"{destination}: the file there is not the right one: {reason}. "
                    "Move it away, or put the right one in its place. It was not changed."
                ) from None
            logger.info("%s is in place.", destination)
            address = "in place"
        else:
            address = _try_addresses(addresses, destination, expected, pause)
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
    write_text(marker_of(archive), f"{message}\n{_sign(addresses, expected)}")


def is_unavailable(archive: str | Path, addresses: Sequence[str], expected: Expected) -> bool:
    """Check for the marker of a search for this file at these addresses.

    A local file that has come since makes it void, and so does another address or checksum.
    """
    marker = marker_of(archive)
    if not marker.is_file() or any(local_path(address).is_file() for address in addresses):
        return False
    return marker.read_text(encoding="utf-8").endswith(_sign(addresses, expected))


def _sign(addresses: Sequence[str], expected: Expected) -> str:
    """The last line of a marker: a checksum of what was searched for, and where."""
    searched = json.dumps([list(addresses), expected])
    return f"(search {hashlib.sha256(searched.encode()).hexdigest()[:16]})\n"


def part_of(archive: str | Path, address: str) -> Path:
    """Path of the part of an archive from one address: another one may have other bytes."""
    return Path(f"{archive}.{hashlib.sha256(address.encode()).hexdigest()[:8]}.part")


def mirror_addresses(mirror: str | None, dataset: str, file: str, urls: Sequence[str]) -> list[str]:
    """List the addresses to try: the mirror's `<mirror>/<dataset>/<file>`, else `urls`."""
    return list(urls) if mirror is None else [f"{mirror.rstrip('/')}/{dataset}/{file}"]


def _try_addresses(
    addresses: Sequence[str], destination: Path, expected: Expected, pause: float
) -> str:
    """Fetch from the first address that has the right file, and return that address."""
    failures: dict[str, PermanentError | NetworkError] = {}
    for address in addresses:
        part = part_of(destination, address)
        try:
            _fetch_verified(address, part, expected, pause)
        except (PermanentError, NetworkError) as reason:
            logger.warning("%s: %s", address, reason)
            failures[address] = reason
            if isinstance(reason, PermanentError):
                part.unlink(missing_ok=True)
        else:
            part.replace(destination)
            return address
    found = "\n".join(f"  {address}: {reason}" for address, reason in failures.items())
    message = (
        f"{destination.name} could not be downloaded:\n"
        f"{found or '  No download address: this file requires an account.'}\n"
        f"Put the file at {destination} by hand, and run again."
    )
    if all(isinstance(reason, PermanentError) for reason in failures.values()):
        write_marker(destination, addresses, expected, message)
    else:
        message += " Or only run again: it goes on where a connection broke off."
    raise FetchError(message)


def _fetch_verified(address: str, part: Path, expected: Expected, pause: float) -> None:
    """Fetch one address into `part`, going on from its end, and verify it.

    A wrong file that came in pieces is fetched once more from zero: the server's file may have
    changed since the first piece.
    """
    in_pieces = download(address, part, expected, pause=pause)
    try:
        _verify(part, expected)
    except PermanentError as reason:
        if not in_pieces:
            raise
        logger.warning("%s: %s; it came in pieces: once more from its start", address, reason)
        part.unlink()
        download(address, part, expected, pause=pause)
        _verify(part, expected)


def _verify(path: Path, expected: Expected) -> None:
    """Check length, then checksum."""
    size = path.stat().st_size
    if expected.bytes is not None and size != expected.bytes:
        raise PermanentError(f"expected {expected.bytes:,} bytes, found {size:,}")
    kind, checksum = ("sha256", expected.sha256) if expected.sha256 else ("md5", expected.md5)
    with path.open("rb") as file:
        if checksum and (found := hashlib.file_digest(file, kind).hexdigest()) != checksum:
            raise PermanentError(f"expected {kind} {checksum}, found {found}")

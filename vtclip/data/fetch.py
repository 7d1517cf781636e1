"""Downloading archives: resumed, verified, and never taken for whole before they are."""

import hashlib
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from vtclip.data.download import (
    PAUSE,
    Expected,
    TransientError,
    VerdictError,
    checksum_of,
    download_file,
    verify_file,
)
from vtclip.files import write_json, write_text

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

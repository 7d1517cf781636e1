"""What stands on disk: where a dataset's files are, and which of them are missing."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from vtclip.config.dataset import ArchiveFile, Dataset, read_dataset
from vtclip.data.fetch import marker_of, mirror_addresses
from vtclip.data.folders import walk
from vtclip.paths import ARCHIVE, ARCHIVE_RECEIPT, IMAGES, IMAGES_RECEIPT


def archive_path(name: str, file: str) -> Path:
    """Where an archive of the dataset `name` lies."""
    return Path(ARCHIVE.format(dataset=name, file=file))


def archive_receipt(name: str, file: str) -> Path:
    """The receipt that says that an archive is whole."""
    return Path(ARCHIVE_RECEIPT.format(dataset=name, file=file))


def images_folder(name: str, dataset: Dataset) -> Path:
    """The folder that the manifest's image paths start from."""
    return Path(IMAGES.format(dataset=name) if dataset.folder is None else dataset.folder)


def images_receipt(name: str, dataset: Dataset) -> Path | None:
    """The receipt that says that the images are all unpacked; None for a folder of one's own."""
    return Path(IMAGES_RECEIPT.format(dataset=name)) if dataset.folder is None else None


def list_addresses(name: str, file: str, *, mirror: str | None) -> list[str]:
    """Where to fetch an archive from, best first, as the dataset's file says it now.

    Args:
        name: the dataset's name.
        file: the archive's name.
        mirror: the experiment's mirror, or None.
    """
    archives = read_dataset(name).archives
    urls = next(archive.urls for archive in archives if archive.file == file)
    return mirror_addresses(mirror, name, file, urls)


def list_contents(dataset: Dataset) -> str | None:
    """A hash of the names, sizes and times in a folder of one's own; None for other layouts.

    Hidden files and those of the system do not count.
    """
    if dataset.folder is None:
        return None
    digest = hashlib.sha256()
    for entry in walk(dataset.folder):
        if entry.kind != "hidden":
            digest.update("\0".join(entry).encode() + b"\n")
    return digest.hexdigest()[:16]


def explain_missing(
    name: str, dataset: Dataset, mirror: str | None, config: str, *, key: str = "datasets"
) -> str | None:
    """Why a dataset must be left out, in three lines: what, where, how to go on.

    Args:
        name: the dataset's name.
        dataset: its file.
        mirror: the experiment's mirror, or None.
        config: the configuration's name, for the message.
        key: the key there that names the dataset.

    Returns:
        None for a dataset whose archives are there or can be fetched.
    """
    receipt = images_receipt(name, dataset)
    if receipt is None or receipt.is_file():
        return None
    files = [archive for archive in dataset.archives if not _is_there(name, archive)]
    folder = archive_path(name, "").as_posix()
    failed = [a.file for a in files if marker_of(archive_path(name, a.file)).is_file()]
    if failed:
        what = f"{_join(failed)} could not be downloaded on an earlier run"
        where = (
            f"put it into {folder}/ by hand, or delete "
            f"{marker_of(archive_path(name, failed[0]))} to try again"
        )
    else:
        closed = [a.file for a in files if not a.urls and mirror is None]
        if not closed:
            return None
        what = f"{_join(closed)} require{'s' if len(closed) == 1 else ''} an account"
        where = f"get it from {dataset.source} and put it into {folder}/"
    return (
        f"{name} is left out: {what}.\n  To have it: {where}.\n"
        f"  To leave it out for good: take '{name}' from `{key}:` in {config}."
    )


def _is_there(name: str, archive: ArchiveFile) -> bool:
    places = archive_path(name, archive.file), archive_receipt(name, archive.file)
    return any(place.is_file() for place in places)


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

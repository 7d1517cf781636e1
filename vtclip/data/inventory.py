"""What stands on disk: where a dataset's files are, and which of them cannot be had."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from vtclip.data.fetch import marker_of
from vtclip.experiment import ArchiveFile, Dataset

ARCHIVES = Path("resources/archives")
IMAGES = Path("resources/images")


def archive_path(name: str, file: str) -> Path:
    """Where an archive of the dataset `name` lies."""
    return ARCHIVES / name / file


def archive_receipt(name: str, file: str) -> Path:
    """The receipt that says that an archive is whole."""
    return ARCHIVES / name / f"{file}.json"


def images_folder(name: str, dataset: Dataset) -> Path:
    """The folder that the manifest's image paths start from."""
    return IMAGES / name if dataset.folder is None else Path(dataset.folder)


def images_receipt(name: str, dataset: Dataset) -> Path | None:
    """The receipt that says that the images are all unpacked; None for a folder of one's own."""
    return IMAGES / f"{name}.json" if dataset.folder is None else None


def list_contents(dataset: Dataset) -> str | None:
    """A hash of the names, sizes and times in a folder of one's own; None for other layouts."""
    if dataset.folder is None:
        return None
    digest = hashlib.sha256()
    for path in sorted(Path(dataset.folder).rglob("*")):
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def explain_missing(name: str, dataset: Dataset, mirror: str | None, config: str) -> str | None:
    """Why a dataset must be left out, in three lines: what, where, how to go on.

    Args:
        name: the dataset's name.
        dataset: its file.
        mirror: the experiment's mirror, or None.
        config: the configuration's name, for the message.

    Returns:
        None for a dataset whose archives are there or can be fetched.
    """
    receipt = images_receipt(name, dataset)
    if receipt is None or receipt.is_file():
        return None
    files = [archive for archive in dataset.archives if not _is_there(name, archive)]
    failed = [a.file for a in files if marker_of(archive_path(name, a.file)).is_file()]
    if failed:
        what = f"{_join(failed)} could not be had on an earlier run"
        where = (
            f"put it into {ARCHIVES / name}/ by hand, or delete "
            f"{marker_of(archive_path(name, failed[0]))} to try again"
        )
    else:
        closed = [a.file for a in files if not a.urls and mirror is None]
        if not closed:
            return None
        what = f"{_join(closed)} can only be had with an account"
        where = f"get it from {dataset.source} and put it into {ARCHIVES / name}/"
    return (
        f"{name} is left out: {what}.\n  To have it: {where}.\n"
        f"  To leave it out for good: take '{name}' from `datasets:` in {config}."
    )


def _is_there(name: str, archive: ArchiveFile) -> bool:
    places = archive_path(name, archive.file), archive_receipt(name, archive.file)
    return any(place.is_file() for place in places)


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

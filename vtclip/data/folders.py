"""The images of a user's image folder; unused files are listed."""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from vtclip.data.trees import (
    SPLITS,
    UNSPLIT,
    ManifestError,
    check_folder,
    has_pictures,
    refuse_inner_splits,
    refuse_nested,
)
from vtclip.data.walk import OF_SYSTEM, walk
from vtclip.runtime.job import warn_on_terminal
from vtclip.wording import list_some

logger = logging.getLogger(__name__)

Row = tuple[str, int, str, str]  # image, label, class name, split


def list_images(
    root: str | Path,
    class_names: Mapping[str, str],  # class folder -> the class's name, if they differ
    *,
    levels: int | None = None,
    split_folders: Mapping[str, str] = {},
) -> list[Row]:
    """List the images of a user's image folder; their split is "" without split folders.

    Train, then val, then test; classes in order; images of a class sorted by path. Skipped files
    are counted on the terminal, and listed in the log. `levels` and `split_folders` are those of
    `read_tree`.
    """
    tree = check_folder(root, class_names, levels=levels, split_folders=split_folders)
    images, folders = _collect(Path(root), tree.places)
    inner: dict[str, list[str]] = {folder: [] for folder in tree.places}
    for parent, _, name in (folder.rpartition("/") for folder in folders):
        inner.get(parent, []).append(name)
    refuse_inner_splits(root, inner)
    if levels is None:
        refuse_nested(root, tree, {folder: inner[folder] for folder in _find_nested(images)})
    rows = [
        (image, label, class_names.get(tree.classes[label], tree.classes[label]), split)
        for folder, (label, split) in tree.places.items()
        for image in images[folder]
    ]
    found = {label for _, label, *_ in rows}
    empty = [name for label, name in enumerate(tree.classes) if label not in found]
    if empty:
        raise ManifestError(
            f"{root}: class folders without an image: {list_some(empty)}.\n"
            "  Put images there, or move the class away."
        )
    order = (*SPLITS, UNSPLIT)
    return sorted(rows, key=lambda row: (order.index(row[3]), row[1], row[0].split("/")))


def _collect(root: Path, places: Collection[str]) -> tuple[dict[str, list[str]], list[str]]:
    """List the images of each class folder, and all folders; report the rest."""
    from vtclip.data.images import is_picture  # imports Pillow, which planning does not need

    depth = next(iter(places)).count("/") + 1
    images: dict[str, list[str]] = {path: [] for path in places}
    folders, unused = [], []
    for entry in walk(root):
        place = "/".join(entry.path.split("/")[:depth])
        if entry.kind == "hidden":
            logger.info("Not used: %s (%s)", entry.path, entry.note)
            if entry.note != OF_SYSTEM and has_pictures(root / entry.path):
                unused.append(f"{entry.path} (a folder of images, {entry.note}: rename it)")
        elif entry.kind == "passed over":
            unused.append(f"{entry.path} ({entry.note})")
        elif entry.kind == "folder":
            folders.append(entry.path)
        elif place not in places:
            unused.append(f"{entry.path} (in no class folder)")
        elif not is_picture(root / entry.path):
            unused.append(f"{entry.path} (Pillow cannot read it as an image)")
        else:
            images[place].append(entry.path)
    if unused:
        warn_on_terminal(f"{root}: {len(unused)} skipped: {list_some(unused)}.")
        logger.info("Skipped:\n  %s", "\n  ".join(unused))
    return images, folders


def _find_nested(images: Mapping[str, Sequence[str]]) -> list[str]:
    """List the class folders whose images are in folders that may be classes themselves.

    None is directly inside, or more are in folders whose names several classes share.
    """
    counts = {folder: _count_inside(folder, paths) for folder, paths in images.items() if paths}
    inner = {(PurePosixPath(f).name, name) for f, each in counts.items() for name in each}
    owners = Counter(name for _, name in inner)
    shared = [name for name, number in owners.items() if name and number > 1]
    if len(shared) == 1:
        shared = []  # one name alone is no second way to read the tree
    return [
        folder
        for folder, each in counts.items()
        if each[""] < sum(each[name] for name in shared) or not each[""]
    ]


def _count_inside(folder: str, images: Iterable[str]) -> Counter[str]:
    """Count the images of a class folder by the folder in it that contains them; "" directly."""
    paths = (PurePosixPath(image).relative_to(folder) for image in images)
    return Counter(path.parts[0] if len(path.parts) > 1 else "" for path in paths)

"""The images of a user's class folders.

Nothing is guessed: a folder that could be read in two ways is refused. `check_folder` opens no
file, so that planning can call it.
"""

import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vtclip.data.walk import (
    NAMES,
    OF_SYSTEM,
    SPLITS,
    UNSPLIT,
    ManifestError,
    Tree,
    has_pictures,
    list_below,
    list_folder,
    read_tree,
    refuse_unknown,
    walk,
)
from vtclip.runtime.job import warn_on_terminal
from vtclip.wording import did_you_mean, inline, is_blank, list_some

logger = logging.getLogger(__name__)

SHOWN = 5  # folders in a message
MOST_SPLITS = 10  # folders that a message suggests as splits

Row = tuple[str, int, str, str]  # image, label, class name, split


def check_folder(root: str | Path, class_names: Mapping[str, str], **reading: Any) -> Tree:
    """Raise the ManifestErrors that need only names; the arguments are those of `list_images`."""
    tree = read_tree(root, **reading)
    _check_names(root, tree, class_names)
    inner = {
        folder: [PurePosixPath(path).name for path in _list_nested(root, folder)]
        for folder in tree.places
    }
    _refuse_inner_splits(root, inner)
    if reading.get("levels") is None:
        _refuse_nested(root, tree, inner)
    for split in ("train", "test") if tree.splits else ():
        there = {label for label, found in tree.places.values() if found == split}
        lost = [name for label, name in enumerate(tree.classes) if label not in there]
        if lost:
            raise ManifestError(
                f"{root}: classes without a folder to {split} with: {list_some(lost)}.\n"
                "  expected: each class in train and in test, under exactly the same name."
                + did_you_mean(lost[0], set(tree.classes) - {lost[0]})
            )
    return tree


def list_images(
    root: str | Path,
    class_names: Mapping[str, str],  # class folder -> the class's name, if they differ
    **reading: Any,  # the options of `read_tree`
) -> list[Row]:
    """List the images of a user's image folder; their split is "" without split folders.

    Train, then val, then test; classes in order; images of a class sorted by path. Skipped files
    are counted on the terminal, and listed in the log.
    """
    tree = check_folder(root, class_names, **reading)
    images, folders = _collect(Path(root), tree.places)
    inner: dict[str, list[str]] = {folder: [] for folder in tree.places}
    for parent, _, name in (folder.rpartition("/") for folder in folders):
        inner.get(parent, []).append(name)
    _refuse_inner_splits(root, inner)
    if reading.get("levels") is None:
        _refuse_nested(root, tree, {folder: inner[folder] for folder in _find_nested(images)})
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
    # Class folder -> folder in it, "" for itself -> images.
    counts = {
        folder: Counter(image[len(folder) + 1 :].rpartition("/")[0].split("/")[0] for image in each)
        for folder, each in images.items()
        if each
    }
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


def _check_names(root: str | Path, tree: Tree, class_names: Mapping[str, str]) -> None:
    """Refuse a class name for a folder that is not there, and a blank one."""
    refuse_unknown(root, "class_names: there is no class folder", class_names, tree.classes)
    for name in tree.classes:
        if is_blank(class_names.get(name, name)):
            raise ManifestError(
                f"{root}: the name of the class folder {name!a} is blank in a prompt.\n"
                f"  Name the class: class_names: {inline({name: 'a word'})}"
            )


def _refuse_inner_splits(root: str | Path, inner: Mapping[str, Sequence[str]]) -> None:
    """Refuse class folders that contain split folders: train and test images would be one class."""
    wrong = [
        folder
        for folder, names in inner.items()
        if len({NAMES[name.lower()] for name in names if name.lower() in NAMES}) > 1
    ]
    if wrong:
        raise ManifestError(
            f"{root}: class folders that contain train, val or test folders: {list_some(wrong)}.\n"
            "  expected: train and test folders that contain the class folders\n"
            f"  If {wrong[0]} is the dataset itself, name that folder: {Path(root, wrong[0])}"
        )


def _refuse_nested(root: str | Path, tree: Tree, inner: Mapping[str, Sequence[str]]) -> None:
    """Refuse class folders whose images are in folders that may be classes, and show them."""
    nested = {folder: names for folder, names in inner.items() if names}
    if not nested:
        return
    found = [f"{folder}/  {list_some(f'{n}/' for n in names)}" for folder, names in nested.items()]
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    folder, names = next(iter(nested.items()))
    readings = _list_readings(root, tree, f"{folder}/{names[0]}")
    if len(nested) == 1 and len(names) > 1:
        readings += ["# the dataset is one of these folders alone", f"folder: {Path(root, folder)}"]
    raise ManifestError(
        f"{root}: the class folders contain folders, which may be the classes: {list_some(nested)}."
        + "\n    ".join(["\n  found:", *found[:SHOWN], *more])
        + "\n  expected: images directly inside each class folder\n  If these are the folders that "
        "you meant, write how to read them, in the dataset's file or as options of `vtclip new`:"
        + "\n    ".join(["", *readings])
    )


def _list_readings(root: str | Path, tree: Tree, nested: str) -> list[str]:
    """List the keys for each way to read a tree, in YAML; `nested` is inside a class folder."""
    depth = 1
    while folders := _list_nested(root, nested):
        nested, depth = folders[0], depth + 1
    below = [
        {PurePosixPath(path).name for path in list_below(root, folder, depth)}
        for folder in tree.places
    ]
    deeper = sorted(set().union(*below))
    lines = [f"# the classes are {list_some(tree.classes)}", "levels: 1"]
    if len(deeper) < 2 or not all(below):
        return lines
    lines += [f"# the classes are {list_some(deeper)}", f"levels: {1 + depth}"]
    are_equal = all(names == set(deeper) for names in below)
    if are_equal and not tree.splits and len(below) <= MOST_SPLITS:
        *others, last = tree.classes
        keys = dict.fromkeys(others, "train") | {last: "test"}
        lines += [f"# the same, and these are splits: say which, {' or '.join(SPLITS)}"]
        lines += [f"split_folders: {inline(keys)}"] + ([f"levels: {depth}"] if depth > 1 else [])
    return lines


def _list_nested(root: str | Path, folder: str) -> list[str]:
    """List the folders in a folder that contains no files; none in one with files."""
    if any(entry.kind == "file" for entry in list_folder(root, folder)):  # the first ends it
        return []
    return list_below(root, folder)

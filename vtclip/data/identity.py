"""What a class is, apart from its name: two classes may share one, and one class have two.

A synset of ImageNet's, or a class folder. Other datasets know a class by its label alone.
"""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl

from vtclip.data.folders import find_classes, find_splits
from vtclip.data.rows import ManifestError
from vtclip.parquet import opening, read_parquet

IDENTITIES = b"identities"  # in a manifest's metadata: what each class is, by label, as JSON


def list_synsets() -> list[str]:
    """ImageNet's 1,000 synsets in the order of their labels, which is that of their numbers."""
    from timm.data import ImageNetInfo

    return list(ImageNetInfo("imagenet-1k").label_names())


def list_identities(
    dataset: Mapping[str, Any], root: Path, manifest: pl.DataFrame
) -> list[str] | None:
    """What the classes of a dataset are, by label; None where a label is all there is.

    Args:
        dataset: the dataset's file, as plain values.
        root: the folder of its images.
        manifest: its images.
    """
    match dataset["layout"]:
        case "imagenet":
            train = manifest.filter(split="train").unique("label").sort("label")
            return train["image"].str.split("/").list.get(1).to_list()
        case "imagenet_test":
            return [synset for synset, _ in list_class_folders(root / dataset["images"])]
        case "folders":
            return find_classes(root, find_splits(root), ())
    return None


def list_class_folders(root: Path) -> list[tuple[str, str]]:
    """(synset, folder) of the class folders of a test set of ImageNet's classes, by label.

    A folder is called as the synset, or as ImageNet's label in decimal digits, as in ImageNetV2:
    in the order of their names "10" would come before "2".

    Raises:
        ManifestError: a folder that is called otherwise, or none at all.
    """
    synsets = list_synsets()
    by_name = {synset: synset for synset in synsets}
    by_name |= {str(label): synset for label, synset in enumerate(synsets)}
    folders = [path.name for path in root.glob("*/")]
    unknown = sorted(name for name in folders if name not in by_name)
    if unknown or not folders:
        raise ManifestError(
            f"{root}: expected folders called as ImageNet's synsets (n01440764) or labels (0 to "
            f"999), found {unknown[0] if unknown else 'none'}."
        )
    found = sorted((by_name[name], name) for name in folders)
    for (synset, name), (again, other) in pairwise(found):
        if synset == again:
            raise ManifestError(f"{root}: two folders of one class, {synset}: {name} and {other}.")
    return found


def match_classes(tested: str | Path, known: str | Path) -> list[int]:
    """The labels that the classes of one dataset have in another.

    Args:
        tested: the manifest of the one, each of whose classes is looked for.
        known: the manifest of the other.

    Raises:
        ManifestError: a class that the other dataset has not, or another number of classes where
            nothing but the label tells what a class is.
    """
    wanted, there = read_identities(tested), read_identities(known)
    if wanted is None and there is None:
        numbers = [read_parquet(path, "label")["label"].n_unique() for path in (tested, known)]
        if numbers[0] != numbers[1]:
            raise ManifestError(
                f"{tested}: expected the {numbers[1]} classes of {known}, found {numbers[0]}."
            )
        return list(range(numbers[1]))
    labels = {identity: label for label, identity in enumerate(there or ())}
    for identity in wanted or ("a label alone",):
        if identity not in labels:
            raise ManifestError(f"{tested}: {known} has no class '{identity}'.")
    return [labels[identity] for identity in wanted or ()]


def read_identities(manifest: str | Path) -> list[str] | None:
    """What the classes of a manifest are, by label; None where a label is all there is."""
    with opening(manifest) as file:
        found = (file.schema_arrow.metadata or {}).get(IDENTITIES)
    return None if found is None else json.loads(found)

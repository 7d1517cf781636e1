"""What a configuration names must not lie where the workflow writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from vtclip import paths
from vtclip.config.experiment import find_folder
from vtclip.data.fetch import mirror_addresses
from vtclip.paths import receipt_of
from vtclip.plan.materials import Materials, architecture_file
from vtclip.settings import ConfigError


class Input(NamedTuple):
    """A file or folder of one's own."""

    place: str
    """the file and key that name it"""
    path: str
    cure: str = "move it elsewhere, and name it there"
    is_listed: bool = False
    """whether everything below it counts, such as a folder of images"""


def check_inputs(plan: Materials, *, source: str) -> None:
    """Refuse an input that is an output too: Snakemake would delete it, to make it anew.

    Args:
        plan: what is made from what.
        source: the configuration files, separated by commas.

    Raises:
        ConfigError: with the key, the path and what it collides with.
    """
    outputs = [(output, Path(output).resolve()) for output in _list_outputs(plan)]
    for found in _list_inputs(plan, source):
        path = Path(found.path).resolve()
        for output, place in outputs:
            if path.is_relative_to(place) or (found.is_listed and place.is_relative_to(path)):
                raise ConfigError(
                    f"{found.place}: the workflow itself writes there: what is yours could be "
                    f"deleted, or what it makes be taken for yours.\n  found:    {found.path}, and "
                    f"the workflow writes {output}\n  expected: a place of its own: {found.cure}"
                )


def _list_inputs(plan: Materials, source: str) -> Iterator[Input]:
    """All that the configuration and the datasets' files name."""
    for file in source.split(", "):
        yield Input(file, file, "copy the configuration to config/, and give that")
    for backbone in plan.experiment.all_backbones:
        if backbone.weights_file is not None:
            yield Input(f"{source}: backbone.pretrained", backbone.weights_file)
        if (folder := find_folder(backbone.name)) is not None:
            yield Input(f"{source}: backbone.name", str(folder))
        if (described := architecture_file(backbone)) is not None:
            yield Input(f"{source}: backbone.architecture", described)
    for name, dataset in plan.datasets.items():
        if dataset.folder is not None:
            yield Input(f"{paths.DATASETS}/{name}.yaml: folder", dataset.folder, is_listed=True)
        mirror = plan.experiment.mirror
        key = f"{source}: mirror" if mirror else f"{paths.DATASETS}/{name}.yaml: archives"
        for archive in dataset.archives:
            for address in mirror_addresses(mirror, name, archive.file, archive.urls):
                if not address.startswith(("http://", "https://", "gdrive:")):
                    yield Input(key, address.removeprefix("file://"))


def _list_outputs(plan: Materials) -> list[str]:
    """What the workflow writes: files, and folders that are its own altogether."""
    images = [plan.images_of(name) for name in [*plan.unpacked, *plan.drawn]]
    receipts = [paths.IMAGES_RECEIPT.format(dataset=name) for name in [*plan.unpacked, *plan.drawn]]
    results = [plan.paths.folder, *(f"results/{name}" for name in paths.SHARED)]
    return [
        *plan.weights, *map(receipt_of, plan.weights), *plan.archives, *images, *receipts, *results,
    ]  # fmt: skip

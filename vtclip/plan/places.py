"""The check that no file of the user lies where the workflow writes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vtclip import paths
from vtclip.config.backbone_config import find_folder
from vtclip.config.dataset import Dataset
from vtclip.config.experiment import Experiment
from vtclip.data.fetch import mirror_addresses
from vtclip.settings import ConfigError


class Input(NamedTuple):
    """A file or folder of the user."""

    key: str  # the file and key that name it
    path: str
    fix: str = "move it to another place, and name that"
    with_contents: bool = False  # whether everything below it counts, such as a folder of images


def check_places(
    experiment: Experiment,
    datasets: Mapping[str, Dataset],
    outputs: Sequence[str],
    files: Sequence[str],
) -> None:
    """Refuse an input that is an output too: Snakemake would delete it before making it.

    Args:
        experiment: the configuration.
        datasets: name -> file.
        outputs: files and folders that the workflow writes.
        files: the configuration files.
    """
    written = [(output, Path(output).resolve()) for output in outputs]
    for found in _list_inputs(experiment, datasets, files):
        path = Path(found.path).resolve()
        for output, place in written:
            if path.is_relative_to(place) or (found.with_contents and place.is_relative_to(path)):
                raise ConfigError(
                    f"{found.key}: the workflow itself writes there: your file could be deleted, "
                    f"or a file that it makes be taken for yours.\n  found:    {found.path}, and "
                    f"the workflow writes {output}\n  expected: a separate place: {found.fix}"
                )


def _list_inputs(
    experiment: Experiment, datasets: Mapping[str, Dataset], files: Sequence[str]
) -> Iterator[Input]:
    source = ", ".join(files)
    for file in files:
        yield Input(file, file, "copy the configuration to config/, and give that")
    for backbone in experiment.all_backbones:
        if backbone.weights_file is not None:
            yield Input(f"{source}: backbone.pretrained", backbone.weights_file)
        if (folder := find_folder(backbone.name)) is not None:
            yield Input(f"{source}: backbone.name", str(folder))
        if backbone.architecture is not None:
            yield Input(f"{source}: backbone.architecture", paths.find_own(backbone.architecture))
    for name, dataset in datasets.items():
        file = f"{paths.DATASETS}/{name}.yaml"
        if dataset.folder is not None:
            yield Input(f"{file}: folder", dataset.folder, with_contents=True)
        mirror = experiment.mirror
        key = f"{source}: mirror" if mirror else f"{file}: archives"
        for archive in dataset.archives:
            for address in mirror_addresses(mirror, name, archive.file, archive.urls):
                if not address.startswith(("http://", "https://", "gdrive:")):
                    yield Input(key, address.removeprefix("file://"))

"""What is refused before any job: settings that do not go with their backbone or their files."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vtclip.architecture import check_weights, read_architecture, read_shape
from vtclip.data.folders import check_folder
from vtclip.data.rows import ManifestError
from vtclip.dataset import Dataset, read_dataset
from vtclip.experiment import GLYPH_SIZE, GLYPHS, Backbone, Experiment, read_experiment
from vtclip.methods import METHODS, check_methods, check_spatial
from vtclip.paths import PROJECT
from vtclip.settings import ConfigError, Settings


def read_checked(
    config: Mapping[str, Any], *, source: str
) -> tuple[Experiment, dict[str, Settings]]:
    """Check a configuration, its methods and its backbones, each with the others.

    Returns:
        The experiment, and method -> settings in the configuration's order.

    Raises:
        ConfigError: with what is wrong and the lines to write.
    """
    check_place(PROJECT)
    experiment = read_experiment(config, source=source)
    settings = check_methods(experiment.methods, source=source)
    for backbone in experiment.all_backbones:
        with _named(source):
            _check_backbone(backbone)
        for name, chosen in settings.items():
            check_method(name, chosen, backbone, source=f"{source}: methods.{name}")
    return experiment, settings


def check_place(project: Path) -> None:
    """Refuse a place of the project from which Snakemake cannot run its scripts.

    Raises:
        ConfigError: braces in its path, which Snakemake takes for wildcards.
    """
    if set("{}") & set(str(project)):
        raise ConfigError(
            f"{project}: Snakemake cannot run a project below a folder with {{ or }} in its name. "
            "Rename the folder, or move the project."
        )


def check_method(name: str, settings: Settings, backbone: Backbone, *, source: str) -> None:
    """Refuse settings of a method that do not go with a backbone.

    Raises:
        ConfigError: with what is wrong and the lines to write.
    """
    check_spatial(name, backbone.spatial, source=source)
    shape = read_shape(backbone)
    with _named(source):
        METHODS[name](settings).check(shape)


def check_datasets(names: Sequence[str]) -> dict[str, Dataset]:
    """Read and check the datasets' files.

    Raises:
        ConfigError: a dataset that is not known, a file with a wrong key, or a folder of one's own
            that is not there, has less than two class folders, or could be read in two ways.
    """
    datasets = {name: read_dataset(name) for name in names}
    for name, dataset in datasets.items():
        if dataset.folder is not None and not Path(dataset.folder).is_dir():
            raise ConfigError(
                f"config/datasets/{name}.yaml: folder: there is no such folder.\n"
                f"  found:    folder: {dataset.folder}\n"
                "  expected: a folder of class folders, seen from the working directory"
            )
        if dataset.folder is not None and dataset.layout == "folders":
            with _named(f"config/datasets/{name}.yaml: folder"):
                check_folder(dataset.folder, dataset.class_names)
    return datasets


def _check_backbone(backbone: Backbone) -> None:
    size = read_architecture(backbone).vision_cfg.image_size
    check_weights(backbone)
    if backbone.pretrained == GLYPHS and (size != GLYPH_SIZE or backbone.architecture is None):
        raise ConfigError(
            f"backbone.pretrained: {GLYPHS} are images of {GLYPH_SIZE} pixels.\n"
            f"  found:    {backbone.name}, whose images have {size}\n"
            f"  expected: an `architecture` of your own with image_size: {GLYPH_SIZE}\n"
            "  write:\n    architecture: config/backbones/glyph-clip.json"
        )


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Put the place of a setting before an error about it."""
    try:
        yield
    except (ConfigError, ManifestError) as error:
        raise ConfigError(f"{source}: {error}") from None

"""What is refused before any job: settings that do not go with their backbone or their files."""

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vtclip.backbones.known import check_activation
from vtclip.backbones.shapes import (
    check_packages,
    find_measured,
    list_tags,
    read_architecture,
    read_shape,
)
from vtclip.config.backbone_config import GLYPH_SIZE, GLYPHS, OWN, BackboneConfig, is_hub_name
from vtclip.config.dataset import MEAN, ClassSplit, Dataset, list_datasets, read_dataset
from vtclip.config.experiment import Experiment, read_experiment
from vtclip.data.folders import ManifestError, check_folder
from vtclip.data.inventory import explain_missing
from vtclip.methods import METHODS, check_methods, check_spatial
from vtclip.methods.base import Recipe
from vtclip.paths import PROJECT
from vtclip.runtime.devices import APPLE
from vtclip.settings import ConfigError, Settings, read_yaml, shorten, unknown

LONGEST = 200  # bytes of a name: a file's may have 255, and endings and temporary names add to it


def read_checked(
    config: Mapping[str, Any], files: Sequence[str]
) -> tuple[Experiment, dict[str, Settings]]:
    """Check a configuration, its methods and its backbones, each with the others.

    Returns:
        The experiment, and method -> settings in the configuration's order.
    """
    source = ", ".join(files)
    check_place(PROJECT)
    _refuse_repeated_keys(files)
    experiment = read_experiment(config, source=files)
    with _named(source):
        check_device(experiment.device)
    settings = check_methods(experiment.methods, source=source)
    for backbone in experiment.all_backbones:
        with _named(source):
            _check_backbone(backbone)
            check_kinds(backbone, settings)
        for name, chosen in settings.items():
            check_method(name, chosen, backbone, source=f"{source}: methods.{name}")
    return experiment, settings


def check_place(project: Path) -> None:
    """Refuse a place of the project from which Snakemake cannot run its scripts."""
    if set("{}") & set(str(project)):
        raise ConfigError(
            f"{project}: Snakemake cannot run a project below a folder with {{ or }} in its name. "
            "Rename the folder, or move the project."
        )


def check_device(device: str) -> None:
    """Refuse Apple's GPU on another machine: a job could not have it."""
    if device == APPLE and sys.platform != "darwin":
        raise ConfigError(
            "device: only Macs have an Apple GPU.\n"
            f"  found:    device: {device}, on {sys.platform}\n"
            "  expected: auto, cpu or cuda\n  write:\n    device: auto"
        )


def check_method(name: str, settings: Settings, backbone: BackboneConfig, *, source: str) -> None:
    """Refuse settings of a method that do not go with a backbone."""
    with _named(source):
        check_kinds(backbone, [name])
    check_spatial(name, backbone.spatial, source=source)
    _check_epochs_of(settings, source)
    shape = read_shape(backbone)
    with _named(source):
        METHODS[name](settings).check(shape)


def check_kinds(backbone: BackboneConfig, methods: Iterable[str]) -> None:
    """Refuse a kind of spatial features that an image tower does not give.

    Args:
        backbone: one of the experiment's.
        methods: the names of those that are run with it.
    """
    kinds = find_measured(backbone).kinds
    left_out = [name for name in methods if METHODS[name].needs_projected]
    if backbone.spatial in kinds and not (left_out and "projected" not in kinds):
        return
    without = f", and `methods:` without {', '.join(left_out)}" if left_out else ""
    raise ConfigError(
        f"backbone.spatial: the image tower of '{backbone.name}' pools in a way that has no "
        "meaning for one place of an image: none of its features are projected.\n"
        f"  found:    spatial: {backbone.spatial}\n  expected: raw{without}\n  write:\n"
        "    spatial: raw"
    )


def check_weights(backbone: BackboneConfig) -> None:
    """Refuse weights that are nowhere, or that were trained with another activation."""
    if backbone.pretrained == GLYPHS:
        return
    found = f"\n  found:    pretrained: {backbone.pretrained}\n  expected: "
    if backbone.weights_file is not None:
        if not Path(backbone.weights_file).is_file():
            raise ConfigError(
                f"backbone.pretrained: there is no such file.{found}a file of weights, safetensors "
                "or PyTorch's, seen from the working directory"
            )
        return
    if backbone.pretrained == OWN and is_hub_name(backbone.name):
        return  # the hub has them
    tags = {} if backbone.architecture else list_tags(backbone.name)
    if backbone.pretrained not in tags:
        known = f"one of {', '.join(tags)}, or " if tags else ""
        close = difflib.get_close_matches(backbone.pretrained.lower(), tags, n=1)
        write = f"\n  write:\n    pretrained: {close[0]}" if close else ""
        raise ConfigError(
            f"backbone.pretrained: there are no such weights of '{backbone.name}'.{found}{known}a "
            f"file of weights{write}"
        )
    if tags[backbone.pretrained]:
        quick_gelu = read_architecture(backbone).quick_gelu
        check_activation(backbone.name, backbone.pretrained, has_quick_gelu=quick_gelu)


def check_datasets(names: Sequence[str], *, source: str = "datasets") -> dict[str, Dataset]:
    """Read and check the datasets' files.

    Args:
        names: of files in config/datasets/.
        source: the key that names them, for the error about one that is not known.
    """
    known = list_datasets()
    for name in names:
        if name not in known:
            raise unknown("dataset", name, known, source=source)
    datasets = {name: read_dataset(name) for name in names}
    for name, dataset in datasets.items():
        file = f"config/datasets/{name}.yaml"
        if name == MEAN or set("{}") & set(name) or ClassSplit.parse(name).half:
            raise ConfigError(
                f"{file}: a dataset cannot be called so.\n  found:    {name}\n"
                f"  expected: a file's name without braces, and not {MEAN}, which tables call the "
                "mean over datasets, or one that ends as those of halves, in @base or @new"
            )
        check_length(name, source=file, fix="give the file a shorter name")
        for archive in dataset.archives:
            check_length(
                archive.file, source=f"{file}: archives", fix="give the archive a shorter name"
            )
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


def find_missing(
    experiment: Experiment, datasets: Mapping[str, Dataset], *, source: str
) -> dict[str, str]:
    """The datasets that must be left out, each with the reason and how to have it.

    Args:
        experiment: the configuration.
        datasets: the files of all its datasets, by name.
        source: the configuration's name, for the reason.
    """
    keys = {name: "datasets" if name in experiment.datasets else "tests" for name in datasets}
    return {
        name: reason
        for name, dataset in datasets.items()
        if (reason := explain_missing(name, dataset, experiment.mirror, source, key=keys[name]))
    }


def check_length(name: str, *, source: str, fix: str) -> None:
    """Refuse a name of which a file's name could not be made.

    Args:
        name: a part of paths.
        source: where the name comes from.
        fix: what to do about it.
    """
    size = len(name.encode())
    if size > LONGEST:
        raise ConfigError(
            f"{source}: a name of {size} bytes is too long for a file.\n"
            f"  found:    {shorten(name)}\n  expected: {LONGEST} bytes at most: {fix}"
        )


def _refuse_repeated_keys(files: Sequence[str]) -> None:
    """Read the configuration files: of a repeated key Snakemake takes the last without a word."""
    for file in files:
        if file.endswith((".yaml", ".yml")) and Path(file).is_file():
            read_yaml(file)


def _check_epochs_of(settings: Settings, source: str) -> None:
    if isinstance(settings, Recipe) and "epochs_of" in settings.model_fields_set:
        known = list_datasets()
        for name in settings.epochs_of:
            if name not in known:
                raise unknown("dataset", name, known, source=f"{source}.epochs_of")


def _check_backbone(backbone: BackboneConfig) -> None:
    check_length(
        backbone.folder,
        source="backbone: its name and its file of weights",
        fix="give one of them a shorter name",
    )
    check_packages(backbone)
    size = find_measured(backbone).image_size
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

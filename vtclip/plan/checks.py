"""Checks before any job: refuse settings that do not go with their backbone or their files."""

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vtclip.backbones.known import check_activation, read_content
from vtclip.backbones.shapes import (
    check_packages,
    find_measured,
    list_tags,
    read_architecture,
    read_shape,
)
from vtclip.config.backbone_config import (
    GLYPH_SIZE,
    GLYPHS,
    OWN,
    BackboneConfig,
    find_folder,
    is_hub_name,
    list_parts,
    with_spatial,
)
from vtclip.config.dataset import Dataset, check_known
from vtclip.config.experiment import Descriptions, Experiment
from vtclip.data.inventory import mirror_addresses
from vtclip.data.pick_lists import PicksError
from vtclip.data.walk import ManifestError
from vtclip.methods import METHODS, check_methods, check_spatial
from vtclip.methods.base import Training
from vtclip.paths import DATASETS, PROJECT, SHARED
from vtclip.runtime.gpus import APPLE
from vtclip.settings import ConfigError, Settings, read_config, refusal
from vtclip.wording import shorten

MOVE = "move it to another place, and name that"
LONGEST = 200  # bytes of a name: a file's may have 255, and endings and temporary names add to it


def check_files(files: Iterable[str]) -> None:
    """Refuse configuration files, or a place of the project, that Snakemake cannot use."""
    if set("{}") & set(str(PROJECT)):
        raise ConfigError(
            f"{PROJECT}: Snakemake cannot run a project below a folder with {{ or }} in its name. "
            "Rename the folder, or move the project."
        )
    for file in files:
        if file.endswith((".yaml", ".yml")) and Path(file).is_file():
            read_config(file)  # of a repeated key Snakemake takes the last without a word


def check_settings(experiment: Experiment, *, source: str) -> dict[str, Settings]:
    """Check methods, backbones and device, each with the others; returns method -> settings."""
    with prefix_errors(source):
        check_device(experiment.device)
    settings = check_methods(experiment.methods, source=source)
    for backbone in experiment.all_backbones:
        with prefix_errors(source):
            _check_backbone(backbone)
            _check_kinds(backbone, settings)
        for name, chosen in settings.items():
            check_method(name, chosen, backbone, source=f"{source}: methods.{name}")
    return settings


def check_device(device: str) -> None:
    """Refuse Apple's GPU on another machine: a job could not have it."""
    if device == APPLE and sys.platform != "darwin":
        raise refusal(
            "device", "only Macs have an Apple GPU", found=f"device: {device}, on {sys.platform}",
            expected="auto, cpu or cuda", write="device: auto",
        )  # fmt: skip


def check_method(name: str, settings: Settings, backbone: BackboneConfig, *, source: str) -> None:
    """Refuse settings of a method that do not go with a backbone."""
    backbone = with_spatial(backbone, METHODS[name].spatial_kind)
    with prefix_errors(source):
        if METHODS[name].reads_projection:
            _check_projection(backbone)
        _check_kinds(backbone, [name])
    check_spatial(name, backbone.spatial, source=source)
    for key in settings.list_by_dataset() if isinstance(settings, Training) else ():
        if f"{key}_of" in settings.model_fields_set:
            check_known(getattr(settings, f"{key}_of"), source=f"{source}.{key}_of")
    with prefix_errors(source):
        METHODS[name](settings).check(read_shape(backbone))


def _check_projection(backbone: BackboneConfig) -> None:
    """Refuse an image tower that does not end in one linear map."""
    tower = read_content(backbone).get("model_cfg", read_content(backbone))["vision_cfg"]
    is_linear = "timm_model_name" not in tower or tower.get("timm_proj", "linear") == "linear"
    if find_measured(backbone).kind == "other" or not is_linear:
        raise ConfigError(
            f"the image tower of '{backbone.name}' does not end in one linear map, which the "
            "method trains.\n  expected: another backbone, or `methods:` without it"
        )


def _check_kinds(backbone: BackboneConfig, methods: Iterable[str]) -> None:
    """Refuse a kind of spatial features that an image tower does not give to these methods."""
    kinds = find_measured(backbone).kinds
    left_out = [name for name in methods if METHODS[name].needs_projected]
    if backbone.spatial not in (*kinds, "unprojected") or (left_out and "projected" not in kinds):
        without = f", and `methods:` without {', '.join(left_out)}" if left_out else ""
        raise refusal(
            "backbone.spatial",
            f"the image tower of '{backbone.name}' pools in a way that has no meaning for one "
            "place of an image: none of its features are projected",
            found=f"spatial: {backbone.spatial}", expected=f"raw{without}",
            write="" if left_out else "spatial: raw",
        )  # fmt: skip


def _check_backbone(backbone: BackboneConfig) -> None:
    place = "backbone: its name and its file of weights"
    check_length(backbone.folder, source=place, fix="give one of them a shorter name")
    check_packages(backbone)
    size = find_measured(backbone).image_size
    check_weights(backbone)
    if backbone.pretrained == GLYPHS and (size != GLYPH_SIZE or backbone.architecture is None):
        raise refusal(
            "backbone.pretrained", f"{GLYPHS} are images of {GLYPH_SIZE} pixels",
            found=f"{backbone.name}, whose images have {size}",
            expected=f"an `architecture` of your own with image_size: {GLYPH_SIZE}",
            write="architecture: config/backbones/glyph-clip.json",
        )  # fmt: skip


def check_weights(backbone: BackboneConfig) -> None:
    """Refuse weights that are nowhere, or that were trained with another activation."""
    name, pretrained, file = backbone.name, backbone.pretrained, backbone.weights_file
    key, found = "backbone.pretrained", f"pretrained: {pretrained}"
    expected = "a file of weights, safetensors or PyTorch's, seen from the working directory"
    for each in [] if file is None else [Path(file), *list_parts(file)]:
        if not each.is_file():
            raise refusal(key, f"there is no such file: {each}", found=found, expected=expected)
    if backbone.weights_key is not None and file is None:
        raise refusal("backbone.weights_key", "it needs a file", found=found, expected=expected)
    if file is not None or pretrained == GLYPHS or (pretrained == OWN and is_hub_name(name)):
        return
    tags = {} if backbone.architecture else list_tags(name, wanted=pretrained)
    if pretrained not in tags:
        known = f"one of {', '.join(tags)}, or " if tags else ""
        close = difflib.get_close_matches(pretrained.lower(), tags, n=1)
        write = [f"pretrained: {tag}" for tag in close]
        if close and tags[close[0]] and not read_architecture(backbone).quick_gelu:
            write.insert(0, f"name: {name}-quickgelu")
        raise refusal(
            key, f"there are no such weights of '{name}'", found=found,
            expected=f"{known}a file of weights", write="\n".join(write),
        )  # fmt: skip
    if tags[pretrained]:
        check_activation(name, pretrained, has_quick_gelu=read_architecture(backbone).quick_gelu)


def check_length(name: str, *, source: str, fix: str) -> None:
    """Refuse a part of a path that is too long for a file's name; `fix` says what to do."""
    size = len(name.encode())
    if size > LONGEST:
        problem = f"a name of {size} bytes is too long for a file"
        expected = f"{LONGEST} bytes at most: {fix}"
        raise refusal(source, problem, found=shorten(name), expected=expected)


@contextmanager
def prefix_errors(source: str) -> Iterator[None]:
    """Put the place of a setting before an error about it."""
    try:
        yield
    except (ConfigError, ManifestError, PicksError) as error:
        raise ConfigError(f"{source}: {error}") from None


class _Input(NamedTuple):
    """A file or folder of the user."""

    key: str  # the file and key that name it
    path: str
    with_contents: bool = False  # everything below it counts, as of a folder of images
    fix: str = MOVE


def check_places(
    experiment: Experiment,
    datasets: Mapping[str, Dataset],
    outputs: Sequence[str],  # files and folders that the workflow writes
    files: Sequence[str],  # of the configuration
) -> None:
    """Refuse an input that is an output too: Snakemake would delete it before making it."""
    written = [(output, Path(output).resolve()) for output in outputs]
    for given in _list_inputs(experiment, datasets, files):
        path = Path(given.path).resolve()
        if _is_oracle(path):
            raise refusal(
                given.key, "an oracle's files are no input: they were chosen on the test images",
                found=given.path, expected="another file",
            )  # fmt: skip
        for output, place in written:
            if path.is_relative_to(place) or (given.with_contents and place.is_relative_to(path)):
                raise refusal(
                    given.key, "the workflow itself writes there: your file could be deleted, or a "
                    "file that it makes be taken for yours",
                    found=f"{given.path}, and the workflow writes {output}",
                    expected=f"a separate place: {given.fix}",
                )  # fmt: skip


def _is_oracle(path: Path) -> bool:
    """Check that a path lies in the folder of an experiment's oracles: results/<name>/oracle/."""
    places = zip(path.parts, path.parts[1:], path.parts[2:], strict=False)
    return any(
        top == "results" and name not in SHARED and folder == "oracle"
        for top, name, folder in places
    )


def _list_inputs(
    experiment: Experiment, datasets: Mapping[str, Dataset], files: Sequence[str]
) -> Iterator[_Input]:
    source, mirror = ", ".join(files), experiment.mirror
    for file in files:
        yield _Input(file, file, fix="copy the configuration to config/, and give that")
    if experiment.picks is not None:
        yield _Input(f"{source}: picks", experiment.picks.partition("{")[0] or ".")
    if isinstance(texts := experiment.texts, Descriptions) and texts.is_file:
        key = f"{source}: texts.descriptions"
        yield from (_Input(key, texts.descriptions.replace("{dataset}", n)) for n in datasets)
    for backbone in experiment.all_backbones:
        for key, path in (
            ("pretrained", backbone.weights_file),
            ("name", find_folder(backbone.name)),
            ("architecture", backbone.architecture_file),
        ):
            if path is not None:
                yield _Input(f"{source}: backbone.{key}", str(path))
    for name, dataset in datasets.items():
        file = f"{DATASETS}/{name}.yaml"
        if dataset.folder is not None:
            alone = "the folder of the images alone, which `vtclip new` takes as FOLDER or --images"
            fix = f"{MOVE}; or name {alone}"
            yield _Input(f"{file}: folder", dataset.folder, with_contents=True, fix=fix)
        if dataset.table is not None:
            yield _Input(f"{file}: table", dataset.table)
        key = f"{source}: mirror" if mirror else f"{file}: archives"
        for archive in dataset.archives:
            for address in mirror_addresses(mirror, name, archive.file, archive.urls):
                if not address.startswith(("http://", "https://", "gdrive:")):
                    yield _Input(key, address.removeprefix("file://"))

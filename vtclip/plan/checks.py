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
from vtclip.config.dataset import MEAN, OWN_LAYOUTS, ClassSplit, Dataset, check_known, read_dataset
from vtclip.config.experiment import Descriptions, Experiment
from vtclip.data.folders import check_folder
from vtclip.data.inventory import find_tree, mirror_addresses
from vtclip.data.walk import ManifestError, list_folder
from vtclip.methods import METHODS, check_methods, check_spatial
from vtclip.methods.base import Training
from vtclip.paths import DATASETS, PROJECT, SHARED, find_own
from vtclip.runtime.gpus import APPLE
from vtclip.settings import ConfigError, Settings, read_yaml, refusal
from vtclip.wording import count, shorten

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
            read_yaml(file)  # of a repeated key Snakemake takes the last without a word


def check_settings(experiment: Experiment, *, source: str) -> dict[str, Settings]:
    """Check methods, backbones and device, each with the others; returns method -> settings."""
    with _named(source):
        check_device(experiment.device)
    settings = check_methods(experiment.methods, source=source)
    for backbone in experiment.all_backbones:
        with _named(source):
            _check_backbone(backbone)
            _check_kinds(backbone, settings)
        for name, chosen in settings.items():
            check_method(name, chosen, backbone, source=f"{source}: methods.{name}")
    return settings


def check_device(device: str) -> None:
    """Refuse Apple's GPU on another machine: a job could not have it."""
    if device == APPLE and sys.platform != "darwin":
        found = f"device: {device}, on {sys.platform}"
        raise refusal(
            "device", "only Macs have an Apple GPU", found=found, expected="auto, cpu or cuda",
            write="device: auto",
        )  # fmt: skip


def check_method(name: str, settings: Settings, backbone: BackboneConfig, *, source: str) -> None:
    """Refuse settings of a method that do not go with a backbone."""
    backbone = with_spatial(backbone, METHODS[name].spatial_kind)
    with _named(source):
        if METHODS[name].reads_projection:
            _check_projection(backbone)
        _check_kinds(backbone, [name])
    check_spatial(name, backbone.spatial, source=source)
    for key in settings.list_by_dataset() if isinstance(settings, Training) else ():
        if f"{key}_of" in settings.model_fields_set:
            check_known(getattr(settings, f"{key}_of"), source=f"{source}.{key}_of")
    with _named(source):
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
    check_length(
        backbone.folder,
        source="backbone: its name and its file of weights",
        fix="give one of them a shorter name",
    )
    check_packages(backbone)
    size = find_measured(backbone).image_size
    check_weights(backbone)
    if backbone.pretrained == GLYPHS and (size != GLYPH_SIZE or backbone.architecture is None):
        raise refusal(
            "backbone.pretrained",
            f"{GLYPHS} are images of {GLYPH_SIZE} pixels",
            found=f"{backbone.name}, whose images have {size}",
            expected=f"an `architecture` of your own with image_size: {GLYPH_SIZE}",
            write="architecture: config/backbones/glyph-clip.json",
        )


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
        quick_gelu = read_architecture(backbone).quick_gelu
        check_activation(name, pretrained, has_quick_gelu=quick_gelu)


def check_datasets(names: Sequence[str], *, source: str) -> dict[str, Dataset]:
    """Read and check the files of some datasets, which the key `source` names."""
    check_known(names, source=source)
    datasets = {name: read_dataset(name) for name in names}
    for name, dataset in datasets.items():
        _check_dataset(name, dataset)
    return datasets


def _check_dataset(name: str, dataset: Dataset) -> None:
    file = f"{DATASETS}/{name}.yaml"
    if name == MEAN or set("{}") & set(name) or ClassSplit.parse(name).half:
        raise refusal(
            file, "a dataset cannot be called so", found=name,
            expected=f"a file's name without braces, and not {MEAN}, which tables call the mean "
            "over datasets, or one that ends as those of halves, in @base or @new",
        )  # fmt: skip
    check_length(name, source=file, fix="give the file a shorter name")
    for archive in dataset.archives:
        fix = "give the archive a shorter name"
        check_length(archive.file, source=f"{file}: archives", fix=fix)
    if dataset.folder is None:
        return
    with _named(f"{file}: folder"):
        list_folder(dataset.folder)
    split = dataset.split if dataset.layout == "coop" else None
    if split is not None and not Path(dataset.folder, split).is_file():
        problem, found = "there is no such file in the folder", f"split: {split}"
        expected = f"a split file in CoOp's form, in {dataset.folder}"
        raise refusal(f"{file}: split", problem, found=found, expected=expected)
    if dataset.layout == "table":
        with _named(f"{file}: table"):
            find_tree(dataset)
    if dataset.layout == "folders":
        with _named(f"{file}: folder"):
            check_folder(
                dataset.folder,
                dataset.class_names,
                levels=dataset.levels,
                split_folders=dataset.split_folders,
            )


def check_tests(experiment: Experiment, datasets: Mapping[str, Dataset], *, source: str) -> None:
    """Refuse heads and test sets that do not go together."""
    for name in [] if isinstance(experiment.tests, str) else experiment.tests:
        if name not in experiment.datasets:
            expected = f"one of the experiment's datasets: {', '.join(experiment.datasets)}"
            problem = f"no head is trained on {name}"
            raise refusal(
                f"{source}: tests.{name}", problem, found=f"tests: {name}", expected=expected
            )
    if experiment.tests and experiment.classes == "base":
        problem = "heads of half the classes are tested on the two halves alone"
        found, expected = "classes: base, and tests", "one of the two keys"
        raise refusal(f"{source}: tests", problem, found=found, expected=expected)
    for name in experiment.datasets:
        if datasets[name].folds and experiment.classes == "base":
            raise refusal(
                f"{source}: classes: base", f"{name} is divided into folds, and not into halves of "
                "its classes", found=f"folds: {datasets[name].folds}",
                expected="datasets with a test split",
            )  # fmt: skip
        if datasets[name].folds and experiment.picks is not None:
            raise refusal(
                f"{source}: picks", f"the images of {name} are drawn out of its folds",
                found=f"picks, and folds: {datasets[name].folds}", expected="one of the two keys",
            )  # fmt: skip
        counts = datasets[name].counts
        if counts is not None and not counts.train:
            trained = datasets[name].classes_of or "imagenet"
            raise refusal(
                f"{source}: datasets",
                f"{name} has no image to train on",
                found=name,
                expected="it as a test set of another dataset",
                write=f"datasets: [{trained}]\ntests: {{{trained}: [{name}]}}",
            )
        classes = _count_classes(datasets[name]) if experiment.classes == "base" else None
        if classes is not None and classes < 4:
            problem = "each half of a dataset needs two classes"
            found = f"{name}, with {count(classes, 'class', 'classes')}"
            expected = "datasets of four classes or more"
            raise refusal(f"{source}: classes: base", problem, found=found, expected=expected)
    for name, dataset in datasets.items():
        _check_family(name, dataset, datasets)


def _check_family(name: str, dataset: Dataset, datasets: Mapping[str, Dataset]) -> None:
    """Refuse other classes than those of the dataset that the file names, as far as is known."""
    if dataset.classes_of is None:
        return
    source = f"{DATASETS}/{name}.yaml: classes_of"
    check_known([dataset.classes_of], source=source)
    family = datasets.get(dataset.classes_of)
    found, known = _count_classes(dataset), None if family is None else _count_classes(family)
    if found is None or known is None:
        return
    by_label = dataset.layout not in ("imagenet_test", *OWN_LAYOUTS)  # the others go by names
    if found > known or (by_label and found != known):
        problem = f"{name} has other classes than {dataset.classes_of}"
        expected = f"{known}" if by_label else f"{known} at most"
        raise refusal(source, problem, found=count(found, "class", "classes"), expected=expected)


def _count_classes(dataset: Dataset) -> int | None:
    """Number of classes of a dataset; None where only its files show it."""
    if (tree := find_tree(dataset)) is not None:
        return len(tree.classes)
    return None if dataset.counts is None else dataset.counts.classes


def check_length(name: str, *, source: str, fix: str) -> None:
    """Refuse a part of a path that is too long for a file's name; `fix` says what to do."""
    size = len(name.encode())
    if size > LONGEST:
        problem = f"a name of {size} bytes is too long for a file"
        expected = f"{LONGEST} bytes at most: {fix}"
        raise refusal(source, problem, found=shorten(name), expected=expected)


@contextmanager
def _named(source: str) -> Iterator[None]:
    """Put the place of a setting before an error about it."""
    try:
        yield
    except (ConfigError, ManifestError) as error:
        raise ConfigError(f"{source}: {error}") from None


class _Input(NamedTuple):
    """A file or folder of the user."""

    key: str  # the file and key that name it
    path: str
    fix: str = "move it to another place, and name that"
    with_contents: bool = False  # everything below it counts, as of a folder of images


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
                    given.key,
                    "the workflow itself writes there: your file could be deleted, or a file that "
                    "it makes be taken for yours",
                    found=f"{given.path}, and the workflow writes {output}",
                    expected=f"a separate place: {given.fix}",
                )


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
        yield _Input(file, file, "copy the configuration to config/, and give that")
    if experiment.picks is not None:
        yield _Input(f"{source}: picks", experiment.picks.partition("{")[0] or ".")
    if isinstance(texts := experiment.texts, Descriptions) and texts.is_file:
        for name in datasets:
            path = texts.descriptions.replace("{dataset}", name)
            yield _Input(f"{source}: texts.descriptions", path)
    for backbone in experiment.all_backbones:
        if backbone.weights_file is not None:
            yield _Input(f"{source}: backbone.pretrained", backbone.weights_file)
        if (folder := find_folder(backbone.name)) is not None:
            yield _Input(f"{source}: backbone.name", str(folder))
        if backbone.architecture is not None:
            yield _Input(f"{source}: backbone.architecture", find_own(backbone.architecture))
    for name, dataset in datasets.items():
        file = f"{DATASETS}/{name}.yaml"
        if dataset.folder is not None:
            yield _Input(f"{file}: folder", dataset.folder, with_contents=True)
        if dataset.table is not None:
            yield _Input(f"{file}: table", dataset.table)
        key = f"{source}: mirror" if mirror else f"{file}: archives"
        for archive in dataset.archives:
            for address in mirror_addresses(mirror, name, archive.file, archive.urls):
                if not address.startswith(("http://", "https://", "gdrive:")):
                    yield _Input(key, address.removeprefix("file://"))

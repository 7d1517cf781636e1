"""A trained head with its texts and backbone: a run's folder, or one file of `vtclip export`."""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from vtclip import paths
from vtclip.backbones.checkpoints import read_checkpoint, read_metadata
from vtclip.config.backbone_config import BackboneConfig, Precision, SpatialKind
from vtclip.config.dataset import ClassSplit, Exif
from vtclip.config.experiment import Experiment, read_experiment
from vtclip.features.texts import read_class_names, read_texts
from vtclip.files import (
    BLANK,
    CALIBRATION,
    MARK,
    check_receipt,
    check_seal,
    name_file_in_errors,
    read_calibration,
    read_head,
    read_record,
    refuse_oracle,
    tensors_below,
    write_tensors,
)
from vtclip.parquet import read_parquet
from vtclip.plan.contents import architecture_content
from vtclip.settings import Settings, check, read_yaml
from vtclip.task import Head
from vtclip.training.calibration import Calibration

KEY = "vtclip"  # of the description in an exported file's metadata
HEAD, BACKBONE = "head.", "backbone."  # before the names of their tensors
ORIGIN = ("backbone", "pretrained", "weights_sha256", "spatial", "precision", "exif")
AGAIN = "Export it again, or copy it again from where it came."

logger = logging.getLogger(__name__)


class SavedError(ValueError):
    """A head that is not there, or cannot be used."""


class SavedBackbone(Settings):
    """The backbone that a head goes with."""

    name: str = Field(description="as open_clip knows it", examples=["RN50-quickgelu"])
    weights: str = Field(
        description="name and weights in words", examples=["RN50-quickgelu-openai"]
    )
    pretrained: str = Field(description="open_clip's tag, or the file it came from")
    weights_sha256: str | None = Field(default=None, description="of the file of weights")
    spatial: SpatialKind = Field(description="kind of spatial features", examples=["projected"])
    precision: Precision = Field(description="images are encoded in it", examples=["float32"])
    architecture: dict[str, Any] | None = Field(
        default=None, description="open_clip's JSON form, of a model that it does not know"
    )
    preprocess: str | None = Field(default=None, description="the test transform, as JSON")


class Description(Settings):
    """Everything about a head but its tensors, as JSON in an exported file's metadata."""

    version: Literal[1] = Field(default=1, description="of this form")
    method: str = Field(description="a method's name", examples=["vt_clip"])
    settings: dict[str, Any] = Field(description="all of its settings")
    class_names: list[str] = Field(min_length=2, description="the classes, by label")
    templates: list[str] = Field(min_length=1, description="the dataset's prompts")
    probe: list[float] | None = Field(
        default=None,
        description="the text of the first class in the templates, where its text is made of more",
    )
    logit_scale: float = Field(description="the factor on cosine similarities", examples=[100.0])
    exif: Exif = Field(default="ignore", description="orientation of the images that it reads")
    backbone: SavedBackbone = Field(description="what encodes the images")
    run: dict[str, Any] = Field(description="experiment, dataset, shots, seed, accuracies")
    seal: str | None = Field(
        default=None, pattern=f"^{MARK}[0-9a-f]{{{len(BLANK)}}}$", description="of the whole file"
    )


@dataclass(frozen=True)
class Saved:
    """A head as it was read."""

    source: Path  # the folder or file
    description: Description
    head: Head
    texts: Tensor  # (K, D) float32 of unit length, the classes' texts
    weights: Path | None  # the file of the backbone's weights; None where there is none
    has_backbone: bool = False  # `source` contains these weights too
    calibration: Calibration | None = None  # None of a head trained without validation shots


def read_saved(source: str | Path, backbone: str | Path | None = None) -> Saved:
    """Read a run's folder, a file of `vtclip export`, or a run by its name below results/.

    `backbone` is another file of its backbone's weights, to use instead.
    """
    path = Path(source)
    if path.is_dir():
        saved = _read_run(path)
    elif path.is_file():
        saved = _read_run(path.parent) if path.name == paths.HEAD else _read_file(path)
    else:
        saved = _read_run(_find_run(str(source)))
    if backbone is None:
        return saved
    if not Path(backbone).is_file():
        raise SavedError(f"{backbone}: there is no such file of weights.")
    return replace(saved, weights=Path(backbone), has_backbone=False)


def write_saved(saved: Saved, destination: str | Path, *, with_backbone: bool = False) -> None:
    """Write a head into one safetensors file, with its backbone's weights if requested."""
    tensors = {HEAD + name: tensor for name, tensor in saved.head.items()}
    tensors["texts"] = saved.texts
    if saved.calibration is not None:
        stored = saved.calibration.tensors()
        tensors |= {CALIBRATION + name: tensor for name, tensor in stored.items()}
    if with_backbone:
        tensors |= {BACKBONE + name: value for name, value in read_weights(saved).items()}
    described = saved.description.model_copy(update={"seal": MARK + BLANK})
    write_tensors(destination, tensors, {KEY: described.model_dump_json()})


def read_weights(saved: Saved) -> dict[str, Tensor]:
    """The weights of a head's backbone, as open_clip names them."""
    if saved.has_backbone:
        return tensors_below(load_file(saved.source), BACKBONE)
    if saved.weights is None:
        name = saved.description.backbone.weights
        raise SavedError(
            f"{saved.source}: the weights of its backbone are not here.\n"
            f"  expected: resources/backbones/{name}.safetensors, or the file of weights "
            "under `--backbone`"
        )
    return read_checkpoint(saved.weights)


def _find_run(name: str) -> Path:
    """The folder of a run by its name: experiment/dataset/method/run.

    Where an experiment has several backbones the name needs the backbone's, as
    experiment/backbone/dataset/method/run. `experiment/best`, or `experiment/dataset/best`, is the
    head that the report says to take.
    """
    experiment, *dataset = name.strip("/").removesuffix("/best").split("/")
    best = Path(paths.ExperimentPaths(experiment).best)
    if name.strip("/").endswith("/best") and best.is_file():
        chosen = read_record(best)
        wanted = dataset or list(chosen)
        if len(wanted) == 1 and wanted[0] in chosen:
            return Path(chosen[wanted[0]]["head"]).parent
        names = ", ".join(f"{experiment}/{each}/best" for each in chosen)
        run = "a run's name: without validation shots there is nothing to choose a head on"
        expected = f"one of {names}" if chosen else run
        raise SavedError(f"{name}: expected {expected}.")
    runs, short_names = {}, {}
    for head in sorted(Path("results").glob(f"*/heads/*/*/*/*/{paths.HEAD}")):
        _, experiment, _, backbone, *rest, _ = head.parts
        run = "/".join([experiment, backbone, *rest])
        runs[run], short_names[run] = head.parent, "/".join([experiment, *rest])
    found = [run for run in runs if name.strip("/") in (run, short_names[run])]
    if len(found) == 1:
        return runs[found[0]]
    if found:
        raise SavedError(
            f"'{name}' is {len(found)} heads: name the backbone too.\n  found:    "
            + "\n            ".join(found)
        )
    close = difflib.get_close_matches(name, [*short_names.values(), *runs], n=3, cutoff=0.5)
    more = f"Did you mean {' or '.join(close)}?" if close else f"There are {len(runs)} heads."
    raise SavedError(
        f"{name}: there is no such file or folder, and no such run below results/.\n"
        "  expected: a run's folder, a file of `vtclip export`, or a name such as "
        f"demo/digits/vt_clip/16shot-seed1\n  {more}"
    )


def _read_run(folder: Path) -> Saved:
    """Read a run's folder, whose path says where texts and backbone are."""
    if not (folder / paths.HEAD).is_file():
        raise SavedError(
            f"{folder}: no head is in this folder.\n"
            f"  expected: a run's folder, with {paths.HEAD} and run.json"
        )
    places = folder.absolute().parts
    if len(places) < 8 or (places[-5], places[-7]) != ("heads", "results"):
        raise SavedError(
            f"{folder}: a run's classes and backbone are found by its path, which is another one.\n"
            "  expected: results/<experiment>/heads/<backbone>/<dataset>/<method>/<run>\n"
            "  To move a head: vtclip export HEAD FILE"
        )
    experiment, _, backbone, dataset, _, _ = places[-6:]
    root = folder.absolute().parents[6]
    made_by = _read_experiment(root, experiment)
    part = ClassSplit.parse(dataset)
    texts_file = root / paths.TEXTS.format(
        backbone=backbone, dataset=part.dataset, texts=made_by.texts_name
    )
    if not texts_file.is_file():
        raise SavedError(f"{texts_file}: the head's texts are not there. Run Snakemake again.")
    record = read_record(folder / "run.json")
    texts, made = read_texts(texts_file)
    _check_origin(folder, record.get("features", {}), texts_file, made)
    names = read_class_names(texts_file)
    labels = part.labels(len(names))
    classes = slice(labels.start, labels.stop)
    used = _find_backbone(made_by, backbone)
    weights = _find_weights(used.weights, root)
    encoder = {
        "name": made["backbone"], "weights": used.weights, "pretrained": str(made["pretrained"]),
        "weights_sha256": made["weights_sha256"], "spatial": made["spatial"],
        "precision": made["precision"], "architecture": _read_architecture(used, root),
        "preprocess": read_metadata(weights).get("preprocess") if weights else None,
    }  # fmt: skip
    described = {
        "method": record["method"], "settings": record["settings"],
        "class_names": names[classes], "templates": made["templates"],
        "probe": made.get("probe"), "logit_scale": made["logit_scale"],
        "exif": made.get("exif", "ignore"), "backbone": encoder,
        "run": {"experiment": experiment, "dataset": dataset, "shots": record["shots"],
                "seed": record["seed"], "val_accuracy": record.get("val_accuracy"),
                "test_accuracy": _read_accuracy(root, folder, record)},
    }  # fmt: skip
    description = check(Description, described, source=str(folder))
    head = folder / paths.HEAD
    return Saved(
        folder, description, read_head(head), texts[classes], weights,
        calibration=Calibration.read(read_calibration(head)),
    )  # fmt: skip


def _read_accuracy(root: Path, folder: Path, record: Mapping[str, Any]) -> float | None:
    """Accuracy of a run on the test images, if it has been tested."""
    experiment, _, backbone, dataset, method, _ = folder.absolute().parts[-6:]
    place = {"backbone": backbone, "dataset": dataset, "method": method, "tested": dataset}
    file = root / paths.ExperimentPaths(experiment).predictions.format(**place)
    if not file.is_file():
        return None
    rows = read_parquet(file, "shots", "seed", "label", "prediction")
    own = rows.filter(shots=record["shots"], seed=record["seed"])
    hits = own.filter(pl.col("label") == pl.col("prediction")).height
    return hits / own.height if own.height else None


def _check_origin(
    folder: Path, trained: Mapping[str, Any], texts: Path, made: Mapping[str, Any]
) -> None:
    """Refuse texts of another backbone than the head was trained with."""
    for key in ORIGIN:
        if key in trained and trained[key] != made.get(key):
            raise SavedError(
                f"{folder}: the head goes with another backbone than {texts}.\n"
                f"  found:    {key}: {made.get(key)}\n  expected: {key}: {trained[key]}\n"
                "  Run Snakemake again: it makes the older of the two once more."
            )


def _read_experiment(root: Path, name: str) -> Experiment:
    """The experiment that made a head."""
    file = root / paths.ExperimentPaths(name).config
    if not file.is_file():
        raise SavedError(f"{file}: the experiment's configuration is not there.")
    check_receipt(file)
    return read_experiment(read_yaml(file), source=str(file))


def _find_backbone(experiment: Experiment, folder: str) -> BackboneConfig:
    """The backbone of an experiment by its folder of features."""
    for backbone in experiment.all_backbones:
        for spatial in get_args(SpatialKind):
            used = backbone.model_copy(update={"spatial": spatial})
            if used.folder == folder:
                return used
    raise SavedError(f"results/{experiment.name}: none of its backbones is called {folder}.")


def _find_weights(backbone: str, root: Path = Path()) -> Path | None:
    """The file of a backbone's weights, if it is there."""
    file = root / paths.WEIGHTS.format(weights=backbone)
    return file if file.is_file() else None


def _read_architecture(backbone: BackboneConfig, root: Path) -> dict[str, Any] | None:
    """The content of a custom architecture, whose path starts at the folder of the run."""
    given = backbone.architecture
    if given is not None and (root / given).is_file():
        backbone = backbone.model_copy(update={"architecture": str(root / given)})
    return architecture_content(backbone)


def _read_file(path: Path) -> Saved:
    """Read a file of `write_saved`."""
    try:
        with safe_open(path, framework="pt") as file:
            content = (file.metadata() or {}).get(KEY)
            names = list(file.keys())
            kept = [name for name in names if not name.startswith(BACKBONE)]
            tensors = {name: file.get_tensor(name) for name in kept}
    except SafetensorError as error:
        raise SavedError(
            f"{path}: not a file of `vtclip export`, or a damaged one: {error}"
        ) from None
    refuse_oracle(path, names)
    if content is None or "texts" not in tensors:
        raise SavedError(
            f"{path}: a safetensors file, but not one of `vtclip export`: it does not say which "
            "method and classes its tensors are of."
        )
    with name_file_in_errors(path, AGAIN):
        description = check(Description, json.loads(content), source=str(path))
        _check_seal(path, description)
        texts = tensors["texts"].to(torch.float32)
        if len(texts) != len(description.class_names):
            raise ValueError(f"{len(texts)} texts of {len(description.class_names)} classes")
    weights = _find_weights(description.backbone.weights)
    has_backbone = any(name.startswith(BACKBONE) for name in names)
    calibration = Calibration.read(tensors_below(tensors, CALIBRATION))
    head = tensors_below(tensors, HEAD)
    return Saved(path, description, head, texts, weights, has_backbone, calibration)


def _check_seal(path: Path, description: Description) -> None:
    """Refuse a damaged file; warn of one of an earlier version, which has no seal."""
    if description.seal is None:
        logger.warning("%s: it has no checksum, so damage is not noticed: export it again.", path)
    else:
        check_seal(path, AGAIN)

"""A trained head with its texts and backbone, and the files that `vtclip export` makes of it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jinja2 import StrictUndefined, Template
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from vtclip import __version__, paths
from vtclip.backbones.checkpoints import read_checkpoint
from vtclip.config.backbone_config import Precision, SpatialKind
from vtclip.config.dataset import Exif
from vtclip.files import BLANK, MARK, check_seal, name_file_in_errors, write_text
from vtclip.methods import METHODS
from vtclip.settings import Settings, check
from vtclip.task import Head
from vtclip.tensors import CALIBRATION, refuse_oracle, tensors_below, write_tensors
from vtclip.training.calibration import Calibration

KEY = "vtclip"  # of the description in an exported file's metadata
HEAD, BACKBONE = "head.", "backbone."  # before the names of their tensors
AGAIN = "Export it again, or copy it again from where it came."

CARD = Path(__file__).with_name("card.md.jinja")  # the template of a model card
LIBRARY = "library_name: vtclip"  # in each card
CLASSES = 100  # that a card names

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


def write_saved(saved: Saved, destination: str | Path, *, with_backbone: bool = False) -> None:
    """Write a head into one safetensors file, with its backbone's weights if requested."""
    tensors = {HEAD + name: tensor for name, tensor in saved.head.items()}
    tensors["texts"] = saved.texts
    if saved.calibration is not None:
        tensors |= saved.calibration.tensors()
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


def read_exported(path: Path) -> Saved:
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
        if description.seal is None:  # of an earlier version
            logger.warning("%s: it has no checksum, so damage is not seen: export it again.", path)
        else:
            check_seal(path, AGAIN)
        texts = tensors["texts"].to(torch.float32)
        if len(texts) != len(description.class_names):
            raise ValueError(f"{len(texts)} texts of {len(description.class_names)} classes")
    return Saved(
        path, description, tensors_below(tensors, HEAD), texts,
        weights=find_weights(description.backbone.weights),
        has_backbone=any(name.startswith(BACKBONE) for name in names),
        calibration=Calibration.read(tensors_below(tensors, CALIBRATION)),
    )  # fmt: skip


def find_weights(backbone: str, root: Path = Path()) -> Path | None:
    """The file of a backbone's weights, if it is there."""
    file = root / paths.WEIGHTS.format(weights=backbone)
    return file if file.is_file() else None


def write_card(saved: Saved, file: str | Path) -> Path:
    """Write the card of an exported file beside it, over no README but such a card."""
    file = Path(file)
    card = file.with_name("README.md")
    if card.exists() and LIBRARY not in card.read_text(encoding="utf-8", errors="replace"):
        card = file.with_name(f"{file.name}.md")
    write_text(card, make_card(saved, file.name))
    return card


def make_card(saved: Saved, file: str) -> str:
    """The text of the card: front matter in YAML, whose strings are JSON's, then Markdown."""
    described = saved.description
    names, run = described.class_names, described.run
    accuracies = {"test": run.get("test_accuracy"), "validation": run.get("val_accuracy")}
    template = Template(
        CARD.read_text(encoding="utf-8"), trim_blocks=True, keep_trailing_newline=True,
        undefined=StrictUndefined,
    )  # fmt: skip
    return template.render(
        library=LIBRARY, json=json.dumps, version=__version__, described=described, run=run,
        backbone=described.backbone, title=METHODS[described.method].title,
        images=paths.name_images(run["shots"]),
        accuracies=accuracies, calibration=saved.calibration, file=file, quoted=repr(file),
        number=len(names), named=[f"`{name.replace('`', '')}`" for name in names[:CLASSES]],
    )  # fmt: skip

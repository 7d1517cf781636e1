"""The shape of a model: of open_clip's by their table, of others once they have been measured.

The table has a row for each configuration that open_clip comes with, written by
docs/make_shapes.py. Planning therefore imports neither PyTorch nor open_clip.
"""

import csv
import hashlib
import json
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field, StrictInt

from vtclip import paths
from vtclip.backbones.known import (
    INSTALL,
    Measured,
    find_configuration,
    has_pooled_token,
    key_of,
    read_content,
)
from vtclip.config.backbone_config import BackboneConfig, check_transform, name_model
from vtclip.cost import Shape
from vtclip.files import read_record, write_record
from vtclip.runtime.code_hash import code_hash
from vtclip.settings import LARGEST, ConfigError, Settings, check

SHAPES = Path(__file__).with_name("shapes.csv")
WITHOUT_TRANSFORMERS = "ViT-B-32-quickgelu, MobileCLIP2-S0 or PE-Core-B-16"

Number = Annotated[StrictInt, Field(ge=1, le=LARGEST)]
# A tower is built to be measured, and each layer takes memory: the deepest of open_clip has 56.
Layers = Annotated[StrictInt, Field(ge=1, le=1000)]
Stages = Annotated[list[Layers], Field(min_length=4, max_length=4)]
Ratio = Annotated[float, Field(gt=0, le=1000)]


class Part(Settings):
    """The keys of a part of open_clip's JSON that decide its size."""

    model_config = ConfigDict(extra="ignore")


def _key_with_default(default: Any, description: str) -> Any:
    return Field(default=default, description=description, examples=[default])


class Vision(Part):
    """An image tower."""

    image_size: Number = _key_with_default(224, "pixels of a side")
    layers: Layers | Stages = _key_with_default(12, "of a ViT a number, of a ResNet four")
    width: Number = _key_with_default(768, "width of the layers")
    patch_size: Number | None = _key_with_default(16, "pixels of a patch's side, of a ViT")
    mlp_ratio: Ratio = _key_with_default(4.0, "hidden width of a layer, by its width")
    attn_pooler_queries: Number = _key_with_default(256, "queries of the attention pool")


class Text(Part):
    """A text tower."""

    context_length: Number = _key_with_default(77, "tokens of a text")
    vocab_size: Number = _key_with_default(49408, "known tokens")
    width: Number = _key_with_default(512, "width of the layers")
    layers: Layers = _key_with_default(12, "number of layers")
    mlp_ratio: Ratio = _key_with_default(4.0, "hidden width of a layer, by its width")
    hf_model_name: str | None = None
    hf_tokenizer_name: str | None = None

    @property
    def needs_transformers(self) -> str | None:
        """The part that Hugging Face's library makes; None for a tower that needs none."""
        if self.hf_model_name is not None:
            return f"text tower {self.hf_model_name}"
        if self.hf_tokenizer_name is not None:
            return f"tokenizer {self.hf_tokenizer_name}"
        return None


class Architecture(Part):
    """A model's configuration in open_clip's JSON form."""

    embed_dim: Number = Field(description="width of the joint space", examples=[512])
    vision_cfg: Vision = Field(
        description="the image tower", examples=[{"image_size": 224, "layers": 12, "width": 768}]
    )
    text_cfg: Text = Field(description="the text tower", examples=[{"width": 512, "layers": 12}])
    multimodal_cfg: Text | None = Field(
        default=None, description="the decoder of a CoCa", examples=[{"width": 512, "layers": 12}]
    )
    quick_gelu: bool = False


def read_shape(backbone: BackboneConfig) -> Shape:
    """The shape of a backbone's features, and the size of its towers."""
    found = find_measured(backbone)
    is_projected = backbone.spatial == "projected"
    tokens = found.places + has_pooled_token(found.kind, backbone.spatial)
    shared = found._asdict().items()
    return Shape(
        1 if backbone.spatial == "unprojected" else tokens,
        found.dim if is_projected else found.width,
        image_tokens=found.places + 1,
        image_width=found.width,
        **{key: value for key, value in shared if key in Shape._fields and key != "width"},
    )


def find_measured(backbone: BackboneConfig) -> Measured:
    """A model's row of the table, or of the cache; what is in neither is measured, once."""
    config, _ = _read_checked(backbone)
    digest = digest_of(config)
    if digest in _by_digest():
        return _by_digest()[digest]
    path = Path(paths.SHAPE.format(sha256=digest))
    versions = {library: version(library) for library in ("open_clip_torch", "timm")}
    versions["code"] = code_hash(Path(__file__).with_name("measure.py"))
    try:
        cached = read_record(path)
        if cached["versions"] == versions:
            return Measured(**cached["measured"])
    except (OSError, ValueError, TypeError, KeyError):
        pass  # there is none, or it is damaged
    measured = _measure(backbone, config)
    with suppress(OSError):  # a folder that cannot be written to
        write_record(path, {"versions": versions, "measured": measured._asdict()})
    return measured


def _measure(backbone: BackboneConfig, config: dict[str, Any]) -> Measured:
    from vtclip.backbones.measure import measure_model  # with PyTorch and open_clip

    try:
        return measure_model(config)
    except Exception as error:  # towers of any kind may fail in any way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(
            f"backbone.{key_of(backbone)}: the towers of '{backbone.name}' cannot be built.\n"
            f"  found:    {reason}\n  expected: a configuration that open_clip can build: a ViT or "
            "ResNet with a pooled feature, or a tower of timm's"
        ) from None


# The table.


class Row(NamedTuple):
    """A row of the table."""

    sha256: str  # of the configuration, which several names may share
    measured: Measured
    tags: dict[str, bool]  # tag of weights -> True if they were trained with QuickGELU


@cache
def read_table() -> dict[str, Row]:
    """The table of known models, by their names."""
    with SHAPES.open(encoding="utf-8", newline="") as file:
        return {row["name"]: _parse_row(row) for row in csv.DictReader(file)}


@cache
def _by_digest() -> dict[str, Measured]:
    return {row.sha256: row.measured for row in read_table().values()}


def _parse_row(row: dict[str, str]) -> Row:
    numbers = {
        field: float(row[field]) if field.endswith("flops") else int(row[field])
        for field in Measured._fields[1:]
    }
    tags = {tag.removesuffix("*"): tag.endswith("*") for tag in row["tags"].split()}
    return Row(row["sha256"], Measured(kind=row["kind"], **numbers), tags)  # type: ignore[arg-type]


def list_tags(name: str, *, wanted: str = "") -> dict[str, bool]:
    """Tags of a model's weights -> True if they were trained with QuickGELU.

    A wanted tag that the table does not have may be of a newer open_clip: that is then imported.
    """
    row = read_table().get(name_model(name))
    tags = {} if row is None else row.tags
    if wanted and wanted not in tags:
        from vtclip.backbones.build import read_tags

        return read_tags(name_model(name))
    return tags


def digest_of(config: dict[str, Any]) -> str:
    """The SHA-256 of a model_cfg, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


# Configurations of architectures.


def _read_checked(backbone: BackboneConfig) -> tuple[dict[str, Any], Architecture]:
    """open_clip's model_cfg, as it is and checked; a file of the hub's has it one level down."""
    content = read_content(backbone)
    config = content.get("model_cfg", content) if isinstance(content, dict) else content
    source = f"backbone.architecture: {find_configuration(backbone)}"
    checked = check(Architecture, config, source=source)
    if config is not content:
        check_transform(content, source=source)
    return config, checked


def read_architecture(backbone: BackboneConfig) -> Architecture:
    """A model's configuration, checked."""
    return _read_checked(backbone)[1]


def check_packages(backbone: BackboneConfig) -> None:
    """Refuse a backbone that needs a package which is not installed."""
    part = read_architecture(backbone).text_cfg.needs_transformers
    if part is None or find_spec("transformers") is not None:
        return
    other = f"; or a backbone that needs none, such as {WITHOUT_TRANSFORMERS}"
    raise ConfigError(
        f"backbone.{key_of(backbone)}: the {part} of '{backbone.name}' needs Hugging Face's "
        f"library.\n  found:    no package transformers\n  expected: it, from `{INSTALL}`"
        + ("" if backbone.architecture else other)  # a custom architecture has no other name
    )

"""What a backbone gives, read from its configuration: nothing is built, open_clip not imported."""

import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import Field

from vtclip.backbones.image_shape import Number, Part, Tower, Vision, find_fault, read_tower
from vtclip.backbones.known import INSTALL
from vtclip.backbones.known import find_configuration as find_shared
from vtclip.backbones.text_shape import Decoder, Text
from vtclip.config.backbone_config import BackboneConfig, is_hub_name, name_model
from vtclip.cost import Shape
from vtclip.paths import find_own
from vtclip.settings import ConfigError, check, unknown

PLAIN = "ViT-B-32-quickgelu, MobileCLIP2-S0 or PE-Core-B-16"


class Architecture(Part):
    """A model's configuration in open_clip's JSON form."""

    embed_dim: Number = Field(description="width of the joint space", examples=[512])
    vision_cfg: Vision = Field(
        description="the image tower", examples=[{"image_size": 224, "layers": 12, "width": 768}]
    )
    text_cfg: Text = Field(description="the text tower", examples=[{"width": 512, "layers": 12}])
    multimodal_cfg: Decoder | None = Field(
        default=None, description="the decoder of a CoCa", examples=[{"width": 512, "layers": 12}]
    )
    quick_gelu: bool = False

    @property
    def image_tower(self) -> Tower:
        """What is known of the image tower."""
        return read_tower(self.vision_cfg, self.embed_dim)


def read_content(backbone: BackboneConfig) -> dict[str, Any]:
    """What a model's configuration in open_clip's JSON form holds.

    Raises:
        ConfigError: open_clip has no such model, or the file is not there or no JSON.
    """
    path = find_configuration(backbone)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"backbone.architecture: {path} is no model configuration in open_clip's JSON form: "
            f"{type(error).__name__}: {error}.\n  expected: a file as open_clip's model_configs/ "
            "holds them, with embed_dim, vision_cfg and text_cfg"
        ) from None


def read_architecture(backbone: BackboneConfig) -> Architecture:
    """A model's configuration, checked.

    Raises:
        ConfigError: as `read_content`; a wrong key or value; or towers that cannot be built.
    """
    source = f"backbone.architecture: {find_configuration(backbone)}"
    content = read_content(backbone)
    if isinstance(content, dict):  # a file of the hub's holds it one level down
        content = content.get("model_cfg", content)
    found = check(Architecture, content, source=source)
    fault = find_fault(found.vision_cfg) or found.text_cfg.find_fault()
    if fault is not None:
        raise ConfigError(
            f"backbone.{_key(backbone)}: the towers of '{backbone.name}' cannot be built.\n"
            f"  found:    {fault[0]}\n  expected: {fault[1]}"
        )
    return found


def read_shape(backbone: BackboneConfig) -> Shape:
    """The shape of what a backbone gives.

    Raises:
        ConfigError: as `read_architecture`.
    """
    found = read_architecture(backbone)
    tower, text, dim = found.image_tower, found.text_cfg, found.embed_dim
    decoder = 0 if found.multimodal_cfg is None else found.multimodal_cfg.weights
    return Shape(
        tower.count_tokens(backbone.spatial),
        tower.width if backbone.spatial == "raw" else dim,
        dim,
        prompt_flops=4.0 * text.weights.layers * text.prompt_tokens,
        text_weights=sum(text.weights) + decoder,
        context_length=text.context_length,
        image_flops=tower.flops,
        image_weights=tower.weights,
    )


def check_packages(backbone: BackboneConfig) -> None:
    """Refuse a backbone that needs a package which is not installed.

    Raises:
        ConfigError: with the line that installs it.
    """
    foreign = read_architecture(backbone).text_cfg.foreign
    if foreign is None or has_package("transformers"):
        return
    other = f"; or a backbone that needs none, such as {PLAIN}"
    raise ConfigError(
        f"backbone.{_key(backbone)}: the {foreign} of '{backbone.name}' needs Hugging Face's "
        f"library.\n  found:    no package transformers\n  expected: it, from `{INSTALL}`"
        + ("" if backbone.architecture else other)  # whose name is one's own, has no other
    )


def has_package(name: str) -> bool:
    """Whether a package is installed; it is not imported."""
    return find_spec(name) is not None


def find_configuration(backbone: BackboneConfig) -> Path:
    """The file of a model's configuration: open_clip's, the hub's, or one's own.

    Raises:
        ConfigError: open_clip has no such model, the file is not there, or the hub is out of reach.
    """
    if backbone.architecture is not None:
        path = Path(find_own(backbone.architecture))
        if not path.is_file():
            raise ConfigError(
                f"backbone.architecture: there is no such file.\n  found:    {path}\n"
                "  expected: a model configuration in open_clip's JSON form"
            )
        return path
    if is_hub_name(backbone.name):
        return find_shared(backbone.name)
    known = _known_configurations()
    name = name_model(backbone.name)
    if name not in known:
        raise unknown("backbone", backbone.name, known, source="backbone.name")
    return known[name]


def list_names() -> list[str]:
    """The names of open_clip's models, sorted."""
    return sorted(_known_configurations())


def _key(backbone: BackboneConfig) -> str:
    """The key that names a backbone's configuration."""
    return "name" if backbone.architecture is None else "architecture"


@cache
def open_clip_folder() -> Path:
    """Where open_clip is installed; it is not imported."""
    spec = find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@cache
def _known_configurations() -> dict[str, Path]:
    """open_clip's models, by name."""
    return {path.stem: path for path in (open_clip_folder() / "model_configs").glob("*.json")}

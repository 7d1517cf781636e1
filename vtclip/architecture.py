"""What a backbone gives, read from its configuration: nothing is built, open_clip not imported."""

import ast
import difflib
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StrictInt

from vtclip.cost import Shape
from vtclip.experiment import GLYPHS, Backbone
from vtclip.hub import OWN, find_configuration, is_shared
from vtclip.paths import find_own
from vtclip.settings import LARGEST, ConfigError, Settings, check, unknown

OWN_TOKENS = 12  # of a prompt behind what all have alike; the paper's datasets have 3 to 11 a name

Number = Annotated[StrictInt, Field(ge=1, le=LARGEST)]
Stages = Annotated[list[Number], Field(min_length=4, max_length=4)]


class _Part(Settings):
    """What counts of a part of open_clip's JSON; what a file leaves out, open_clip has too."""

    model_config = ConfigDict(extra="ignore")


class Vision(_Part):
    """An image tower."""

    image_size: Number = Field(default=224, description="pixels of a side", examples=[224])
    layers: Number | Stages = Field(
        default=12, description="of a ViT a number, of a ResNet four", examples=[12]
    )
    width: Number = Field(default=768, description="width of the layers", examples=[768])
    patch_size: Number | None = Field(
        default=16, description="pixels of a patch's side, of a ViT", examples=[16]
    )
    timm_model_name: str | None = None
    attentional_pool: Any = None


class Text(_Part):
    """A text tower."""

    context_length: Number = Field(default=77, description="tokens of a text", examples=[77])
    vocab_size: Number = Field(default=49408, description="known tokens", examples=[49408])
    width: Number = Field(default=512, description="width of the layers", examples=[512])
    layers: Number = Field(default=12, description="number of layers", examples=[12])
    no_causal_mask: bool = False
    pool_type: str = "argmax"
    hf_model_name: str | None = None
    hf_tokenizer_name: str | None = None

    @property
    def prompt_tokens(self) -> int:
        """About how many tokens of a prompt go through the tower (vtclip.features.text_tower)."""
        is_causal = not self.no_causal_mask and self.pool_type == "argmax"
        return min(OWN_TOKENS, self.context_length) if is_causal else self.context_length


class Architecture(_Part):
    """A model's configuration in open_clip's JSON form."""

    embed_dim: Number = Field(description="width of the joint space", examples=[512])
    vision_cfg: Vision = Field(
        description="the image tower", examples=[{"image_size": 224, "layers": 12, "width": 768}]
    )
    text_cfg: Text = Field(description="the text tower", examples=[{"width": 512, "layers": 12}])
    multimodal_cfg: Any = None
    quick_gelu: bool = False

    def find_fault(self) -> tuple[str, str] | None:
        """What was found and what is expected, of towers that this package cannot read."""
        vision, text = self.vision_cfg, self.text_cfg
        expected = "a ResNet or a ViT of open_clip's own as the image tower"
        if vision.timm_model_name is not None:
            return f"{vision.timm_model_name} of timm", expected
        if vision.attentional_pool or self.multimodal_cfg is not None:
            return "a CoCa", expected
        if isinstance(vision.layers, int) and vision.patch_size is None:
            return "no patch_size", "vision_cfg with the patch_size of a ViT"
        expected = "a text tower of open_clip's own"
        if text.hf_model_name is not None:
            return f"{text.hf_model_name} of Hugging Face", expected
        if text.hf_tokenizer_name is not None:
            found = f"the tokenizer {text.hf_tokenizer_name} of Hugging Face"
            return found, f"{expected}, with its tokenizer"
        return None


def read_content(backbone: Backbone) -> dict[str, Any]:
    """What a model's configuration in open_clip's JSON form holds.

    Raises:
        ConfigError: open_clip has no such model, or the file is not there or no JSON.
    """
    path = _find_configuration(backbone)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"backbone.architecture: {path} is no model configuration in open_clip's JSON form: "
            f"{type(error).__name__}: {error}.\n  expected: a file as open_clip's model_configs/ "
            "holds them, with embed_dim, vision_cfg and text_cfg"
        ) from None


def read_architecture(backbone: Backbone) -> Architecture:
    """A model's configuration, checked.

    Raises:
        ConfigError: as `read_content`; a wrong key or value; or towers that cannot be used.
    """
    source = f"backbone.architecture: {_find_configuration(backbone)}"
    content = read_content(backbone)
    if isinstance(content, dict):  # a file of the hub's holds it one level down
        content = content.get("model_cfg", content)
    found = check(Architecture, content, source=source)
    fault = found.find_fault()
    if fault is not None:
        key, write = "architecture", ""
        if backbone.architecture is None:
            key, write = "name", "\n  write:\n    name: ViT-B-32-quickgelu"
        raise ConfigError(
            f"backbone.{key}: the towers of '{backbone.name}' cannot be used.\n"
            f"  found:    {fault[0]}\n  expected: {fault[1]}{write}"
        )
    return found


def read_shape(backbone: Backbone) -> Shape:
    """The shape of what a backbone gives.

    Raises:
        ConfigError: as `read_architecture`.
    """
    found = read_architecture(backbone)
    vision, text, dim = found.vision_cfg, found.text_cfg, found.embed_dim
    if isinstance(vision.layers, list):  # a ResNet: 1/32 of the size, and 32 times the width
        places, width = (vision.image_size // 32) ** 2, 32 * vision.width
    else:
        assert vision.patch_size is not None
        places, width = (vision.image_size // vision.patch_size) ** 2, vision.width
    weights = 12 * text.width**2 * text.layers
    tokens, width = (places, width) if backbone.spatial == "raw" else (places + 1, dim)
    return Shape(
        tokens, width, dim,
        prompt_flops=4.0 * weights * text.prompt_tokens,
        text_weights=weights + text.vocab_size * text.width,
        context_length=text.context_length,
    )  # fmt: skip


def check_weights(backbone: Backbone) -> None:
    """Refuse weights that are nowhere, or that were trained with another activation.

    Raises:
        ConfigError: with what was found and which weights there are.
    """
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
    if backbone.pretrained == OWN and is_shared(backbone.name):
        return  # the hub has them
    tags = {} if backbone.architecture else _known_tags(backbone.name)
    if backbone.pretrained not in tags:
        known = f"one of {', '.join(tags)}, or " if tags else ""
        close = difflib.get_close_matches(backbone.pretrained.lower(), tags, n=1)
        write = f"\n  write:\n    pretrained: {close[0]}" if close else ""
        raise ConfigError(
            f"backbone.pretrained: there are no such weights of '{backbone.name}'.{found}{known}a "
            f"file of weights{write}"
        )
    if tags[backbone.pretrained] and not read_architecture(backbone).quick_gelu:
        raise ConfigError(
            f"backbone.name: the weights '{backbone.pretrained}' were trained with QuickGELU, and "
            f"'{backbone.name}' has GELU.\n  found:    name: {backbone.name}\n"
            f"  expected: a name that ends with -quickgelu\n  write:\n"
            f"    name: {backbone.name}-quickgelu"
        )


def _find_configuration(backbone: Backbone) -> Path:
    if backbone.architecture is not None:
        path = Path(find_own(backbone.architecture))
        if not path.is_file():
            raise ConfigError(
                f"backbone.architecture: there is no such file.\n  found:    {path}\n"
                "  expected: a model configuration in open_clip's JSON form"
            )
        return path
    if is_shared(backbone.name):
        return find_configuration(backbone.name)
    known = _known_configurations()
    name = _own_name(backbone.name)
    if name not in known:
        usable = [name for name, path in known.items() if _is_usable(path)]
        raise unknown("backbone", backbone.name, usable, source="backbone.name")
    return known[name]


def _own_name(name: str) -> str:
    """A model's name as open_clip's files have it: `ViT-B-32` of `ViT-B/32`."""
    return name.replace("/", "-")


def _is_usable(path: Path) -> bool:
    """Whether this package can read the towers of one of open_clip's models."""
    return Architecture.model_validate_json(path.read_bytes()).find_fault() is None


@cache
def _open_clip() -> Path:
    spec = find_spec("open_clip")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@cache
def _known_configurations() -> dict[str, Path]:
    """open_clip's models, by name."""
    return {path.stem: path for path in (_open_clip() / "model_configs").glob("*.json")}


def _known_tags(name: str) -> dict[str, bool]:
    """The tags of a model's weights, and whether they were trained with QuickGELU.

    From the source of open_clip's table: importing it takes two seconds, each time that one plans.
    """
    tables, name = {}, _own_name(name)
    for node in ast.parse((_open_clip() / "pretrained.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            tables[node.targets[0].id] = node.value
    models = tables["_PRETRAINED"]
    assert isinstance(models, ast.Dict)
    for key, value in zip(models.keys, models.values, strict=True):
        if isinstance(key, ast.Constant) and key.value == name.removesuffix("-quickgelu"):
            table = tables[value.id] if isinstance(value, ast.Name) else value
            assert isinstance(table, ast.Call)
            tags = {str(tag.arg): _has_quick_gelu(tag.value) for tag in table.keywords}
            wanted = [tag for tag in tags if tags[tag] or not name.endswith("-quickgelu")]
            return {tag: tags[tag] for tag in wanted}
    return {}


def _has_quick_gelu(weights: ast.expr) -> bool:
    assert isinstance(weights, ast.Call)
    return any(
        keyword.arg == "quick_gelu" and getattr(keyword.value, "value", False)
        for keyword in weights.keywords
    )

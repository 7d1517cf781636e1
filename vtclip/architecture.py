"""What a backbone gives, read from its configuration: nothing is built, open_clip not imported."""

import ast
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vtclip.cost import Shape
from vtclip.experiment import GLYPHS, Backbone
from vtclip.paths import find_own
from vtclip.settings import ConfigError, unknown

VOCABULARY, CONTEXT = 49408, 77  # of open_clip's own tokenizer, and of CLIP's text tower


def read_architecture(backbone: Backbone) -> dict[str, Any]:
    """A model's configuration in open_clip's JSON form.

    Raises:
        ConfigError: open_clip has no such model, or the file is not there or no such JSON.
    """
    path = _find_configuration(backbone)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found["embed_dim"], found["vision_cfg"], found["text_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"backbone.architecture: {path} is no model configuration in open_clip's JSON form: "
            f"{type(error).__name__}: {error}.\n  expected: a file as open_clip's model_configs/ "
            "holds them, with embed_dim, vision_cfg and text_cfg"
        ) from None
    return found


def read_shape(backbone: Backbone) -> Shape:
    """The shape of what a backbone gives.

    Raises:
        ConfigError: as `read_architecture`; or towers that cannot be used.
    """
    found = read_architecture(backbone)
    _check_towers(backbone, found)
    vision: dict[str, Any] = found["vision_cfg"]
    size, dim = vision.get("image_size", 224), found["embed_dim"]
    if isinstance(vision.get("layers"), list):  # a ResNet: 1/32 of the size, and 32 times the width
        places, width = (size // 32) ** 2, 32 * vision.get("width", 64)
    else:
        places, width = (size // vision.get("patch_size", 16)) ** 2, vision.get("width", 768)
    text: dict[str, Any] = found["text_cfg"]
    weights = 12 * text["width"] ** 2 * text["layers"]
    context = text.get("context_length", CONTEXT)
    tokens, width = (places, width) if backbone.spatial == "raw" else (places + 1, dim)
    return Shape(
        tokens, width, dim,
        prompt_flops=4.0 * weights * context,
        text_weights=weights + text.get("vocab_size", VOCABULARY) * text["width"],
        context_length=context,
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
    tags = {} if backbone.architecture else _known_tags(backbone.name)
    tag = backbone.pretrained.lower().replace("-", "_")
    if tag not in tags:
        known = f"one of {', '.join(tags)}, or " if tags else ""
        raise ConfigError(
            f"backbone.pretrained: there are no such weights of '{backbone.name}'.{found}{known}a "
            "file of weights"
        )
    quick = read_architecture(backbone).get("quick_gelu", False)
    if tags[tag] and not quick:
        raise ConfigError(
            f"backbone.name: the weights '{backbone.pretrained}' were trained with QuickGELU, and "
            f"'{backbone.name}' has GELU.\n  found:    name: {backbone.name}\n"
            f"  expected: a name that ends with -quickgelu\n  write:\n"
            f"    name: {backbone.name}-quickgelu"
        )


def _check_towers(backbone: Backbone, found: dict[str, Any]) -> None:
    """Refuse towers that this package cannot read.

    Raises:
        ConfigError: with what was found and which towers can be used.
    """
    vision, text = found["vision_cfg"], found["text_cfg"]
    expected, tower = "a ResNet or a ViT of open_clip's own as the image tower", None
    if "timm_model_name" in vision:
        tower = f"{vision['timm_model_name']} of timm"
    elif vision.get("attentional_pool") or "multimodal_cfg" in found:
        tower = "a CoCa"
    elif "hf_model_name" in text:
        expected = "a text tower of open_clip's own"
        tower = f"{text['hf_model_name']} of Hugging Face"
    elif not {"width", "layers"} <= set(text):
        expected, tower = "text_cfg with width and layers", f"text_cfg with {', '.join(text)}"
    if tower is not None:
        raise ConfigError(
            f"backbone.name: the towers of '{backbone.name}' cannot be used.\n"
            f"  found:    {tower}\n  expected: {expected}\n  write:\n    name: ViT-B-32-quickgelu"
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
    known = _known_configurations()
    name = backbone.name.replace("/", "-")
    if name not in known:
        raise unknown("backbone", backbone.name, known, source="backbone.name")
    return known[name]


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
    tables = {}
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

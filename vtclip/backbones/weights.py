"""Which weights a backbone may have: open_clip's tags, from its own table, or a file."""

import ast
import difflib
from functools import cache
from pathlib import Path

from vtclip.backbones.shapes import open_clip_folder, read_architecture
from vtclip.config.backbone_config import GLYPHS, OWN, BackboneConfig, is_hub_name, name_model
from vtclip.settings import ConfigError


def check_weights(backbone: BackboneConfig) -> None:
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
    if tags[backbone.pretrained] and not read_architecture(backbone).quick_gelu:
        raise ConfigError(
            f"backbone.name: the weights '{backbone.pretrained}' were trained with QuickGELU, and "
            f"'{backbone.name}' has GELU.\n  found:    name: {backbone.name}\n"
            f"  expected: a name that ends with -quickgelu\n  write:\n"
            f"    name: {backbone.name}-quickgelu"
        )


def list_tags(name: str) -> dict[str, bool]:
    """The tags of a model's weights, and whether they were trained with QuickGELU.

    From the source of open_clip's table: importing it takes two seconds, each time that one plans.
    """
    tables, name = _parse_tables(), name_model(name)
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


@cache
def _parse_tables() -> dict[str, ast.expr]:
    """The tables of open_clip's module of weights, by name."""
    source = (open_clip_folder() / "pretrained.py").read_text(encoding="utf-8")
    return {
        node.targets[0].id: node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def _has_quick_gelu(weights: ast.expr) -> bool:
    assert isinstance(weights, ast.Call)
    return any(
        keyword.arg == "quick_gelu" and getattr(keyword.value, "value", False)
        for keyword in weights.keywords
    )

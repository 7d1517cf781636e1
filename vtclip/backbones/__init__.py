"""The frozen CLIP: names, shapes, weights and towers."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vtclip.backbones.backbone import Backbone, load_backbone
    from vtclip.backbones.prompts import TextTower

__all__ = ["Backbone", "TextTower", "load_backbone"]


def __getattr__(name: str) -> Any:
    """Import on first use: planning needs shapes and names, and must not import PyTorch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    module = "prompts" if name == "TextTower" else "backbone"
    return getattr(import_module(f"{__name__}.{module}"), name)

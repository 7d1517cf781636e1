"""The methods: one module each, and one line each in the registry."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from vtclip.methods.base import Method
from vtclip.settings import ConfigError, Settings, check, unknown

# name -> module and class. The module is imported only when the method is asked for.
_REGISTRY = {
    "zero_shot": "vtclip.methods.zero_shot:ZeroShot",
    "linear_probe": "vtclip.methods.linear_probe:LinearProbe",
    "calip": "vtclip.methods.calip:CALIP",
    "clip_adapter": "vtclip.methods.clip_adapter:CLIPAdapter",
    "tip_adapter": "vtclip.methods.tip_adapter:TipAdapter",
    "tip_adapter_f": "vtclip.methods.tip_adapter_f:TipAdapterF",
    "coop": "vtclip.methods.coop:CoOp",
    "vt_clip": "vtclip.methods.vt_clip:VTClip",
}


class _Methods(Mapping[str, type[Method]]):
    """The registry as a mapping from names to classes."""

    def __getitem__(self, name: str) -> type[Method]:
        if name not in _REGISTRY:
            raise unknown("method", name, _REGISTRY, source="methods")
        module, _, attribute = _REGISTRY[name].partition(":")
        return getattr(import_module(module), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(_REGISTRY)

    def __len__(self) -> int:
        return len(_REGISTRY)

    def __contains__(self, name: object) -> bool:
        return name in _REGISTRY


METHODS = _Methods()


def method_module(name: str) -> str:
    """The module of a method, for the hash of its code."""
    return METHODS[name].__module__


def check_methods(
    methods: Mapping[str, Any], *, source: str, spatial: str = "projected"
) -> dict[str, Settings]:
    """Check the names and the settings of the methods of an experiment.

    Args:
        methods: name -> settings as plain values, or None for the defaults.
        source: the configuration's name, for the error.
        spatial: the kind of spatial features that the backbone gives.

    Returns:
        name -> settings, in the registry's order.

    Raises:
        ConfigError: an unknown method, an unknown setting, a value out of range, or spatial
            features that a method cannot read.
    """
    for name in methods:
        if name not in METHODS:
            raise unknown("method", name, METHODS, source=f"{source}: methods")
        check_spatial(name, spatial, source=source)
    return {
        name: check(
            METHODS[name].settings_type, methods[name] or {}, source=f"{source}: methods.{name}"
        )
        for name in METHODS
        if name in methods
    }


def check_spatial(method: str, spatial: str, *, source: str) -> None:
    """Refuse spatial features that a method cannot read.

    Raises:
        ConfigError: the method needs them in the joint space, and they are not.
    """
    if METHODS[method].needs_projected and spatial != "projected":
        raise ConfigError(
            f"{source}: {method} compares spatial features with texts, in the joint space.\n"
            f"  found:    spatial: {spatial}\n  expected: projected\n  write:\n"
            "    spatial: projected"
        )

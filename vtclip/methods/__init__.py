"""The methods: one module each, and being in this folder is all that registers it.

So is being in methods/ of the working directory, for a user's own.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from traceback import extract_tb
from types import ModuleType
from typing import Any

from vtclip import paths
from vtclip.methods.base import Method
from vtclip.settings import ConfigError, Settings, check, unknown

__path__.append(str(Path(paths.METHODS).absolute()))


class _Methods(Mapping[str, type[Method]]):
    """The folder as a mapping from sorted names to classes, imported on first use."""

    def __getitem__(self, name: str) -> type[Method]:
        return _find_class(_import(name))

    def __iter__(self) -> Iterator[str]:
        files = {found.name for found in iter_modules(__path__) if not found.ispkg}
        return iter(sorted(filter(_is_method_name, files)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return any(name == known for known in self)


METHODS = _Methods()


def _is_method_name(name: str) -> bool:
    return name != "base" and not name.startswith("_") and name.isidentifier()


@cache  # a plan calls it thousands of times
def _find_class(module: ModuleType) -> type[Method]:
    """The one method that a module defines; ConfigError if it defines none, or several."""
    own = (value for value in vars(module).values() if isinstance(value, type))
    classes = {
        kind for kind in own if issubclass(kind, Method) and kind.__module__ == module.__name__
    }
    if len(classes) == 1:
        return classes.pop()
    name = module.__name__.rpartition(".")[2]
    found = ", ".join(sorted(value.__name__ for value in classes)) or "none"
    raise ConfigError(
        f"{module.__file__}: which class is the method '{name}'?\n  found:    {found}\n"
        "  expected: one class that inherits from vtclip.methods.base.Method; a file that is "
        "no method has a name that begins with '_'"
    )


def _import(name: str) -> ModuleType:
    """Import a method's module; ConfigError if there is none, or its file fails."""
    full = f"{__name__}.{name}"
    try:
        if _is_method_name(name):
            return import_module(full)
    except Exception as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != full:
            raise _describe_failure(full, error) from error
    raise unknown("method", name, METHODS, source="methods")


def _describe_failure(module: str, error: Exception) -> ConfigError:
    """Make the error for a file that cannot be imported, with its line that failed."""
    spec = find_spec(module)
    file = spec.origin if spec is not None else module
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == file]
    place = f"{file}, line {lines[-1]}" if lines else file
    return ConfigError(f"{place}: cannot be imported: {type(error).__name__}: {error}")


def make_method(name: str, settings: Mapping[str, Any]) -> Method:
    """The method with its settings, which are plain values."""
    kind = METHODS[name]
    return kind(kind.settings_type.model_validate(settings))


def check_methods(methods: Mapping[str, Any], *, source: str) -> dict[str, Settings]:
    """Check an experiment's methods, name -> plain values or None; the order stays, the tables'."""
    for name in methods:
        if name not in METHODS:
            raise unknown("method", name, METHODS, source=f"{source}: methods")
        _check_one_file(name)
    return {
        name: check(METHODS[name].settings_type, values or {}, source=f"{source}: methods.{name}")
        for name, values in methods.items()
    }


def _check_one_file(name: str) -> None:
    """Refuse a user's method with the name of another: it would never run."""
    files = [file for place in __path__ if (file := Path(place, f"{name}.py")).is_file()]
    if len(files) > 1:
        raise ConfigError(
            f"{files[1]}: there is a method of this name already.\n  found:    {files[0]}\n"
            "  expected: another name for your file, and under `methods:` in the configuration"
        )


def check_spatial(method: str, spatial: str, *, source: str) -> None:
    """Refuse spatial features that a method cannot read."""
    if METHODS[method].needs_projected and spatial != "projected":
        raise ConfigError(
            f"{source}: {method} compares spatial features with texts, in the joint space.\n"
            f"  found:    spatial: {spatial}\n  expected: projected\n  write:\n"
            "    spatial: projected"
        )

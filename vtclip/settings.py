"""Checked settings: every wrong key or value ends in one error that says how to mend it."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the key, what was found and the cure."""


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change once checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    def for_dataset(self, dataset: str) -> Self:
        """The settings as they hold for one dataset."""
        return self


Checked = TypeVar("Checked", bound=Settings)


def check(model: type[Checked], values: Any, *, source: str) -> Checked:
    """Turn plain values into checked settings.

    Args:
        model: the settings' type.
        values: what the YAML file holds.
        source: the file, and the key inside it, that the values came from.

    Raises:
        ConfigError: with one paragraph for each wrong key.
    """
    if not isinstance(values, Mapping):
        keys = ", ".join(model.model_fields)
        raise ConfigError(f"{source}: expected keys ({keys}), found {values!r}.")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise ConfigError(
            "\n".join(_explain(model, dict(problem), source) for problem in problems)
        ) from None


def unknown(kind: str, name: str, known: Iterable[str], *, source: str) -> ConfigError:
    """The error for a name that nobody knows: `Unknown method 'x'; known: a, b, c`."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return ConfigError(f"{source}: Unknown {kind} '{name}'; known: {', '.join(names)}.{hint}")


def _explain(model: type[BaseModel], problem: dict[str, Any], source: str) -> str:
    """One wrong key as a paragraph: where, found, expected, and the lines to write instead."""
    location = problem["loc"]
    key = ".".join(str(part) for part in location) or "(the whole file)"
    owner, field = _find_field(model, location)
    lines = [f"{source}: {key}: {problem['msg']}."]
    if problem["type"] == "extra_forbidden":
        names = sorted(owner.model_fields)
        close = difflib.get_close_matches(str(location[-1]), names, n=1)
        lines = [f"{source}: {key}: there is no such key; known: {', '.join(names)}."]
        field = owner.model_fields[close[0]] if close else None
        location = (*location[:-1], close[0]) if close else location
    if problem["type"] != "missing":
        lines.append(f"  found:    {key.rpartition('.')[2]}: {_short(problem['input'])}")
    if field is not None:
        if field.description:
            lines.append(f"  expected: {field.description}")
        if field.examples:
            name = next(part for part in reversed(location) if isinstance(part, str))
            lines += ["  write:", f"    {name}: {_inline(field.examples[0])}"]
    return "\n".join(lines)


def _find_field(
    model: type[BaseModel], location: tuple[str | int, ...]
) -> tuple[type[BaseModel], FieldInfo | None]:
    """The innermost model on the way to a wrong value, and the field there, if it has one."""
    owner, field = model, None
    for part in location:
        found = owner.model_fields.get(str(part))
        if found is None:
            continue
        field = found
        inner = [
            kind for kind in (field.annotation, *get_args(field.annotation)) if _is_model(kind)
        ]
        if inner and part != location[-1]:
            owner, field = inner[0], None
    return owner, field


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _inline(value: Any) -> str:
    """YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _short(value: Any, limit: int = 80) -> str:
    text = _inline(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."

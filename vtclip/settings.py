"""Checked settings: every wrong key or value ends in one error that says how to mend it."""

import difflib
from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any, Self, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the key, what was found and the cure."""


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change once checked.

    A subclass may change defaults of the fields that it inherits, and states each once:

        class MySettings(Recipe, defaults={"learning_rate": 0.002}): ...

    Type, bounds and description stay the field's; a single example becomes the new default.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
        allow_inf_nan=False,  # they would pass every bound, and fail hours later
    )

    # For type checkers, which look for the keywords of a class statement here.
    def __init_subclass__(cls, *, defaults: Mapping[str, Any] | None = None, **config: Any) -> None:
        super().__init_subclass__(**config)

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, defaults: Mapping[str, Any] | None = None, **config: Any
    ) -> None:
        """Change defaults, once pydantic has collected the fields.

        Raises:
            TypeError: a name that is no field.
            ValidationError: a default that the field itself would refuse.
        """
        super().__pydantic_init_subclass__(**config)
        if not defaults:
            return
        for name, value in defaults.items():
            if name not in cls.model_fields:
                known = ", ".join(sorted(cls.model_fields))
                raise TypeError(f"{cls.__name__}: no field '{name}'; known: {known}.")
            cls.model_fields[name] = _with_default(cls.model_fields[name], value)
        cls.model_rebuild(force=True)
        _check_defaults(cls, defaults)

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


def misfit(key: str, problem: str, *, found: Any, expected: str, write: Any) -> ConfigError:
    """The error for a setting that does not go with the backbone.

    It names no file: the caller, who knows it, writes it before the message.

    Args:
        key: the setting.
        problem: what is wrong with it, without a point at the end.
        found: its value.
        expected: what it may be, in words.
        write: a value that would do.
    """
    return ConfigError(
        f"{key}: {problem}.\n  found:    {key}: {_short(found)}\n  expected: {expected}\n"
        f"  write:\n    {key}: {_inline(write)}"
    )


def _with_default(field: FieldInfo, value: Any) -> FieldInfo:
    """A copy of a field, so that the parent's stays as it is."""
    changed = copy(field)
    changed.default, changed.default_factory = value, None
    nothing = value is None or value == {} or value == []  # which shows nobody what to write
    if len(changed.examples or []) == 1 and not nothing:
        changed.examples = [value]
    return changed


def _check_defaults(model: type[Settings], defaults: Mapping[str, Any]) -> None:
    """Pydantic takes defaults unseen; these pass where a user's values would."""
    try:
        model.model_validate(dict(defaults))
    except ValidationError as error:
        if any(problem["type"] != "missing" for problem in error.errors()):
            raise


def _explain(model: type[BaseModel], problem: dict[str, Any], source: str) -> str:
    """One wrong key as a paragraph: where, found, expected, and the lines to write instead."""
    location = problem["loc"]
    key = ".".join(str(part) for part in location) or "(the whole file)"
    owner, field, name = _find_field(model, location)
    lines = [f"{source}: {key}: {problem['msg'].removeprefix('Value error, ')}."]
    if problem["type"] == "extra_forbidden":
        names = sorted(owner.model_fields)
        close = difflib.get_close_matches(str(location[-1]), names, n=1)
        lines = [f"{source}: {key}: there is no such key; known: {', '.join(names)}."]
        field, name = (owner.model_fields[close[0]], close[0]) if close else (None, name)
    if problem["type"] != "missing":
        lines.append(f"  found:    {key.rpartition('.')[2]}: {_short(problem['input'])}")
    if field is not None:
        if field.description:
            lines.append(f"  expected: {field.description}")
        if field.examples:
            lines += ["  write:", f"    {name}: {_inline(field.examples[0])}"]
    return "\n".join(lines)


def _find_field(
    model: type[BaseModel], location: tuple[str | int, ...]
) -> tuple[type[BaseModel], FieldInfo | None, str]:
    """The innermost model on the way to a wrong value, and the field there with its name."""
    owner, field, name = model, None, ""
    for part in location:
        found = owner.model_fields.get(str(part))
        if found is None:
            continue
        field, name = found, str(part)
        inner = [
            kind for kind in (field.annotation, *get_args(field.annotation)) if _is_model(kind)
        ]
        if inner and part != location[-1]:
            owner, field = inner[0], None
    return owner, field, name


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _inline(value: Any) -> str:
    """YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return text.removesuffix("...\n").strip()


def _short(value: Any, limit: int = 80) -> str:
    text = _inline(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."

"""Checked settings: every wrong key or value ends in one error that says how to mend it."""

import difflib
import os
from collections.abc import Iterable, Mapping
from copy import copy
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo

from vtclip.cures import explain
from vtclip.errors import ConfigError as ConfigError
from vtclip.yaml_text import inline, shorten

LARGEST = 2**31 - 1  # the largest whole number that columns of tables hold
WIDEST = 2**63 - 1  # the largest that anything holds


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

    @field_validator("*")
    @classmethod
    def _be_held(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > WIDEST:
            raise ValueError(f"Input should be {WIDEST} at most")
        return value

    def for_dataset(self, dataset: str) -> Self:
        """The settings as they hold for one dataset."""
        return self


def _be_a_path(text: str) -> str:
    sizes = [len(os.fsencode(part)) for part in Path(text).parts]
    if max(sizes, default=0) > 255 or sum(sizes) + len(sizes) > 4095 or "\0" in text:
        raise ValueError(
            "no file can be called so: a part of a path has 255 bytes at most, a path 4095"
        )
    return text


PathText = Annotated[str, AfterValidator(_be_a_path)]
"""A path that a user writes."""

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
        raise ConfigError(f"{source}: expected keys ({keys}), found {shorten(values)}.")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = error.errors(include_url=False)
        raise ConfigError(explain(model, problems, values, source)) from None


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
        f"{key}: {problem}.\n  found:    {key}: {shorten(found)}\n  expected: {expected}\n"
        f"  write:\n    {key}: {inline(write)}"
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

"""Checked settings: every wrong key or value ends in one error that says how to mend it."""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypeVar, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, field_validator
from pydantic.fields import FieldInfo
from yaml.representer import SafeRepresenter


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the key, what was found and the cure."""

    def __init__(self, message: str) -> None:
        # A name that is not UTF-8 is told all the same, and can be written to a log.
        super().__init__(message.encode(errors="backslashreplace").decode())


def to_yaml(value: Any) -> str:
    """A value, such as a whole configuration, as YAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def inline(value: Any) -> str:
    """A value as YAML on one line, for messages; what YAML cannot show, in other words."""
    try:
        text = yaml.dump(
            value, Dumper=_Dumper, default_flow_style=True, width=float("inf"), sort_keys=False
        )
    except (yaml.YAMLError, ValueError, RecursionError):
        return f"<a {type(value).__name__} that YAML cannot show>"
    return text.removesuffix("...\n").strip()


def shorten(value: Any, limit: int = 80) -> str:
    """The same, cut to some letters."""
    text = inline(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class _Dumper(yaml.SafeDumper):
    """YAML of plain values; of any other its Python form, as text."""


# Snakemake makes ordered mappings of JSON.
_Dumper.add_multi_representer(dict, SafeRepresenter.represent_dict)
_Dumper.add_multi_representer(object, lambda dumper, value: dumper.represent_str(f"{value!r}"))


Location = tuple[Any, ...]


class _Problem(NamedTuple):
    """One wrong value or key."""

    location: Location
    """keys and places in lists on the way to it"""
    kind: str
    """as pydantic calls it"""
    message: str
    found: Any
    of_key: bool
    """whether it is the key itself that is wrong"""


class _Place(NamedTuple):
    """Where a location leads to in a model."""

    owner: type[BaseModel]
    """the innermost model"""
    field: FieldInfo | None
    name: str
    inside: Location
    """the rest of the way, inside the field's value"""


def explain(
    model: type[BaseModel], errors: Iterable[Mapping[str, Any]], values: Any, source: str
) -> str:
    """A paragraph for each wrong key.

    Args:
        model: the settings' type.
        errors: what pydantic has found.
        values: what was checked.
        source: the file, and the key inside it, that the values came from.
    """
    return "\n".join(_explain(model, problem, source) for problem in _gather(errors, values))


def _gather(errors: Iterable[Mapping[str, Any]], values: Any) -> list[_Problem]:
    """The problems, each place once: a value of two types has an error for each of them."""
    found: dict[Location, list[_Problem]] = {}
    for error in errors:
        problem = _read(error, values)
        found.setdefault(problem.location, []).append(problem)
    return [
        first._replace(message=_join([problem.message for problem in [first, *others]]))
        for place, (first, *others) in found.items()
        # The type that fits further in is the one that was meant.
        if not any(len(deeper) > len(place) == _shared(deeper, place) for deeper in found)
    ]


def _read(error: Mapping[str, Any], values: Any) -> _Problem:
    """An error of pydantic's, by the way through the values: it also names the types it has tried.

    Of a wrong key the value beside it is what was found.
    """
    location: list[Any] = []
    for part in error["loc"]:
        if isinstance(values, Mapping):
            keys = [key for key in values if str(key) == str(part)]
        else:
            is_place = isinstance(values, list) and isinstance(part, int) and part < len(values)
            keys = [part] if is_place else []
        if keys:
            location.append(keys[0])
            values = values[keys[0]]
    if error["type"] == "missing" or (error["loc"] and not location):  # a key that is left out
        location.append(error["loc"][-1])
        values = error["input"]
    of_key = error["loc"][-1:] == ("[key]",)
    message = error["msg"].removeprefix("Value error, ")
    if of_key:
        message = message.replace("Input", "the key", 1)
    return _Problem(tuple(location), error["type"], message, values, of_key)


def _shared(one: Location, other: Location) -> int:
    """How many parts two ways begin with together."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _join(messages: Sequence[str]) -> str:
    first, *others = messages
    return ", or ".join([first, *(other.removeprefix("Input should be ") for other in others)])


def _explain(model: type[BaseModel], problem: _Problem, source: str) -> str:
    location = problem.location
    key = ".".join(str(part) for part in location) or "(the whole file)"
    place = _find(model, location)
    message = problem.message
    if problem.kind == "extra_forbidden":
        names = sorted(place.owner.model_fields)
        message = f"there is no such key; known: {', '.join(names)}"
        close = difflib.get_close_matches(str(location[-1]), names, n=1)
        meant = place.owner.model_fields[close[0]] if close else None
        place = place._replace(field=meant, name="".join(close), inside=())
    lines = [f"{source}: {key}: {message}."]
    if problem.kind != "missing":
        last = str(location[-1]) if location else key
        lines.append(f"  found:    {last}: {shorten(problem.found)}")
    if place.field is not None:
        if place.field.description:
            lines.append(f"  expected: {place.field.description}")
        if place.field.examples:
            cure = _find_cure(problem, place.field.examples[0], place.inside)
            lines += [] if cure is None else ["  write:", f"    {place.name}: {inline(cure)}"]
    return "\n".join(lines)


def _find(model: type[BaseModel], location: Location) -> _Place:
    owner, field, name, inside = model, None, "", location
    for number, part in enumerate(location):
        found = owner.model_fields.get(str(part))
        if found is None:
            if isinstance(part, int) and field is None:
                continue  # a place in a list of models
            break
        field, name, inside = found, str(part), location[number + 1 :]
        models = [kind for kind in _types_of(field.annotation) if _is_model(kind)]
        if not models or not any(isinstance(rest, str) for rest in inside):
            break
        owner, field = models[0], None
    return _Place(owner, field, name, inside)


def _types_of(annotation: Any) -> tuple[Any, ...]:
    return (annotation, *get_args(annotation))


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _find_cure(problem: _Problem, example: Any, inside: Location) -> Any:
    """The field's example; of a mapping the user's own key, with a value that would do.

    Returns:
        None where nothing is known that would do.
    """
    if not inside or not isinstance(example, Mapping):
        return example
    key, found = inside[0], problem.found
    if problem.of_key:
        return {inline(key): found} if problem.kind == "string_type" else example
    if problem.kind == "string_type" and isinstance(found, int | float):
        return {key: inline(found)}
    if problem.kind == "list_type" and not isinstance(found, Mapping):
        return {key: [found]}
    if problem.kind == "too_short":
        return {key: example[key]} if key in example else None
    return {key: example.get(key, next(iter(example.values())))}


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

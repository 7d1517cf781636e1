"""Typed settings, and errors that name the wrong key and the lines to write instead."""

import copy
import datetime
import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from yaml.composer import ComposerError

from vtclip.wording import LETTERS, bound, clip, did_you_mean, inline, list_some, shorten

LARGEST = 2**31 - 1  # the largest whole number of a table's columns
FEW = 5  # wrong keys that an error explains
WIDEST = 2**63 - 1  # the largest of a machine word
NO_DEFAULT = "default_factory_not_called"  # pydantic's name of it

Location = tuple[Any, ...]  # keys and places in lists on the way to a value


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the key, the value and what to write."""

    def __init__(self, message: str) -> None:
        # A name that is not UTF-8 is shown all the same, and can be written to a log.
        super().__init__(bound(message.encode(errors="backslashreplace").decode()))


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change once checked."""

    illustrated: ClassVar[frozenset[str]] = frozenset()  # examples of these fit other data alone
    internal: ClassVar[frozenset[str]] = frozenset()  # keys that no user writes
    model_config = ConfigDict(
        extra="forbid",
        use_attribute_docstrings=True,  # what messages say is expected
        frozen=True,
        protected_namespaces=(),
        validate_default=True,  # a method's own settings have bounds too
        allow_inf_nan=False,  # they would pass every bound, and fail hours later
    )

    @field_validator("*", mode="before")
    @classmethod
    def _check_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `yes` and `off` where numbers are expected: Pydantic reads them as 1 and 0."""
        kinds = _list_kinds(cls.model_fields[info.field_name or ""].annotation)
        if kinds & {int, float} and not kinds & {bool, Any} and _has_truth(value):
            raise ValueError("expected numbers: YAML reads yes, no, on and off as true and false")
        return value

    @field_validator("*")
    @classmethod
    def _check_range(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > WIDEST:
            raise ValueError(f"Input should be {WIDEST} at most")
        return value

    def for_dataset(self, dataset: str) -> Self:
        """The settings for one dataset."""
        return self


def _list_kinds(annotation: Any) -> set[Any]:
    """List the types in an annotation."""
    parts = get_args(annotation)
    return {annotation}.union(*map(_list_kinds, parts))


def _has_truth(value: Any, depth: int = 3) -> bool:
    """Check that a value is, or contains, true or false; YAML can put a list into itself."""
    if depth and isinstance(value, list | tuple | Mapping):
        items = value.values() if isinstance(value, Mapping) else value
        return any(_has_truth(item, depth - 1) for item in items)
    return isinstance(value, bool)


def _check_path(text: str) -> str:
    sizes = [len(os.fsencode(part)) for part in Path(text).parts]
    if max(sizes, default=0) > 255 or sum(sizes) + len(sizes) > 4095 or "\0" in text:
        raise ValueError(
            "no file can have this name: a part of a path has 255 bytes at most, a path 4095"
        )
    return text


PathText = Annotated[str, AfterValidator(_check_path)]  # a path that a user writes
Checked = TypeVar("Checked", bound=Settings)


def check(model: type[Checked], values: Any, *, source: str) -> Checked:
    """Turn plain values, as of a YAML file, into checked settings.

    An error has a paragraph for each wrong key; `source` is the file, and the key inside it, that
    the values come from.
    """
    if not isinstance(values, Mapping):
        keys = ", ".join(model.model_fields)
        raise ConfigError(f"{source}: expected keys ({keys}), found {shorten(values)}.")
    problems = _find_problems(model, values)
    if not problems:
        return model.model_validate(dict(values))
    reasons = [_explain(model, problem, values, source) for problem in problems[:FEW]]
    rest = len(problems) - FEW
    more = [f"{source}: {rest} more wrong: write the keys above first."] if rest > 0 else []
    raise ConfigError("\n".join(reasons + more))


def unknown(kind: str, name: str, known: Iterable[str], *, source: str) -> ConfigError:
    """Make the error for an unknown name: `Unknown method 'x'; known: a, b, c`."""
    names = sorted(known)
    hint = did_you_mean(name, names) or did_you_mean(Path(name).stem, names)  # of its file
    listed = list_some(names, 40)
    return ConfigError(f"{source}: Unknown {kind} '{clip(name)}'; known: {listed}.{hint}")


def refusal(place: str, problem: str, *, found: str, expected: str, write: str = "") -> ConfigError:
    """Make the error for a setting, in words: `problem` has no point at the end."""
    # A line that is cut would not be what to write.
    is_shown = write and len(write) <= LETTERS // 2
    suggestion = "\n    ".join(["\n  write:", *write.splitlines()]) if is_shown else ""
    found = clip(found, LETTERS // 2)
    return ConfigError(
        f"{place}: {problem}.\n  found:    {found}\n  expected: {expected}{suggestion}"
    )


def misfit(key: str, problem: str, *, found: Any, expected: str, write: Any) -> ConfigError:
    """Make the error for a setting that does not go with the backbone: values instead of words.

    It names no file: the caller, who knows it, puts it before the message.
    """
    found, write = f"{key}: {shorten(found)}", f"{key}: {inline(write)}"
    return refusal(key, problem, found=found, expected=expected, write=write)


# From pydantic's errors to paragraphs for a person.


class _Problem(NamedTuple):
    """One wrong value or key."""

    location: Location
    kind: str  # pydantic's name of it
    message: str
    found: Any
    of_key: bool  # the key itself is wrong


def _find_problems(model: type[Settings], values: Mapping[str, Any]) -> list[_Problem]:
    """List what is wrong with values; nothing, if they are accepted."""
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A default that depends on other values has none while these are wrong.
        problems = _gather((each for each in found if each["type"] != NO_DEFAULT), values)
        meant = {
            (*each.location[:-1], _find_meant(_find_field(model, each.location)[0], each))
            for each in problems
            if each.kind == "extra_forbidden"
        }
        return [each for each in problems if each.kind != "missing" or each.location not in meant]
    return []


def _gather(errors: Iterable[Mapping[str, Any]], values: Any) -> list[_Problem]:
    """The problems, each place once: a value of two types has an error for each of them."""
    found: dict[Location, _Problem] = {}
    for error in errors:
        problem = _read(error, values)
        first = found.setdefault(problem.location, problem)
        if first is not problem:
            message = f"{first.message}, or {problem.message.removeprefix('Input should be ')}"
            found[problem.location] = first._replace(message=message)
    # Of two types the one that fits further in is meant.
    above = {place[:end] for place in found for end in range(len(place))}
    return [problem for place, problem in found.items() if place not in above]


def _read(error: Mapping[str, Any], values: Any) -> _Problem:
    """Find the place of an error in the values: pydantic's also names the types it has tried.

    Of a wrong key, the value beside it is the one found.
    """
    location: list[Any] = []
    for part in error["loc"]:
        if isinstance(values, Mapping):
            keys = [key for key in values if key == part or str(key) == str(part)]
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


def _explain(model: type[Settings], problem: _Problem, values: Any, source: str) -> str:
    """The paragraph about a problem."""
    location = problem.location
    key = ".".join(map(str, location)) or "(the whole file)"
    owner, name, inside = _find_field(model, location)
    message = problem.message
    if problem.kind == "extra_forbidden":
        message = f"there is no such key; known: {', '.join(_list_keys(owner))}"
        name, inside = _find_meant(owner, problem), ()
    lines = [f"{source}: {key}: {message}."]
    if problem.kind != "missing":
        last, found = location[-1] if location else key, problem.found
        if isinstance(_find(values, location[:-1]), list):  # not the number of a place in it
            last, found = location[-2], _find(values, location[:-1])
        lines.append(f"  found:    {last}: {shorten(found)}")
    field = owner.model_fields.get(name)
    if field is not None and field.description:
        lines.append(f"  expected: {' '.join(field.description.split())}")
    if field is not None:
        place = (*location[: -1 - len(inside)], name)
        for value in _list_corrections(problem, field, inside, _find(values, place)):
            if value not in (None, "", [], {}) and _is_accepted(model, values, place, value):
                is_other = name in owner.illustrated and value in (field.examples or ())
                write = f"    {name}: {inline(value)}"
                if len(write) <= LETTERS // 2:  # one that is cut would not be what to write
                    lines += ["  for example:" if is_other else "  write:", write]
                break
    return "\n".join(lines)


def _list_keys(model: type[Settings]) -> list[str]:
    """The keys that a user may write."""
    return sorted(set(model.model_fields) - model.internal)


def _find_meant(model: type[Settings], problem: _Problem) -> str:
    """The key that a misspelt one was meant to be; "" if none is close."""
    wrong = str(problem.location[-1])
    return "".join(difflib.get_close_matches(wrong, _list_keys(model), n=1))


def _find(values: Any, place: Location) -> Any:
    """The value at a place; None where there is none."""
    for part in place:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _is_accepted(model: type[Settings], values: Any, place: Location, value: Any) -> bool:
    """Check that with another value at a place nothing is wrong there, or newly wrong."""
    corrected = copy.deepcopy(dict(values))
    parent = _find(corrected, place[:-1])
    if not isinstance(parent, dict | list):
        return False
    parent[place[-1]] = value
    known = {problem.location for problem in _find_problems(model, values)}
    after = [problem.location for problem in _find_problems(model, corrected)]
    return all(found in known and found[: len(place)] != place for found in after)


def _find_field(model: type[Settings], location: Location) -> tuple[type[Settings], str, Location]:
    """The innermost model of a location, its field there ("" for none), and the rest of the way."""
    owner, name, inside = model, "", location
    for number, part in enumerate(location):
        field = owner.model_fields.get(str(part))
        if field is None:
            if isinstance(part, int) and not name:
                continue  # a place in a list of models
            break
        name, inside = str(part), location[number + 1 :]
        kinds = (field.annotation, *get_args(field.annotation))
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Settings)]
        if not models or not any(isinstance(rest, str) for rest in inside):
            break
        owner, name = models[0], ""
    return owner, name, inside


def _list_corrections(
    problem: _Problem, field: FieldInfo, inside: Location, given: Any
) -> Iterator[Any]:
    """Values that may do, best first: the user's as text, for the user's key, an example's.

    `inside` leads from the field's value, `given`, to what is wrong.
    """
    default = None if field.is_required() else field.get_default()
    example = field.examples[0] if field.examples else default
    found = problem.found
    text = _quote(found) if isinstance(found, str | int | float | datetime.date) else found
    if inside and isinstance(given, list):
        yield [text if place == inside[0] else item for place, item in enumerate(given)]
    elif inside and isinstance(example, Mapping) and not problem.of_key:
        key = inside[0]
        yield {key: text}
        yield {key: [found]}
        yield {key: example.get(key, next(iter(example.values()), None))}
    elif inside and problem.of_key and not field.is_required():  # of a method there is no other
        yield {_quote(inside[0]): found}
    else:
        yield from (found, text, [found], [text])
        words = [word for word in get_args(field.annotation) if isinstance(word, str)]
        yield from difflib.get_close_matches(str(found), words, cutoff=0.8)
    yield example
    yield default


def _quote(value: Any) -> str:
    """A value as the text that YAML has read it from; of true and false the usual words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else inline(value)


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file."""
    try:
        with Path(path).open(encoding="utf-8") as file:
            return _StrictLoader(file).get_single_data()
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}. Save it as UTF-8.") from None
    except Exception as error:  # PyYAML raises all kinds: for 2024-13-13 a ValueError
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a repeated key is an error; PyYAML would take the last of the two."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (key.tag, key.value) in seen:
                raise ComposerError(
                    None, None, f"the key '{key.value}' is given twice", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add((key.tag, key.value))
        return node

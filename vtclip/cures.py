"""What pydantic finds wrong, as paragraphs: where, found, expected, and the lines to write."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vtclip.yaml_text import inline, shorten

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

"""Pydantic's errors as paragraphs for a person, with the lines to write instead."""

import copy
import datetime
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from vtclip.wording import LETTERS, inline, shorten

EXTRA, NO_DEFAULT = "extra_forbidden", "default_factory_not_called"  # pydantic's names of problems

Location = tuple[Any, ...]  # keys and places in lists on the way to a value


class Described(BaseModel):
    """Settings, and what errors about them need to know."""

    illustrated: ClassVar[frozenset[str]] = frozenset()  # examples of these fit other data alone
    internal: ClassVar[frozenset[str]] = frozenset()  # keys that no user writes


class Problem(NamedTuple):
    """One wrong value or key."""

    location: Location
    kind: str  # pydantic's name of it
    message: str
    found: Any
    of_key: bool  # the key itself is wrong


def find_problems(model: type[Described], values: Mapping[str, Any]) -> list[Problem]:
    """List what is wrong with values; nothing, if they are accepted."""
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A default that depends on other values has none while these are wrong.
        problems = _gather((each for each in found if each["type"] != NO_DEFAULT), values)
        meant = {_find_meant(model, each) for each in problems if each.kind == EXTRA}
        return [each for each in problems if each.kind != "missing" or each.location not in meant]
    return []


def _gather(errors: Iterable[Mapping[str, Any]], values: Any) -> list[Problem]:
    """The problems, each place once: a value of two types has an error for each of them."""
    found: dict[Location, Problem] = {}
    for error in errors:
        problem = _read(error, values)
        first = found.setdefault(problem.location, problem)
        if first is not problem:
            message = f"{first.message}, or {problem.message.removeprefix('Input should be ')}"
            found[problem.location] = first._replace(message=message)
    # Of two types the one that fits further in is meant.
    above = {place[:end] for place in found for end in range(len(place))}
    return [problem for place, problem in found.items() if place not in above]


def _read(error: Mapping[str, Any], values: Any) -> Problem:
    """Find the place of an error in the values: pydantic's also names the types it has tried.

    Of a wrong key, the value beside it is the one found.
    """
    location: list[Any] = []
    for part in error["loc"]:
        places = values if isinstance(values, list) else ()
        items = values.items() if isinstance(values, Mapping) else enumerate(places)
        for key, value in items:
            if key == part or str(key) == str(part):
                location.append(key)
                values = value
                break
    if error["type"] == "missing" or (error["loc"] and not location):  # a key that is left out
        location.append(error["loc"][-1])
        values = error["input"]
    of_key = error["loc"][-1:] == ("[key]",)
    message = error["msg"].removeprefix("Value error, ")
    if of_key:
        message = message.replace("Input", "the key", 1)
    return Problem(tuple(location), error["type"], message, values, of_key)


def explain(model: type[Described], problem: Problem, values: Any, source: str) -> str:
    """The paragraph about a problem; `source` names the file, and the key in it."""
    location = problem.location
    key = ".".join(map(str, location)) or "(the whole file)"
    owner, name, inside = _find_field(model, location)
    message = problem.message
    if problem.kind == EXTRA:
        message = f"there is no such key; known: {', '.join(_list_keys(owner))}"
        name, inside = _find_meant(model, problem)[-1], ()
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


def _list_keys(model: type[Described]) -> list[str]:
    """The keys that a user may write."""
    return sorted(set(model.model_fields) - model.internal)


def _find_meant(model: type[Described], problem: Problem) -> Location:
    """The place that a misspelt key was meant for; it ends in "" if no key is close."""
    *place, wrong = problem.location
    keys = _list_keys(_find_field(model, problem.location)[0])
    return (*place, "".join(difflib.get_close_matches(str(wrong), keys, n=1)))


def _find(values: Any, place: Location) -> Any:
    """The value at a place; None where there is none."""
    for part in place:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def _is_accepted(model: type[Described], values: Any, place: Location, value: Any) -> bool:
    """Check that with another value at a place nothing is wrong there, or newly wrong."""
    corrected = copy.deepcopy(dict(values))
    parent = _find(corrected, place[:-1])
    if not isinstance(parent, dict | list):
        return False
    parent[place[-1]] = value
    known = {problem.location for problem in find_problems(model, values)}
    after = [problem.location for problem in find_problems(model, corrected)]
    return all(found in known and found[: len(place)] != place for found in after)


def _find_field(
    model: type[Described], location: Location
) -> tuple[type[Described], str, Location]:
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
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Described)]
        if not models or not any(isinstance(rest, str) for rest in inside):
            break
        owner, name = models[0], ""
    return owner, name, inside


def _list_corrections(
    problem: Problem, field: FieldInfo, inside: Location, given: Any
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

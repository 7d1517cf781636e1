"""Typed settings, and errors that name the wrong key and the lines to write instead."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, get_args

import yaml
from pydantic import AfterValidator, ConfigDict, ValidationInfo, field_validator
from yaml.composer import ComposerError

from vtclip.corrections import Described, explain, find_problems
from vtclip.wording import LETTERS, bound, clip, did_you_mean, inline, list_some, shorten

LARGEST = 2**31 - 1  # the largest whole number of a table's columns
FEW = 5  # wrong keys that an error explains
WIDEST = 2**63 - 1  # the largest of a machine word
REPLACED = re.compile(r"~|.*\$[{\w]")  # paths in which a shell would replace something
TO_BASE = re.compile(r"[-+]?0[0-7_]+$|.*:")  # numbers that YAML reads to base 8 or 60


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the key, the value and what to write."""

    def __init__(self, message: str) -> None:
        # A name that is not UTF-8 is shown all the same, and can be written to a log.
        super().__init__(bound(message.encode(errors="backslashreplace").decode()))


class Settings(Described):
    """Base of all settings: unknown keys are errors, values do not change once checked."""

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
        items = [*value, *value.values()] if isinstance(value, Mapping) else value
        return any(_has_truth(item, depth - 1) for item in items)
    return isinstance(value, bool)


def _check_path(text: str) -> str:
    sizes = [len(os.fsencode(part)) for part in Path(text).parts]
    if max(sizes, default=0) > 255 or sum(sizes) + len(sizes) > 4095 or "\0" in text:
        raise ValueError(
            "no file can have this name: a part of a path has 255 bytes at most, a path 4095"
        )
    if not text.strip():
        raise ValueError("there is no name: leave the key out, or write a path")
    if REPLACED.match(text) and not Path(text).exists():
        whole = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111  one without a home
        raise ValueError(f"~ and variables are not replaced here: write the whole path, {whole}")
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
    problems = find_problems(model, values)
    if not problems:
        return model.model_validate(dict(values))
    reasons = [explain(model, problem, values, source) for problem in problems[:FEW]]
    if rest := problems[FEW:]:
        reasons.append(f"{source}: {len(rest)} more wrong: write the keys above first.")
    raise ConfigError("\n".join(reasons))


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


def read_config(path: str | Path) -> dict[Any, Any]:
    """Read the keys of a configuration file."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: expected the keys of a configuration, found {shorten(content)}."
        )
    return content


class _StrictLoader(yaml.SafeLoader):
    """YAML without its traps: PyYAML takes the last of two equal keys, and reads 010 as 8."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if key.value in seen:  # also 1 and '1', which settings read as one key
                raise ComposerError(
                    None, None, f"the key '{key.value}' is given twice", key.start_mark
                )
            if isinstance(key, yaml.ScalarNode):
                seen.add(key.value)
        return node

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if node.tag.endswith((":int", ":float")) and TO_BASE.match(node.value):
            meant = self.construct_object(node)
            raise ComposerError(
                None, None,
                f"YAML reads {node.value} as {meant}: write {meant}, or '{node.value}' for a text",
                node.start_mark,
            )  # fmt: skip
        return node

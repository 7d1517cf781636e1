"""Values, names and numbers as messages write them."""

from collections.abc import Iterable, Sequence
from typing import Any

import yaml
from yaml.representer import SafeRepresenter

LETTERS, LINES = 600, 30  # of a line, and of a message
ENDING = 3  # lines that stay of a long message's end, where the advice is


class _Dumper(yaml.SafeDumper):
    """YAML of plain values; of any other its Python form, as text."""


# Snakemake makes ordered mappings of JSON.
_Dumper.add_multi_representer(dict, SafeRepresenter.represent_dict)
_Dumper.add_multi_representer(object, lambda dumper, value: dumper.represent_str(f"{value!r}"))


def to_yaml(value: Any) -> str:
    """Write a value, such as a whole configuration, as YAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def inline(value: Any) -> str:
    """Write a value as YAML on one line, for messages; name its type if YAML cannot show it."""
    try:
        text = yaml.dump(
            value, Dumper=_Dumper, default_flow_style=True, width=float("inf"), sort_keys=False
        )
    except (yaml.YAMLError, ValueError, RecursionError):
        return f"<a {type(value).__name__} that YAML cannot show>"
    return text.removesuffix("...\n").strip()


def shorten(value: Any, limit: int = 80) -> str:
    """Write a value as YAML on one line, cut to `limit` letters."""
    text = inline(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def count(number: int, noun: str, many: str = "") -> str:
    """A number of things: `1 seed`, `3 seeds`; `many` where the plural has another ending."""
    return f"{number} {noun if number == 1 else many or f'{noun}s'}"


def list_some(names: Iterable[object], limit: int = 5) -> str:
    """Join the first names, and count the others: `a, b and 7 more`."""
    shown = [clip(str(name)) for name in names]
    rest = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {rest} more" if rest > 0 else "")


def list_lines(lines: Sequence[str], limit: int = 5) -> str:
    """The first lines, and a line that counts the others."""
    rest = len(lines) - limit
    more = [f"and {rest} more"] if rest > 0 else []
    return "\n  ".join([*lines[:limit], *more])


def clip(text: str, limit: int = 120) -> str:
    """Leave out the middle of a long text, and say how much."""
    if len(text) <= limit:
        return text
    start, end = text[: limit // 2], text[-(limit // 4) :]
    return f"{start}... ({len(text) - len(start) - len(end)} letters left out) ...{end}"


def bound(message: str) -> str:
    """A message of any length as people can read it; what is left out is counted."""
    lines = message.split("\n")
    if len(lines) > LINES:
        begin = LINES - ENDING - 1
        more = f"  ... and {len(lines) - begin - ENDING} more lines"
        lines = [*lines[:begin], more, *lines[-ENDING:]]
    return "\n".join(clip(line, LETTERS) for line in lines)

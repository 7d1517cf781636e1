"""Values, names and numbers as messages write them, and similar names."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import Any

import yaml
from yaml.representer import SafeRepresenter

LETTERS, LINES = 600, 30  # of a line, and of a message
ENDING = 3  # lines that stay of a long message's end, where the advice is
SHOWN = 5  # groups of names, names of a group, or letters in a message


class _Dumper(yaml.SafeDumper):
    """YAML of plain values; of any other its Python form, as text."""


# Snakemake makes ordered mappings of JSON.
_Dumper.add_multi_representer(dict, SafeRepresenter.represent_dict)
_Dumper.add_multi_representer(object, lambda dumper, value: dumper.represent_str(f"{value!r}"))


def to_yaml(value: Any) -> str:
    """Write a value, such as a whole configuration, as YAML."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def inline(value: Any, *, allow_unicode: bool = True) -> str:
    """Write a value as YAML on one line, for messages; name its type if YAML cannot show it."""
    try:
        text = yaml.dump(
            value,
            Dumper=_Dumper,
            default_flow_style=True,
            width=float("inf"),
            sort_keys=False,
            allow_unicode=allow_unicode,
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


def plain(name: str) -> str:
    """Reduce a name to what most of CLIP's tokenizers read: composed, lower case, single spaces."""
    text = unicodedata.normalize("NFC", name).replace("_", " ").lower()
    return " ".join(unicodedata.normalize("NFC", text).split())


def is_blank(name: str) -> bool:
    """Check that a name has no visible letter for a prompt."""
    return not any(letter.isprintable() for letter in plain(name).replace(" ", ""))


def quote(name: str) -> str:
    """Write a name in quotes, cut to 80 letters."""
    return f"'{name}'" if len(name) <= 80 else f"'{name[:77]}...'"


def find_alike(names: Iterable[str]) -> list[list[str]]:
    """Group the names of several classes that most tokenizers read as one text."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(plain(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def explain_alike(groups: Sequence[Sequence[str]], dataset: str, model: str = "most models") -> str:
    """Say in a sentence that the classes of each group have one text for a model."""
    shown = [
        " and ".join(quote(name) for name in group[:SHOWN]) + show_difference(*group[:2])
        for group in groups[:SHOWN]
    ]
    more = f"; and {len(groups) - SHOWN} more" if len(groups) > SHOWN else ""
    return (
        f"{dataset}: these classes have the same text for {model}, so zero-shot gives them equal "
        f"scores: {'; '.join(shown)}{more}."
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest of some names; "" if there is none."""
    names = sorted(known)
    same = [other for other in names if plain(other) == plain(name)]
    for nearest in same or difflib.get_close_matches(name, names, n=1):
        return f" Did you mean {quote(nearest)}?{show_difference(name, nearest)}"
    return ""


def show_difference(one: str, other: str) -> str:
    """Say in brackets where two similar names differ; "" if the difference is visible."""
    is_visible = "".join((one + other).split()).isascii() and one.split() != other.split()
    if one == other or is_visible:
        return ""
    start = _count_equal(one, other)
    end = _count_equal(one[start:][::-1], other[start:][::-1])
    first, second = (_spell(text[start : len(text) - end]) for text in (one, other))
    where = f"they differ from letter {start + 1} on"
    return f" ({where}: {first} in the first, {second} in the second)"


def _count_equal(one: str, other: str) -> int:
    """Count the letters that two names begin with together."""
    return len([*takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))])


def _spell(text: str) -> str:
    codes = [f"U+{ord(letter):04X}" for letter in text[:SHOWN]]
    return " ".join([*codes, "..."] if len(text) > SHOWN else codes) or "nothing"

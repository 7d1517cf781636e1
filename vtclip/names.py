"""Names that differ for people or for a model alone: they are found, and shown apart."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import takewhile

SHOWN = 5  # groups, names of a group, or letters in a message


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
    """Say in brackets where two names differ that may look alike; "" if they do not."""
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

"""Values, names and numbers as messages write them."""

from collections.abc import Iterable
from typing import Any

import yaml
from yaml.representer import SafeRepresenter


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


def list_some(names: Iterable[object], limit: int = 5) -> str:
    """Join the first names, and count the others: `a, b and 7 more`."""
    shown = [*map(str, names)]
    rest = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {rest} more" if rest > 0 else "")

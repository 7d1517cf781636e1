"""YAML as this project reads and writes it: strictly, and without ever failing to show a value."""

from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.representer import SafeRepresenter

from vtclip.errors import ConfigError


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds.

    Raises:
        ConfigError: it cannot be read, is no YAML in UTF-8, or gives a key twice.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            return _StrictLoader(file).get_single_data()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}. Save it as UTF-8.") from None
    except Exception as error:  # PyYAML lets all kinds through: 2024-13-13 is a ValueError
        raise ConfigError(f"{path}: not readable as YAML: {error}") from None


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


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key that is given twice is an error, and not the last of the two."""

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


class _Dumper(yaml.SafeDumper):
    """YAML of plain values; of any other its Python form, as text."""


# Snakemake makes ordered mappings of JSON.
_Dumper.add_multi_representer(dict, SafeRepresenter.represent_dict)
_Dumper.add_multi_representer(object, lambda dumper, value: dumper.represent_str(f"{value!r}"))

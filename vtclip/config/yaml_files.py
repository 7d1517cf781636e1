"""Reading YAML files strictly."""

from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError

from vtclip.settings import ConfigError


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file.

    Raises:
        ConfigError: it cannot be read, is no YAML in UTF-8, or has a key twice.
    """
    try:
        with Path(path).open(encoding="utf-8") as file:
            return _StrictLoader(file).get_single_data()
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

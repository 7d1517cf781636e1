"""Heads on disk: read only as they were written."""

from pathlib import Path

from safetensors.torch import load_file

from vtclip.files import check_receipt, naming
from vtclip.task import Head


def read_head(path: str | Path) -> Head:
    """The tensors of a head, on the CPU, once they are seen to be those of its record.

    Raises:
        DamagedError: the file is damaged.
    """
    check_receipt(path)
    with naming(path):
        return load_file(path)

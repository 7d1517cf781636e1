"""Files of tensors, in safetensors' form, and the heads in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vtclip.files import BLANK, MARK, atomic_write, check_receipt, name_file_in_errors, seal
from vtclip.task import Head

if TYPE_CHECKING:
    from torch import Tensor

CALIBRATION = "calibration."  # before the names of such tensors in a head's file
MARKED = "oracle."  # before the names of what an oracle has chosen on the test images
WATERMARK = (
    "ORACLE: chosen on the test images. It is no result, and cannot be classified with, exported "
    "or compared as one."
)


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors and metadata as safetensors, atomically; MARK and BLANK become a seal."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file  # imports torch, which planning does not need

    content = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    with atomic_write(path) as temporary:
        try:
            save_file(content, temporary, metadata=dict(metadata or {}) or None)
        except SafetensorError as error:  # of a full disk, too
            raise OSError(f"{path}: it cannot be written: {error}") from None
        if any(MARK + BLANK in text for text in (metadata or {}).values()):
            seal(temporary)


def read_head(path: str | Path) -> Head:
    """Read the tensors of a head to the CPU, after a check against its record."""
    tensors = _read_checked(path).items()
    return {name: tensor for name, tensor in tensors if not name.startswith(CALIBRATION)}


def read_calibration(path: str | Path) -> Head:
    """Read the tensors of a head's calibration; none of a head that has none."""
    return tensors_below(_read_checked(path), CALIBRATION)


def tensors_below(tensors: Mapping[str, Tensor], prefix: str) -> Head:
    """The tensors whose names start with a prefix, without it."""
    found = ((name, tensor) for name, tensor in tensors.items() if name.startswith(prefix))
    return {name.removeprefix(prefix): tensor for name, tensor in found}


def _read_checked(path: str | Path) -> Head:
    from safetensors.torch import load_file

    check_receipt(path)
    with name_file_in_errors(path):
        head = load_file(path)
    refuse_oracle(path, head)
    return head


def refuse_oracle(path: str | Path, names: Iterable[str]) -> None:
    """Refuse a file of tensors that an oracle has written, wherever it lies."""
    if any(name.startswith(MARKED) for name in names):
        raise ValueError(f"{path}: {WATERMARK}")

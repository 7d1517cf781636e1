"""Files of weights in their usual forms; nothing in them is ever run."""

import base64
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

# Keys of the weights in a training program's file, beside optimiser and epoch.
WRAPPINGS = ("state_dict", "model_state_dict", "model", "module")
# The numbers among OpenAI's own weights, of a ViT and of a ResNet.
OPENAI = ("input_resolution", "context_length", "vocab_size")
NAMED = 5  # keys that an error names
FILE = "file/"  # key in a file's metadata of another file, of a tokenizer


class BackboneError(ValueError):
    """A backbone that cannot be built as requested."""


def read_checkpoint(path: str | Path) -> dict[str, torch.Tensor]:
    """Read weights, without what training programs wrap around them.

    Args:
        path: safetensors, a file of `torch.save`, or a TorchScript archive, whatever its suffix.

    Returns:
        The state_dict, floating-point numbers in float32. OpenAI's own has OPENAI's keys too.
    """
    content = _unwrap(_read(Path(path)))
    weights = {
        key: value.float() if value.is_floating_point() else value
        for key, value in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }
    if not weights:
        raise _unusable(path, _describe(content))
    weights = _take_off_prefix(weights)
    if any(key.startswith(("text_model.", "vision_model.")) for key in weights):
        raise _unusable(path, "a CLIP of Hugging Face's transformers, whose keys differ")
    return weights


def read_metadata(path: str | Path) -> dict[str, str]:
    """Metadata of a safetensors file; empty for another file."""
    if not _is_safetensors(_read_start(Path(path))):
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, error) from None


def pack_files(folder: Path) -> dict[str, str]:
    """The files of a folder, for the metadata of a safetensors file, which is text."""
    return {
        f"{FILE}{path.name}": base64.b64encode(path.read_bytes()).decode()
        for path in sorted(folder.iterdir())
    }


def unpack_files(metadata: Mapping[str, str], folder: Path) -> bool:
    """Write the files that metadata contains into a folder; False if there are none."""
    packed = {key: text for key, text in metadata.items() if key.startswith(FILE)}
    for key, text in packed.items():
        (folder / Path(key).name).write_bytes(base64.b64decode(text))
    return bool(packed)


def load_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], *, source: str) -> None:
    """Put weights as `read_checkpoint` gives them into open_clip's model."""
    weights = convert_state_dict(model, weights)  # Apple's own of MobileCLIP
    # What a model makes itself, such as a mask, is in TorchScript's archives and nowhere else.
    made = {key for key, _ in model.named_buffers()} - model.state_dict().keys()
    weights = {key: weights[key] for key in weights if key not in {*OPENAI, *made}}
    if "positional_embedding" in weights and not hasattr(model, "positional_embedding"):
        weights = open_clip.model.convert_to_custom_text_state_dict(weights)
    misfits = {}
    for key, wanted in model.state_dict().items():
        if key in weights and weights[key].numel() == wanted.numel() == 1:
            weights[key] = weights[key].reshape(wanted.shape)  # one number, in any shape
        elif key in weights and _kind(weights[key]) != _kind(wanted):
            misfits[key] = f"expected {_kind(wanted)}, found {_kind(weights.pop(key))}"
    loaded = model.load_state_dict(weights, strict=False)
    faults = [f"{key}: {misfits.get(key, 'missing')}" for key in loaded.missing_keys]
    faults += [f"{key}: not expected" for key in loaded.unexpected_keys]
    if faults:
        more = f"\n  and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise BackboneError(
            f"{source}: these are not weights of the model that `name` says.\n  "
            + "\n  ".join(faults[:NAMED])
            + more
        )


def check_finite(weights: Mapping[str, torch.Tensor], *, source: str) -> None:
    """Refuse weights with a number that is infinite or NaN."""
    for key, tensor in weights.items():
        # Of smallest and largest, which are NaN where any number is: a sixth of the time.
        if tensor.is_floating_point() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise BackboneError(
                f"{source}: {key} has numbers that are infinite or none at all (NaN): expected "
                "finite weights. Training has failed, or the file is damaged: get another one."
            )


def _read(path: Path) -> Any:
    """The content of a file, in the form that its beginning says, whatever its suffix."""
    start = _read_start(path)
    if _is_safetensors(start):
        try:
            return load_file(path)
        except SafetensorError as error:
            raise _damaged(path, error) from None
    if start.startswith(b"PK"):
        return _read_archive(path)
    if start.startswith(b"\x80"):  # of PyTorch before 1.6
        return _load(path)
    beginning = f"one that begins with {start!r}" if start else "an empty file"
    raise _unusable(path, f"no checkpoint, but {beginning}")


def _read_start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(40)
    except OSError as error:
        raise BackboneError(f"{path}: the weights cannot be read: {error.strerror}.") from None


def _is_safetensors(start: bytes) -> bool:
    """Such a file begins with eight bytes for the length of a JSON object, and the object."""
    return start[8:9] == b"{"


def _read_archive(path: Path) -> Any:
    """The content of a zip archive of PyTorch's: pickled tensors, or TorchScript."""
    try:
        with zipfile.ZipFile(path) as archive:
            names, broken = archive.namelist(), archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        raise _damaged(path, error) from None
    if broken is not None:
        raise _damaged(path, f"the checksum of {broken} is another one")
    if not any(name.endswith("/data.pkl") for name in names):
        raise _unusable(path, "a zip archive that is no checkpoint")
    if not any(name.endswith("/constants.pkl") for name in names):
        return _load(path)
    try:
        with warnings.catch_warnings():  # PyTorch would rather that nobody wrote such files
            warnings.simplefilter("ignore", FutureWarning)
            return torch.jit.load(path, map_location="cpu").state_dict()
    except RuntimeError:
        raise _unusable(path, "a TorchScript archive that this PyTorch cannot load") from None


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:  # by a path's suffix PyTorch may choose another reader
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a file that is damaged there may be any
        found = re.search(r"GLOBAL (\S+)", str(error))
    if found is None:
        raise _unusable(path, "a damaged file, or one that PyTorch did not write")
    raise _unusable(path, f"Python objects ({found[1]}), which would have to be run to be read")


def _unwrap(content: Any) -> Any:
    """The content inside all wrappings."""
    while isinstance(content, Mapping):
        inside = [content[key] for key in WRAPPINGS if isinstance(content.get(key), Mapping)]
        if not inside:
            break
        content = inside[0]
    return content


def _take_off_prefix(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Keys as CLIP has them, without a training program's `module.` or `model.`."""
    ends = [key for key in weights if f".{key}".endswith(".logit_scale")]
    if len(ends) != 1:
        return weights
    prefix = ends[0].removesuffix("logit_scale")
    return {key.removeprefix(prefix): tensor for key, tensor in weights.items()}


def _kind(tensor: torch.Tensor) -> str:
    """The shape, and the type of numbers that are no floating-point ones."""
    return f"{[*tensor.shape]}" + ("" if tensor.is_floating_point() else f" of {tensor.dtype}")


def _describe(content: Any) -> str:
    """The form of a content without weights."""
    if not isinstance(content, Mapping):
        return f"an object of type {type(content).__name__}"
    if {"state", "param_groups"} <= content.keys():
        return "the state of an optimiser"
    keys = ", ".join(str(key) for key in [*content][:NAMED]) or "no keys"
    return f"a dictionary without weights, with {keys}"


def _unusable(path: str | Path, found: str) -> BackboneError:
    return BackboneError(
        f"{path}: the weights have a form that cannot be used.\n  found:    {found}\n"
        "  expected: a state_dict as open_clip's CLIP has it, from "
        "torch.save(model.state_dict(), 'weights.pt'), or the same in safetensors"
    )


def _damaged(path: str | Path, reason: object) -> BackboneError:
    return BackboneError(
        f"{path}: the file of weights is damaged: {reason}.\n  Get it again; if it is one in "
        "resources/backbones/ that the workflow wrote, delete it, and run again."
    )

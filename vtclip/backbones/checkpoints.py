"""Files of weights in their usual forms; nothing in them is ever run."""

import base64
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from vtclip.config.backbone_config import INDEX, list_parts
from vtclip.runtime.job import warn_on_terminal
from vtclip.tensors import refuse_oracle
from vtclip.wording import list_lines, list_some

# The numbers among OpenAI's own weights, of a ViT and of a ResNet.
OPENAI = ("input_resolution", "context_length", "vocab_size")
SCALE = "logit_scale"  # every CLIP has one: a key that ends so shows where weights are in a file
FILE = "file/"  # key in a file's metadata of another file, of a tokenizer

Weights = dict[str, torch.Tensor]


class BackboneError(ValueError):
    """A backbone that cannot be built as requested."""


def read_checkpoint(path: str | Path, weights_key: str | None = None) -> Weights:
    """Read weights, without what training programs wrap around them, as float32.

    `path` is safetensors, a file of `torch.save`, or a TorchScript archive, whatever its suffix, or
    an index of several such files. Of several weights in a file, such as those of a model and their
    moving average, the first that are no average are taken, with a warning; or those below the key
    or prefix `weights_key`, such as "state_dict_ema". OpenAI's own have OPENAI's keys too.
    """
    content = _read(Path(path))
    groups = dict(_list_groups(content, "")) if isinstance(content, Mapping) else {}
    if not groups:
        raise _unusable(path, _describe(content))
    refuse_oracle(path, [key for tensors in groups.values() for key in tensors])
    if any("lora_" in key for tensors in groups.values() for key in tensors):
        raise _unusable(
            path,
            "a LoRA adapter, which only changes the weights of a model: merge it into them "
            "(`merge_and_unload()` of Hugging Face's peft does), and save the result",
        )
    weights = _choose_weights(groups, weights_key, path)
    if any(key.startswith(("text_model.", "vision_model.")) for key in weights):
        raise _unusable(path, "a CLIP of Hugging Face's transformers, whose keys differ")
    for key, each in weights.items():
        if each.is_floating_point() and each.element_size() == 1:
            raise _unusable(path, f"{key} in {each.dtype}: three bits of precision or fewer")
    return {
        key: each.float() if each.is_floating_point() else each for key, each in weights.items()
    }


def read_metadata(path: str | Path) -> dict[str, str]:
    """Metadata of a safetensors file; empty for another file."""
    if not _is_safetensors(_read_start(Path(path))):
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, error) from None


# The last linear map of an image tower. The rows of the first, a ViT's, are inputs.
PROJECTIONS = ("visual.proj", "visual.attnpool.c_proj.weight", "visual.head.proj.weight")


def read_projection(path: str | Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read an image tower's last linear map: weight (D, width) and bias (D,), of none zeros.

    `path` is a file of weights that the workflow keeps, with open_clip's names.
    """
    with safe_open(path, framework="pt") as file:
        names = set(file.keys())
        name = next((each for each in PROJECTIONS if each in names), None)
        if name is None:
            raise BackboneError(f"{path}: its image tower does not end in one linear map.")
        weight = file.get_tensor(name).float()
        if name == PROJECTIONS[0]:
            weight = weight.T.contiguous()
        bias = name.replace("weight", "bias")
        has_bias = bias != name and bias in names
        return weight, file.get_tensor(bias).float() if has_bias else weight.new_zeros(len(weight))


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


def load_weights(model: torch.nn.Module, weights: Weights, *, source: str) -> None:
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
        raise BackboneError(
            f"{source}: these are not weights of the model that `name` says.\n  "
            f"{list_lines(faults)}"
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
    if start.startswith(b"{") and path.name.endswith(INDEX):
        return {key: value for part in list_parts(path) for key, value in _read(part).items()}
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
        # PyTorch would rather that nobody wrote such files.
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
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


def _list_groups(content: Mapping[Any, Any], name: str) -> Iterator[tuple[str, Weights]]:
    """The tensors of each dictionary in a content, with the keys that lead to it."""
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    tensors = {key: value for key, value in named.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield name, tensors
    for key, inside in named.items():
        if isinstance(inside, Mapping):
            yield from _list_groups(inside, f"{name}{key}.")


def _choose_weights(
    groups: Mapping[str, Weights], weights_key: str | None, path: str | Path
) -> Weights:
    """The weights of one model, with keys as CLIP has them."""
    found = {}
    for name, tensors in groups.items():
        prefixes = _list_prefixes(tensors)
        for prefix in prefixes:
            found[f"{name}{prefix}".removesuffix(".")] = _take(tensors, prefix, prefixes)
    if weights_key is not None:
        for name, weights in found.items():
            if f"{name}.".startswith(f"{weights_key}."):
                return weights
        names = ", ".join(name or "the file's own keys" for name in found) or "none"
        raise BackboneError(
            f"{path}: there are no weights under `weights_key`.\n  found:    {names}\n"
            f"  expected: {weights_key}"
        )
    if not found:
        if re.search(r"-\d+-of-\d+\.", str(path)):
            raise _unusable(path, "one of several parts: give the index, `*.index.json` beside it")
        # What is missing is named where they are loaded.
        return max(groups.values(), key=len)
    taken, *others = sorted(found, key=lambda name: "ema" in re.split(r"[._]", name.lower()))
    if others:
        warn_on_terminal(
            f"{path}: there are weights of several models in it. Those under '{taken}' are taken; "
            f"to take others, write `weights_key: {others[0]}`"
            + (f" (or {', '.join(others[1:])})." if others[1:] else ".")
        )
    return found[taken]


def _list_prefixes(tensors: Weights) -> list[str]:
    """Prefixes of keys that a whole CLIP is below: training programs add `module.` or `model.`."""
    found = [key.removesuffix(SCALE) for key in tensors if f".{key}".endswith(f".{SCALE}")]
    # Layers of some image towers have such a scale of their own.
    return [p for p in found if not any(p != outer and p.startswith(outer) for outer in found)]


def _take(tensors: Weights, prefix: str, prefixes: Sequence[str]) -> Weights:
    """The tensors below a prefix, and those that no model of the file has: they may be missed."""
    others = tuple(other for other in prefixes if other != prefix)
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix) or (not key.startswith(others) and tensor.numel() > 1)
    }


def _kind(tensor: torch.Tensor) -> str:
    """The shape, and the type of numbers that are no floating-point ones."""
    return f"{[*tensor.shape]}" + ("" if tensor.is_floating_point() else f" of {tensor.dtype}")


def _describe(content: Any) -> str:
    """The form of a content without weights."""
    if not isinstance(content, Mapping):
        return f"an object of type {type(content).__name__}"
    if {"state", "param_groups"} <= content.keys():
        return "the state of an optimiser"
    return f"a dictionary without weights, with {list_some(content) or 'no keys'}"


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

"""A pretend GPU: tensors that say that they are on it, with their numbers in main memory.

What a GPU refuses is refused here too, so that a test on a CPU finds a tensor that was left on the
CPU, rows that are indexed from the wrong side, a generator of the CPU, or a missing `.cpu()`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import Mock, patch

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")  # rows may be on the CPU
TO_MEMORY = (Tensor.numpy, Tensor.__array__, Tensor.__dlpack__)
COPYING = (Tensor.__deepcopy__, Tensor.new_tensor)  # without an operation
SENDING = (Tensor.to, Tensor.cpu, Tensor.cuda)
PARSING = torch._C._nn._parse_to  # arguments of Tensor.to, for Module.to


class Placement:
    """The tensors on the pretend GPU: those whose storages are marked."""

    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind, 0)
        self.marked: set[StorageWeakRef] = set()
        self.makes = False  # tensors that a function makes from no other are on the GPU

    def has(self, value: Any) -> bool:
        """Check that a value is a tensor on the GPU."""
        if not isinstance(value, Tensor) or value.device.type != "cpu":
            return False
        return StorageWeakRef(value.untyped_storage()) in self.marked

    def put(self, values: Any, *, on_gpu: bool = True) -> Any:
        """Mark tensors as on the GPU, or as on the CPU."""
        for value in tree_leaves(values):
            if isinstance(value, Tensor) and value.device.type == "cpu":
                change = self.marked.add if on_gpu else self.marked.discard
                change(StorageWeakRef(value.untyped_storage()))
        return values


class Functions(TorchFunctionMode):
    """Sends tensors to the pretend GPU and back, and says where they are."""

    def __init__(self, placement: Placement) -> None:
        super().__init__()
        self.placement = placement

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs, place = dict(kwargs or {}), self.placement
        on_gpu = any(map(place.has, tree_leaves((args, kwargs))))
        if on_gpu and function == Tensor.device.__get__:
            return place.device
        if on_gpu and function == Tensor.is_cuda.__get__:
            return place.device.type == "cuda"
        if on_gpu and function in TO_MEMORY:
            raise TypeError(f"can't convert {place.device} device type tensor to numpy")
        if function == PARSING:
            return function(*args, **kwargs)
        if function in SENDING:
            return self._send(function, *args, **kwargs)
        if function == Tensor.backward:  # what is computed again in it is Python's
            place.makes = True
            with self:
                return torch.autograd.backward(args[0], kwargs["gradient"])
        wanted = kwargs.get("device")
        if wanted is not None and torch.device(wanted).type != "meta":
            on_gpu, kwargs["device"] = torch.device(wanted).type == place.device.type, "cpu"
        before, place.makes = place.makes, on_gpu
        try:
            result = function(*args, **kwargs)
        finally:
            place.makes = before
        if wanted is not None or function in COPYING:
            place.put(result, on_gpu=on_gpu)
        return result

    def _send(self, function, tensor, *args, copy=False, **kwargs):
        place = self.placement
        if function == Tensor.to:
            device, dtype, _, layout = PARSING(*args, **kwargs)
            if args and isinstance(args[0], Tensor):
                device = place.device if place.has(args[0]) else torch.device("cpu")
        else:
            device, dtype, layout = torch.device(function.__name__), None, None
        if tensor.device.type != "cpu" or (device is not None and device.type == "meta"):
            return function(tensor, *args, **kwargs)
        before = place.has(tensor)
        after = before if device is None else device.type == place.device.type
        sent = tensor.to(
            dtype=dtype or tensor.dtype, copy=copy or before != after,
            memory_format=layout or torch.preserve_format,
        )  # fmt: skip
        return sent if before == after else place.put(sent, on_gpu=after)


class Operations(TorchDispatchMode):
    """Refuses what a GPU refuses, and marks what is made of tensors on it."""

    def __init__(self, placement: Placement) -> None:
        super().__init__()
        self.placement = placement

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, place = kwargs or {}, self.placement
        with torch._C.DisableTorchFunction():
            tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
            on_gpu = any(map(place.has, tensors)) if tensors else place.makes
            name = function.overloadpacket.__name__
            if on_gpu and name != "copy_":
                self._check(name, args, tensors, kwargs.get("generator"))
            result = function(*args, **kwargs)
            if on_gpu and place.device.type == "mps" and any(map(_is_double, tree_leaves(result))):
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
            return place.put(result) if on_gpu and name != "copy_" else result

    def _check(self, name, args, tensors, generator):
        place, rows = self.placement, ()
        if name in INDEXING and place.has(args[0]):
            rows = tree_leaves(args[1])
        for tensor in tensors:
            if tensor.dim() and not place.has(tensor) and not any(tensor is row for row in rows):
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two "
                    f"devices, {place.device} and cpu: {name} of {list(tensor.shape)}"
                )
        if generator is not None:
            raise RuntimeError(
                f"Expected a '{place.device.type}' device type for generator but found 'cpu'"
            )


def _is_double(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.float64


@contextmanager
def pretend_gpu(kind: str = "cuda", *, free: int = 8 << 30) -> Iterator[torch.device]:
    """A pretend GPU of before 2020, without bfloat16, as long as the block runs.

    `kind` is as PyTorch calls it, and `free` are the bytes of its memory.
    """
    said = {"get_device_capability": (7, 5), "get_device_name": "pretend"}
    said |= dict.fromkeys(["memory_reserved", "memory_allocated", "max_memory_allocated"], 0)
    said["mem_get_info"] = (free, free)
    functions = {name: Mock(return_value=value) for name, value in said.items()}
    placement = Placement(kind)
    with patch.multiple(torch.cuda, **functions), Functions(placement), Operations(placement):
        yield torch.device(kind)

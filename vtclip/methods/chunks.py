"""Working through the classes in chunks, so that any number of them fits into memory.

B images and K classes make B x K pairs, and a training step keeps what each pair's layers made
until the backward pass. Where that is much, the classes are split. Each chunk then keeps only what
its matrix products made and computes the cheap rest (norms, GELU, attention weights) a second time
in the backward pass; where even that is too much, it keeps nothing and computes all of it again.
The batch is never split, so that the settings mean the same on every machine.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from vtclip.devices import free_memory

SHARE = 1 / 4  # of the free memory that the pairs may take
# On a CPU larger chunks are no faster (benchmarks/train.py), and other jobs need the memory.
CPU_CHUNK = 64 << 20  # bytes
FLOAT = 4  # bytes
MATRIX_PRODUCTS = (torch.ops.aten.addmm.default, torch.ops.aten.mm.default)


class Chunks(NamedTuple):
    """How the classes are split."""

    classes: int
    """a chunk's number of classes"""
    keep: Literal["everything", "products", "nothing"]
    """what a chunk keeps for the backward pass"""


def memory_for_pairs(device: torch.device) -> int:
    """Bytes that the pairs may take: a quarter of what is free, rounded down to a power of two.

    Rounded, so that small differences in what is free do not change how the classes are split, and
    with it the last bits of a result.
    """
    return 2 ** int(math.log2(max(1, SHARE * free_memory(device))))


def plan_chunks(
    pairs_a_class: int,
    classes: int,
    *,
    numbers: float,
    products: float,
    memory: int,
    device: torch.device,
) -> Chunks:
    """Choose how to split the classes.

    Args:
        pairs_a_class: images in the batch.
        classes: K.
        numbers: how many numbers a pair's layers make.
        products: how many of them are made by matrix products.
        memory: bytes that all of it may take.
        device: where it is computed.
    """
    chunk_memory = min(memory, CPU_CHUNK) if device.type == "cpu" else memory
    class_bytes = pairs_a_class * numbers * FLOAT
    number = math.ceil(classes * class_bytes / chunk_memory)
    if number <= 1:
        return Chunks(classes, "everything")
    fits = pairs_a_class * classes * products * FLOAT <= memory
    return Chunks(math.ceil(classes / number), "products" if fits else "nothing")


def in_chunks(
    function: Callable[..., Tensor], texts: Tensor, *context: Tensor, chunks: Chunks
) -> Tensor:
    """function(texts, *context), a chunk of the classes at a time.

    Args:
        function: treats every class by itself.
        texts: (B or 1, K, D).
        context: what every chunk needs.
        chunks: how to split.

    Returns:
        The chunks' results, joined along the axis of the classes.
    """
    if chunks.classes >= texts.shape[1]:
        return _run(function, texts, *context, keep=chunks.keep)
    parts = [
        _run(function, chunk, *context, keep=chunks.keep)
        for chunk in texts.split(chunks.classes, dim=1)
    ]
    return torch.cat(parts, dim=1)


def _run(function: Callable[..., Tensor], *inputs: Tensor, keep: str) -> Tensor:
    if keep == "everything" or not torch.is_grad_enabled():
        return function(*inputs)
    options: dict[str, Any] = {}
    if keep == "products":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _keep_products)
    return checkpoint(function, *inputs, use_reentrant=False, **options)


def _keep_products(_: Any, operation: Any, *arguments: Any, **options: Any) -> CheckpointPolicy:
    if operation in MATRIX_PRODUCTS:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE

"""Working through the classes in chunks, so that any number of them fits into memory.

B images and K classes make B x K pairs, and a training step keeps what each pair's layers made
until the backward pass. Where that is much, the classes are split. Each chunk then keeps only what
its large matrix products made and computes the cheap rest (norms, GELU, attention) a second time in
the backward pass; where even that is too much, it keeps nothing and computes all of it again. The
batch is never split, so that the settings mean the same on every machine.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from vtclip.runtime.devices import free_memory

Result = TypeVar("Result")

SHARE = 1 / 4  # of the free memory that the pairs may take
# On a CPU larger chunks are no faster (benchmarks/train.py), and other jobs need the memory.
CPU_CHUNK = 32 << 20  # bytes
FLOAT = 4  # bytes
MATRIX_PRODUCTS = (torch.ops.aten.addmm.default, torch.ops.aten.mm.default)


class Chunks(NamedTuple):
    """Division of the classes into chunks."""

    classes: int  # a chunk's number of classes
    keep: Literal["everything", "products", "nothing"]  # what a chunk keeps for the backward pass


def memory_for_pairs(device: torch.device) -> int:
    """Bytes that the pairs may take: a quarter of what is free for this job, or somewhat less.

    Rounded down to a power of two, so that small differences in what is free do not change how the
    classes are split, and with it the last bits of a result.
    """
    return 2 ** int(math.log2(max(1, SHARE * free_memory(device))))


def plan_chunks(
    pairs_a_class: int,
    classes: int,
    *,
    numbers: float,
    products: float,
    memory: float,
    device: torch.device,
) -> Chunks:
    """Choose how to split the classes so that B x K pairs take `memory` bytes at most.

    A pair's layers make `numbers` numbers; a chunk that keeps its products keeps `products` of
    them. `pairs_a_class` is B, the images in the batch.
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
    """function(texts (B or 1, K, D), *context), a chunk of classes at a time, joined along K.

    The function must compute every class independently of the others.
    """
    if chunks.keep == "everything":
        return function(texts, *context)
    policy = partial(_keep_products, large=True) if chunks.keep == "products" else None
    parts = [
        _run_again(function, chunk, *context, policy=policy)
        for chunk in texts.split(chunks.classes, dim=1)
    ]
    return torch.cat(parts, dim=1)


def once(function: Callable[..., Result], *inputs: Tensor, chunks: Chunks) -> Result:
    """function(*inputs) for what all chunks share: its products are kept, norms computed again."""
    if chunks.keep == "everything":
        return function(*inputs)
    return _run_again(function, *inputs, policy=_keep_products)


def _run_again(
    function: Callable[..., Result], *inputs: Tensor, policy: Callable[..., CheckpointPolicy] | None
) -> Result:
    """function(*inputs), again in the backward pass, but for what the policy keeps."""
    if not torch.is_grad_enabled():
        return function(*inputs)
    options: dict[str, Any] = {}
    if policy is not None:
        options["context_fn"] = partial(create_selective_checkpoint_contexts, policy)
    return checkpoint(function, *inputs, use_reentrant=False, **options)


def _keep_products(
    _: Any, operation: Any, *arguments: Any, large: bool = False, **options: Any
) -> CheckpointPolicy:
    # A square product, an attention's projection, costs an eighth of a feed-forward part's two and
    # makes a fifth as many numbers: to compute it again is the cheaper way to save memory.
    kept = operation in MATRIX_PRODUCTS and not (large and len({*arguments[-1].shape}) == 1)
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

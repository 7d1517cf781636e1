"""A training step of VT-CLIP against the textbook's, and against its matrix products alone.

The textbook is `nn.TransformerDecoderLayer`, norm first, given the texts expanded to (B, K, D): the
same mathematics. The floor is the matrix products of our step, forward and backward, at the same
shapes and nothing else. All three are measured in turn in one process, and the medians of the steps
are compared; memory is measured in a process each, as what a step adds to the parameters and the
optimiser's state.
"""

import argparse
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measuring import added_memory, describe_device, measure_alone, time_in_turn
from torch import nn

from vtclip.methods.base import Images, Texts
from vtclip.nn.visual_guided import VisualGuidedHead, VisualGuidedText
from vtclip.runtime.devices import half_precision

SCALE = 100.0
HEADS, RATIO = 8, 4


class Textbook(nn.Module):
    """VT-CLIP as one would write it with PyTorch's decoder layer."""

    def __init__(self, texts: torch.Tensor) -> None:
        super().__init__()
        dim = texts.shape[1]
        self.register_buffer("texts", texts)
        self.norm = nn.LayerNorm(dim)
        self.layer = nn.TransformerDecoderLayer(
            dim, HEADS, RATIO * dim, dropout=0.0, activation="gelu", batch_first=True,
            norm_first=True,
        )  # fmt: skip

    def forward(self, images: Images) -> torch.Tensor:
        targets = (math.sqrt(self.texts.shape[1]) * self.texts).expand(len(images.pooled), -1, -1)
        with half_precision(targets.device):
            guided = self.layer(targets, self.norm(images.spatial))
        guided = F.normalize(guided.float(), dim=-1)
        return SCALE * torch.einsum("bd,bkd->bk", F.normalize(images.pooled, dim=-1), guided)


def ours(texts: torch.Tensor) -> nn.Module:
    guide = VisualGuidedText(texts.shape[1], heads=HEADS, feed_forward=RATIO)
    return VisualGuidedHead(guide, Texts(texts, SCALE)).to(texts.device)


MODELS = {"textbook": lambda texts: Textbook(texts).to(texts.device), "ours": ours}


def products(batch: int, classes: int, tokens: int, dim: int) -> list[tuple[int, ...]]:
    """(rows, in, out) of every linear layer, and (matrices, rows, in, columns) of the attention."""
    part = dim // HEADS
    return [
        *[(classes, dim, dim)] * 5,  # the texts among one another, and their queries
        *[(batch * tokens, dim, dim)] * 2,  # keys and values
        (HEADS, classes, part, classes), (HEADS, classes, classes, part),
        (batch * HEADS, classes, part, tokens), (batch * HEADS, classes, tokens, part),
        (batch * classes, dim, dim),
        (batch * classes, dim, RATIO * dim), (batch * classes, RATIO * dim, dim),
    ]  # fmt: skip


def flops(batch: int, classes: int, tokens: int, dim: int) -> int:
    """Of a step, forward and backward: three products for each one forward."""
    return sum(6 * math.prod(shape) for shape in products(batch, classes, tokens, dim))


def floor(
    shapes: list[tuple[int, ...]], device: torch.device, dtype: torch.dtype
) -> Callable[[], None]:
    """The products of a step: one forward and two backward for each."""
    operands = []
    for shape in shapes:
        *matrices, rows, inside, columns = shape
        left = torch.randn(*matrices, rows, inside, device=device, dtype=dtype)
        right = torch.randn(*matrices, inside, columns, device=device, dtype=dtype)
        operands.append((left, right))

    def run() -> None:
        for left, right in operands:
            gradient = left @ right
            gradient @ right.mT
            left.mT @ gradient

    return run


def make_step(
    name: str, batch: int, classes: int, tokens: int, dim: int, device: torch.device
) -> Callable[[], None]:
    """One training step: forward, backward, AdamW."""
    torch.manual_seed(0)
    texts = F.normalize(torch.randn(classes, dim, device=device), dim=-1)
    model = MODELS[name](texts)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    images = Images(
        torch.randn(batch, dim, device=device), torch.randn(batch, tokens, dim, device=device)
    )
    labels = torch.randint(classes, (batch,), device=device)

    def step() -> None:
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def measure_memory(name: str, shape: tuple[int, int, int, int]) -> int:
    """Bytes that a step takes, measured in a process of its own."""
    return measure_alone("--memory-of", name, "--shape", *shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=50)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-of", choices=MODELS, help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.memory_of:
        step = make_step(arguments.memory_of, *arguments.shape, device)
        print(added_memory(step, device))
        return
    print(describe_device(device))
    print(f"B = {arguments.batch}, N = {arguments.tokens}, D = {arguments.dim}\n")
    print(
        "| K | step | seconds | speed, of the textbook's | of the floor's "
        "| memory, MB | of the textbook's |"
    )
    print("|---:|---|---:|---:|---:|---:|---:|")
    for classes in arguments.classes:
        shape = (arguments.batch, classes, arguments.tokens, arguments.dim)
        report(shape, device, arguments.rounds)


def report(shape: tuple[int, int, int, int], device: torch.device, rounds: int) -> None:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    steps = {name: make_step(name, *shape, device) for name in MODELS}
    steps["floor"] = floor(products(*shape), device, dtype)
    seconds = time_in_turn(steps, rounds)
    del steps
    memory = {name: measure_memory(name, shape) for name in MODELS}
    for name, taken in seconds.items():
        speed, share = seconds["textbook"] / taken, seconds["floor"] / taken
        cells = [f"{taken:.4f}", f"{speed:.2f}", f"{share:.2f}"]
        if name in memory:
            cells += [f"{memory[name] / 1e6:.0f}", f"{memory[name] / memory['textbook']:.2f}"]
        else:
            cells += ["", ""]
        print(f"| {shape[1]} | {name} | {' | '.join(cells)} |", flush=True)
    rate = flops(*shape) / seconds["ours"] / 1e12
    print(f"| {shape[1]} | ours, TFLOP/s | {rate:.3f} | | | | |", flush=True)


if __name__ == "__main__":
    main()

"""A step of CLIP-LoRA at the shape of ViT-B/16, compared with a plain loop, and with the plan.

The plain loop is what the authors' code does: query, key and value as three layers with a branch
each, and all 77 tokens of every prompt through open_clip's text tower. Weights are random. Each is
measured in a process of its own, for its peak memory.
"""

import argparse
import json
import resource
import sys
import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from measuring import run_alone
from torch import Tensor, nn

from vtclip import cost
from vtclip.backbones.backbone import load_backbone
from vtclip.backbones.shapes import read_shape
from vtclip.config.backbone_config import BackboneConfig
from vtclip.methods.clip_lora import ClipLora, ClipLoraSettings
from vtclip.nn.learner import AdamW
from vtclip.nn.towers import Towers
from vtclip.task import Images, Prompts, Task, Texts

NAME, SHOTS = "ViT-B-16-quickgelu", 16
KINDS = ("vtclip", "plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=32, help="images of a step")
    parser.add_argument("--steps", type=int, default=1, help="after one that warms up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.kind is not None:
        torch.set_num_threads(given.threads)
        print(json.dumps(measure(given.kind, given.classes, given.batch, given.steps)))
        return
    size = cost.Size(
        read_shape(BackboneConfig(name=NAME, pretrained="openai")), given.classes, SHOTS,
        given.classes * SHOTS, 1,
    )  # fmt: skip
    method = ClipLora(ClipLoraSettings(batch_size=given.batch))
    planned = cost.training_memory(size, method.work(size))
    pictures = size.images * 4 * (2 * size.shape.image_size) ** 2 * 4 / 3 / 1e6
    print(f"{NAME}, {given.classes} classes, {given.batch} images, {given.threads} threads")
    print(f"the plan requests {planned:,} MB, {pictures:,.0f} of them for {size.images:,} images")
    for kind in KINDS:
        found = json.loads(run_alone(*sys.argv[1:], "--kind", kind))
        print(
            f"{kind:8} {found['seconds']:6.1f} s a step, {found['mb']:,.0f} MB at most; "
            f"loss {found['loss']:.4f}"
        )


def measure(kind: str, classes: int, batch: int, steps: int) -> dict[str, float]:
    """Seconds of a step, peak memory, and the loss of the first step."""
    torch.manual_seed(0)
    backbone = load_backbone(NAME, pretrained=None)
    names = [f"{number // 10} thing {number % 10}" for number in range(classes)]
    pixels = torch.randn(batch, 3, 224, 224)
    labels = torch.randint(classes, (batch,))
    make = make_vtclip if kind == "vtclip" else make_plain
    classify = make(backbone, names)
    optimiser = AdamW(classify.parameters(), weight_decay=0.01, epsilon=1e-8)
    losses, started = [], 0.0
    for step in range(1 + steps):
        if step == 1:
            started = time.perf_counter()
        losses.append(take_step(classify, optimiser, pixels, labels))
    return {
        "seconds": (time.perf_counter() - started) / steps,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "loss": losses[0],
    }


def take_step(classify, optimiser, pixels: Tensor, labels: Tensor) -> float:
    """The loss of a step on pixels (B, 3, H, W) and labels (B,), before it."""
    images = replace(Images(torch.empty(len(labels), 0), None, pixels=pixels), labels=labels)
    loss = F.cross_entropy(classify(images), labels)
    loss.backward()
    optimiser.step(2e-4)
    return loss.item()


def make_vtclip(backbone, names, kind=ClipLora) -> nn.Module:
    """The learner of a method that trains the towers."""
    method = kind(kind.settings_type())
    prompts = Prompts(names, Towers(backbone))
    task = Task(Texts(torch.empty(0), 100.0, made_of=prompts), None, None, 1, prompts)
    return method.learner(method.initial_head(task), task)


class Branched(nn.Module):
    """A frozen layer with a branch of rank 2."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias
        width = weight.shape[0]
        self.a = nn.Parameter((2 * torch.rand(2, width) - 1) / width**0.5)
        self.b = nn.Parameter(torch.zeros(width, 2))

    def forward(self, tokens: Tensor) -> Tensor:
        branch = F.linear(F.linear(F.dropout(tokens, 0.25), self.a), self.b)
        return F.linear(tokens, self.weight, self.bias) + 2**-0.5 * branch


class PlainAttention(nn.Module):
    """Attention with a layer each for query, key and value."""

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        parts = zip(packed.in_proj_weight.chunk(3), packed.in_proj_bias.chunk(3), strict=True)
        self.layers = nn.ModuleList([Branched(*(each.detach() for each in part)) for part in parts])
        self.out_proj, self.heads = packed.out_proj, packed.num_heads

    def forward(self, query, key, value, *, need_weights, attn_mask):
        parts = [
            layer(query).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in self.layers
        ]
        found = F.scaled_dot_product_attention(*parts, attn_mask=attn_mask)
        return self.out_proj(found.transpose(1, 2).flatten(2)), None


class Plain(nn.Module):
    """Both towers with branches, and all tokens of all prompts."""

    def __init__(self, backbone, names) -> None:
        super().__init__()
        self.model = backbone.model
        for blocks in (self.model.visual.transformer.resblocks, self.model.transformer.resblocks):
            for block in blocks:
                block.attn = PlainAttention(block.attn)
        self.tokens = backbone.tokenizer([f"a photo of a {name}." for name in names])

    def parameters(self):
        return [weight for weight in super().parameters() if weight.requires_grad]

    def forward(self, images: Images) -> Tensor:
        texts = self.model.encode_text(self.tokens, normalize=True)
        return 100 * self.model.encode_image(images.pixels, normalize=True) @ texts.T


def make_plain(backbone, names) -> nn.Module:
    """The plain loop's model."""
    return Plain(backbone, names)


if __name__ == "__main__":
    main()

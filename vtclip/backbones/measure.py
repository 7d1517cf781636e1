"""The shape of a model, measured on towers that are built without memory for their weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import open_clip
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vtclip.backbones.build import check_timm_tower
from vtclip.backbones.checkpoints import BackboneError
from vtclip.backbones.image_towers import check_tower, encode_images, find_kind, list_attention
from vtclip.backbones.known import Measured
from vtclip.backbones.text_towers import find_causal

TEXT_POOLINGS = ("argmax", "eos", "first", "last")
OWN_TOKENS = 12  # of a prompt after a shared start; the paper's datasets have 3 to 11 a name
# Weights of the layers, and of the embedding, of Hugging Face's text towers that open_clip names.
# Their configurations are on the hub, and planning works without internet.
HUGGING_FACE = {
    "facebook/nllb-200-distilled-1.3B": (503_000_000, 262_000_000),
    "facebook/nllb-200-distilled-600M": (151_000_000, 262_000_000),
    "google/mt5-base": (85_000_000, 192_000_000),
    "google/mt5-xl": (1_157_000_000, 512_000_000),
    "roberta-base": (85_000_000, 39_000_000),
    "xlm-roberta-base": (85_000_000, 192_000_000),
    "xlm-roberta-large": (302_000_000, 256_000_000),
}
LARGE = HUGGING_FACE["xlm-roberta-large"]  # stands for any other


def measure_model(config: dict[str, Any]) -> Measured:
    """Shape, weights and work of a model, from open_clip's model_cfg.

    A BackboneError refuses towers that cannot be used; open_clip, timm and PyTorch raise others for
    those that cannot be built.
    """
    check_timm_tower(config)
    visual = _build(open_clip.model._build_vision_tower, config["embed_dim"], "vision_cfg", config)
    visual.eval().requires_grad_(False)
    check_tower(visual, "raw", name="the model")
    size = visual.image_size
    pixels = torch.zeros(1, 3, *((size, size) if isinstance(size, int) else size), device="meta")
    flops = FlopCounterMode(display=False)
    with torch.no_grad(), flops:
        pooled, places = encode_images(visual, pixels, "raw")
    text = _measure_text_tower(config)
    return Measured(
        kind=find_kind(visual),
        places=places.shape[1],
        width=places.shape[2],
        dim=pooled.shape[1],
        image_size=pixels.shape[-1],
        image_weights=_count(visual),
        image_flops=float(flops.get_total_flops()),
        image_blocks=len(list_attention(visual)),
        text_weights=text.weights + _count_decoder(config),
        text_blocks=text.blocks,
        text_width=text.width,
        prompt_flops=4.0 * text.layers * text.tokens,  # forward, and back to the prompt's words
        context_length=text.context_length,
    )


class _TextTower(NamedTuple):
    layers: int  # weights of the layers
    weights: int  # in all
    blocks: int  # whose attention can be reached
    width: int  # numbers of a token; 0 where there are no such blocks
    tokens: int  # of a prompt that are read
    context_length: int


def _build(build: Callable[..., Any], outputs: int, part: str, config: dict[str, Any]) -> Any:
    """Build a part of a model by a function of open_clip's, without memory for its weights."""
    with torch.device("meta"):
        return build(outputs, dict(config[part]), config.get("quick_gelu", False))


def _measure_text_tower(config: dict[str, Any]) -> _TextTower:
    text = config["text_cfg"]
    context_length = text.get("context_length", 77)
    if library := text.get("hf_model_name"):
        layers, embedding = HUGGING_FACE.get(library, LARGE)
        return _TextTower(layers, layers + embedding, 0, 0, context_length, context_length)
    if text.get("pool_type", "argmax") not in TEXT_POOLINGS:
        raise BackboneError(
            f"text_cfg with pool_type {text['pool_type']}, of {', '.join(TEXT_POOLINGS)}"
        )
    tower = _build(open_clip.model._build_text_tower, config["embed_dim"], "text_cfg", config)
    # Where tokens see only those before them, a shared start is read once for all prompts.
    tokens = context_length if find_causal(tower) is None else min(OWN_TOKENS, context_length)
    blocks = len(list_attention(tower))
    width = text.get("width", 512) if blocks else 0
    layers = _count(tower.transformer)
    return _TextTower(layers, _count(tower), blocks, width, tokens, context_length)


def _count_decoder(config: dict[str, Any]) -> int:
    """Weights of the part that writes captions in a CoCa: here it takes memory alone."""
    if "multimodal_cfg" not in config:
        return 0
    # A decoder projects to the vocabulary, as CoCa.__init__ builds it.
    vocabulary = config["text_cfg"].get("vocab_size", 49408)
    build = open_clip.coca_model._build_text_decoder_tower
    return _count(_build(build, vocabulary, "multimodal_cfg", config))


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())

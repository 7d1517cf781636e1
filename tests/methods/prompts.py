"""Prompts with learned words, encoded one by one in double precision."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor

from vtclip.backbones.backbone import Backbone

NAMES = ["ant", "polar_bear", "cow", "dog"]


def encode_by_hand(backbone: Backbone, context: Tensor, names: Sequence[str]) -> Tensor:
    """The texts (K, D) of words before class names, of unit length, by open_clip's own modules."""
    model, words = deepcopy(backbone.model).double(), " ".join("X" * len(context))
    texts = []
    for name in names:
        tokens = backbone.tokenizer([f"{words} {name.replace('_', ' ')}."])
        embedded = model.token_embedding(tokens)[0]
        embedded = torch.cat([embedded[:1], context.double(), embedded[1 + len(context) :]])
        hidden = model.transformer((embedded + model.positional_embedding)[None], model.attn_mask)
        text = model.ln_final(hidden)[0, tokens[0].argmax()] @ model.text_projection
        texts.append(text / text.norm())
    return torch.stack(texts)

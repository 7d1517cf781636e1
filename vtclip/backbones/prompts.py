"""The text tower from word embeddings on, for prompts with learned words."""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vtclip.backbones.backbone import Backbone, load_backbone
from vtclip.backbones.text_towers import (
    CausalTower,
    PromptError,
    find_causal,
    find_overlong,
    find_words,
    finish_block,
    project_heads,
    read_words,
)
from vtclip.runtime.devices import half_precision, has_bfloat16

ROW = 256  # tokens of a row, about, beside the start that each row reads once more
ALIGNED = 8  # a row's length is a multiple, or CUDA's attention would copy the mask at each use
PLACEHOLDER = "X"  # one token for each learned word, as in CoOp


class TextTower:
    """The frozen text tower of a backbone.

    Raises:
        PromptError: a text tower whose word embeddings cannot be reached.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._model: Any = backbone.model
        self.encode_classes = backbone.encode_classes
        self._tokenizer = backbone.tokenizer
        self._device = backbone.device
        self._embedding = _find_embedding(backbone)
        self.width: int = self._embedding.embedding_dim  # of a word embedding

    @cached_property
    def _causal(self) -> CausalTower | None:
        """The tower in parts, if it is causal."""
        tower = find_causal(self._model)
        if tower is None or not has_bfloat16(self._device):
            return tower
        return PackedTower(tower, torch.bfloat16)

    def embed_words(self, words: str) -> Tensor:
        """Embeddings (n, width) of some words, without those of start and end."""
        tokens = torch.tensor(read_words(self._tokenizer, words), device=self._device)
        with torch.no_grad():
            return self._embedding(tokens)

    def prompt_encoder(self, class_names: Sequence[str], words: int) -> Callable[[Tensor], Tensor]:
        """A function from a context of word embeddings to one text feature a class.

        The prompts are "[context] class name."; underscores in names are read as spaces.

        Args:
            class_names: K names, by label.
            words: n, the length of the context.

        Returns:
            context (n, width) -> (K, D) of unit length; gradients reach the context.

        Raises:
            PromptError: a prompt that is longer than the tower reads, or a tokenizer that does not
                give each word of the context a token of its own.
        """
        context = " ".join([PLACEHOLDER] * words)
        prompts = [f"{context} {name.replace('_', ' ')}." for name in class_names]
        self._check_lengths(prompts, class_names, words)
        tokens = self._tokenizer(prompts).to(self._device)  # (K, length)
        first = find_words(self._tokenizer, tokens, context)
        if first is None:
            raise PromptError(
                f"The tokenizer does not give each of the {words} words before a class name "
                "a token of its own, so that they cannot be learned with this backbone."
            )
        read = self._reader(tokens, first, words)

        def encode(context: Tensor) -> Tensor:
            with half_precision(self._device):
                texts = read(context)  # (K, D)
            return F.normalize(texts.float(), dim=-1)

        return encode

    def _reader(self, tokens: Tensor, first: int, words: int) -> Callable[[Tensor], Tensor]:
        """context (n, width) -> (K, D) for prompts (K, length) with the context from `first` on.

        A causal tower reads what precedes the names once.
        """
        tower = self._causal
        if tower is None:
            return self._whole_reader(tokens, first, words)
        with torch.no_grad():
            start = self._embedding(tokens[0, :first])
        read = tower.reader(tokens, shared=first + words)
        return lambda context: read(torch.cat([start, context.to(start.dtype)]))

    def _whole_reader(self, tokens: Tensor, first: int, words: int) -> Callable[[Tensor], Tensor]:
        """context (n, width) -> (K, D): all tokens of all prompts."""
        with torch.no_grad():
            embedded = self._embedding(tokens)  # (K, length, width)
        start, end = embedded[:, :first], embedded[:, first + words :]

        def read(context: Tensor) -> Tensor:
            middle = context.expand(len(start), -1, -1).to(start.dtype)
            replaced = torch.cat([start, middle, end], dim=1)
            # open_clip's own forward pass, with our embeddings in place of the tokens'.
            hook = self._embedding.register_forward_hook(lambda *_: replaced)
            try:
                return self._model.encode_text(tokens, normalize=False)
            finally:
                hook.remove()

        return read

    def _check_lengths(
        self, prompts: Sequence[str], class_names: Sequence[str], words: int
    ) -> None:
        found = find_overlong(self._tokenizer, prompts)
        if found is None:
            return
        left = words - found.length + found.longest
        advice = f"write:\n    context: {left}" if left > 0 else "shorten the class's name"
        raise PromptError(
            f"context: {words} words and '{class_names[found.place]}' make {found.length} "
            f"tokens; the text tower reads {found.longest}.\n  {advice}"
        )


def _find_embedding(backbone: Backbone) -> torch.nn.Embedding:
    """The layer that turns tokens into word embeddings."""
    # A model with a text tower of its own class keeps everything one level down.
    tower: Any = getattr(backbone.model, "text", backbone.model)
    library: Any = getattr(tower, "transformer", None)
    if hasattr(tower, "token_embedding"):
        return tower.token_embedding
    if hasattr(library, "get_input_embeddings"):  # a tower of Hugging Face's
        return library.get_input_embeddings()
    raise PromptError(
        f"The word embeddings of {backbone.name} cannot be reached, so that no words can be "
        "learned with it: leave out the methods that learn words."
    )


class PackedTower(CausalTower):
    """A causal tower for training on a GPU, where launching operations takes the most time.

    Many prompts go through it as one row: the shared start, then the own tokens of one prompt after
    another. A mask keeps them apart. Products are in `dtype`, which autocast uses as well.
    """

    def __init__(self, tower: CausalTower, dtype: torch.dtype) -> None:
        super().__init__(tower._tower)
        self._dtype = dtype
        self._blocks = deepcopy(tower._blocks)
        for block in self._blocks:
            _make_fast(block, dtype)

    @torch.no_grad()
    def reader(self, tokens: Tensor, shared: int) -> Callable[[Tensor], Tensor]:
        """As a causal tower's."""
        ends = tokens.argmax(dim=1) - shared
        owner, place = pack(ends.cpu() + 1, shared).to(tokens.device)  # (R, n) each
        last = F.pad(place == ends[owner], (shared, 0)).flatten().nonzero()[:, 0]
        mask = _keep_apart(owner, shared, self._dtype)
        positions = self._tower.positional_embedding
        embedded = self._tower.token_embedding(tokens[owner, shared + place])
        own = embedded + positions[shared + place]  # (R, n, width)

        def read(start: Tensor) -> Tensor:
            start = (start + positions[:shared]).expand(len(own), -1, -1)
            hidden = torch.cat([start, own], dim=1)
            for block in self._blocks:
                query, key, value = project_heads(block, hidden)
                attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
                hidden = finish_block(block, hidden, attended)
            return self._pool(hidden.flatten(0, 1).index_select(0, last))

        return read


def pack(lengths: Tensor, shared: int) -> Tensor:
    """Distribute prompts of some own lengths, in their order, among rows of like length.

    Gives (2, R, n): for each token of each row the number of its prompt, and its place there; -1
    after a row's last token. The shared start and n make a multiple of `ALIGNED`.
    """
    ends = lengths.cumsum(0)
    owner = torch.arange(len(lengths)).repeat_interleave(lengths)
    place = torch.arange(len(owner)) - (ends - lengths)[owner]
    room = math.ceil(len(owner) / math.ceil(len(owner) / ROW))
    row = (ends - 1) // room  # of each prompt, by its last token
    sizes = row[owner].unique_consecutive(return_counts=True)[1].tolist()
    rows = list(torch.stack([owner, place], dim=1).split(sizes))
    padded = pad_sequence(rows, batch_first=True, padding_value=-1).movedim(2, 0)
    return F.pad(padded, (0, -(shared + padded.shape[2]) % ALIGNED), value=-1)


def _keep_apart(owner: Tensor, shared: int, dtype: torch.dtype) -> Tensor:
    """A mask (R, 1, S + n, S + n) for rows of prompts' own tokens (R, n) after the shared start.

    A token sees the start and its own prompt, as far as they are not after it.
    """
    owner = F.pad(owner, (shared, 0), value=-1)
    seen = owner[:, :, None] == owner[:, None, :]
    seen[:, :, :shared] = True
    mask = torch.zeros(seen.shape, dtype=dtype, device=owner.device)
    return mask.masked_fill_(~seen.tril(), -math.inf)[:, None]


@torch.no_grad()
def _make_fast(block: Any, dtype: torch.dtype) -> None:
    """Cast the weights of a layer's products once, and make QuickGELU one operation."""
    rise, activation, fall = block.mlp
    if type(activation) is QuickGELU:  # x * sigmoid(1.702 x) is silu(1.702 x) / 1.702
        rise.weight *= 1.702
        rise.bias *= 1.702
        fall.weight /= 1.702
        block.mlp[1] = nn.SiLU()
    for module in block.modules():
        if isinstance(module, nn.Linear | nn.MultiheadAttention):
            module.to(dtype)


def load_tower(name: str, **options: Any) -> TextTower:
    """The text tower of a backbone; arguments as for `load_backbone`."""
    return TextTower(load_backbone(name, **options))

"""Text towers and their tokens: lengths of prompts, and one pass for the start that they share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.transformer import ResidualAttentionBlock, TextTransformer
from torch import Tensor, nn

from vtclip.wording import list_lines


class PromptError(ValueError):
    """A prompt that the text tower cannot read."""


class Overlong(NamedTuple):
    """A text that would be cut."""

    place: int  # index of the text
    length: int  # its tokens, with those of start and end
    longest: int  # tokens that the text tower reads

    def explain(self, texts: Sequence[str], tower: str) -> str:
        """A sentence for the error, with the text and the name of the backbone."""
        return (
            f"'{texts[self.place]}' has {self.length} tokens, and the text tower of {tower} reads "
            f"{self.longest}."
        )


def find_overlong(tokenizer: Any, texts: Sequence[str]) -> Overlong | None:
    """The longest of some prompts, if it is longer than the text tower reads.

    open_clip's tokenizers cut it without a word.
    """
    lengths = [count_tokens(tokenizer, text) for text in texts]
    length = max(lengths, default=0)
    if length <= tokenizer.context_length:
        return None
    return Overlong(lengths.index(length), length, tokenizer.context_length)


def check_lengths(tokenizer: Any, prompts: Mapping[str, Sequence[str]], *, tower: str) -> None:
    """Refuse classes with a prompt that would be cut; `prompts` are class name -> prompts."""
    found = {name: find_overlong(tokenizer, texts) for name, texts in prompts.items()}
    faults = [
        f"class '{name}': {overlong.explain(prompts[name], tower)}"
        for name, overlong in found.items()
        if overlong is not None
    ]
    if faults:
        raise PromptError(
            f"{list_lines(faults)}\nShorten the class's name, for layout folders under "
            "`class_names:`, or the longest of `templates:` in the dataset's file; a sentence of "
            "descriptions in a file of your own."
        )


def count_tokens(tokenizer: Any, text: str) -> int:
    """The tokens of a text, with those of start and end."""
    if hasattr(tokenizer, "encode"):
        return len(tokenizer.encode(text)) + 2
    if getattr(tokenizer, "tokenizer_mode", "") == "clips":
        return len(read_words(tokenizer, text)) + 3  # start, end and a class token
    # Hugging Face's counts start and end itself.
    return len(tokenizer.tokenizer(tokenizer.clean_fn(text))["input_ids"])


def read_words(tokenizer: Any, words: str) -> list[int]:
    """The tokens of some words, without those of start and end."""
    if hasattr(tokenizer, "encode"):
        return tokenizer.encode(words)
    cleaned = tokenizer.clean_fn(words)
    return tokenizer.tokenizer(cleaned, add_special_tokens=False)["input_ids"]


def find_words(tokenizer: Any, prompts: Tensor, words: str) -> int | None:
    """Place of the first word's token in prompts (T, length) that all begin with `words`.

    None where the words have no token each, or stand in different places.
    """
    wanted = prompts.new_tensor(read_words(tokenizer, words))
    if len(wanted) != len(words.split()):
        return None
    for place in range(prompts.shape[1] - len(wanted)):
        if (prompts[:, place : place + len(wanted)] == wanted).all():
            return place
    return None


BATCH = 256  # prompts at a time


class CausalTower:
    """A frozen text tower, in parts; `find_causal` makes one.

    A token of a causal tower sees only those before it. So a start that all prompts share goes
    through the tower once: its keys and values in each layer are all that the rest of a prompt
    needs of it. Tokens after the end token, whose output is the feature, are not read at all.
    """

    def __init__(self, tower: Any) -> None:
        self._tower = tower
        self._blocks = tower.transformer.resblocks

    def encode(self, tokens: Tensor) -> Tensor:
        """The text features (T, D) of prompts (T, length), as open_clip's `encode_text`."""
        start = self._tower.token_embedding(tokens[0, :1])
        return self.reader(tokens, shared=1)(start)

    def reader(self, tokens: Tensor, shared: int) -> Callable[[Tensor], Tensor]:
        """A function from the embeddings (S, width) of the shared start to features (T, D).

        The first S tokens of the prompts (T, length) are not read. Gradients reach the embeddings.
        """
        ends = tokens.argmax(dim=1) - shared  # the end token has the largest number
        order = ends.argsort(stable=True)  # prompts of like length together: little to pad
        batches = [
            (tokens[rows, shared : shared + int(ends[rows[-1]]) + 1], ends[rows])
            for rows in order.split(BATCH)
        ]
        back = order.argsort()

        def read(start: Tensor) -> Tensor:
            seen = self._read_shared(start)
            features = [self._read_own(own, last, seen, shared) for own, last in batches]
            return torch.cat(features).index_select(0, back)

        return read

    def _read_shared(self, embedded: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The keys and values (heads, S, width / heads) of the shared tokens in each layer."""
        hidden = embedded + self._tower.positional_embedding[: len(embedded)]
        seen = []
        for block in self._blocks:
            query, key, value = project_heads(block, hidden)
            seen.append((key, value))
            attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            hidden = finish_block(block, hidden, attended)
        return seen

    def _read_own(
        self, tokens: Tensor, ends: Tensor, seen: list[tuple[Tensor, Tensor]], shared: int
    ) -> Tensor:
        """The features (T, D) of prompts whose own tokens (T, L) end at `ends`."""
        length = shared + tokens.shape[1]
        positions = self._tower.positional_embedding[shared:length]
        mask = self._tower.attn_mask[shared:length, :length]  # (L, S + L)
        hidden = self._tower.token_embedding(tokens) + positions  # (T, L, width)
        for block, (keys, values) in zip(self._blocks, seen, strict=True):
            attended = _attend(*project_heads(block, hidden), keys, values, mask)
            hidden = finish_block(block, hidden, attended)
        return self._pool(_pick(hidden, ends))

    def encode_apart(self, tokens: Tensor) -> Tensor:
        """As `encode`, through the tower's own modules, and with no token shared."""
        ends = tokens.argmax(dim=1)  # the end token has the largest number
        length = int(ends.max()) + 1
        positions = self._tower.positional_embedding[:length]
        mask = self._tower.attn_mask[:length, :length]
        hidden = self._tower.token_embedding(tokens[:, :length]) + positions  # (T, length, width)
        return self._pool(_pick(self._tower.transformer(hidden, attn_mask=mask), ends))

    def _pool(self, last: Tensor) -> Tensor:
        """The features (T, D) of prompts, from the last layer's output (T, width) at their ends."""
        pooled = self._tower.ln_final(last)  # (T, width)
        projection = self._tower.text_projection
        if projection is None:
            return pooled
        return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection


def find_causal(model: nn.Module) -> CausalTower | None:
    """The text tower of a model, if it is causal, pools the end token, and is open_clip's own."""
    # A model with a text tower of its own class keeps everything one level down.
    tower: Any = getattr(model, "text", model)
    if type(tower) not in (CLIP, TextTransformer) or getattr(tower, "cls_emb", None) is not None:
        return None
    pooling = tower.text_pool_type if type(tower) is CLIP else tower.pool_type
    usual = all(type(block) is ResidualAttentionBlock for block in tower.transformer.resblocks)
    causal = tower.attn_mask is not None  # open_clip has none other
    return CausalTower(tower) if pooling == "argmax" and usual and causal else None


def _pick(hidden: Tensor, ends: Tensor) -> Tensor:
    """The tokens (T, width) of prompts (T, L, width) at their ends."""
    return hidden[torch.arange(len(ends), device=ends.device), ends]


def encode_tokens(model: Any, tokens: Tensor) -> Tensor:
    """Text features (T, D) of prompts (T, length), not normalised, in the fewest operations."""
    tower = find_causal(model)
    if tower is not None:
        return tower.encode(tokens)
    parts = tokens.split(BATCH)
    return torch.cat([model.encode_text(part, normalize=False) for part in parts])


def project_heads(block: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of a layer, each (..., heads, L, width / heads)."""
    attention = block.attn
    joint = F.linear(block.ln_1(hidden), attention.in_proj_weight, attention.in_proj_bias)
    parts = joint.unflatten(-1, (3, attention.num_heads, -1)).unbind(-3)
    query, key, value = (part.transpose(-2, -3) for part in parts)
    return query, key, value


def _attend(
    query: Tensor, key: Tensor, value: Tensor, seen_keys: Tensor, seen_values: Tensor, mask: Tensor
) -> Tensor:
    """Attention of own tokens to the shared ones, which are not copied, and to their own prompt's.

    Query, key and value are (T, heads, L, width / heads), what is seen (heads, S, width / heads),
    and the mask, which is added to the scores, (L, S + L).
    """
    query = query / query.shape[-1] ** 0.5
    scores = [torch.einsum("thld,hsd->thls", query, seen_keys), query @ key.mT]
    weights = (torch.cat(scores, dim=-1) + mask).softmax(dim=-1)  # (T, heads, L, S + L)
    before, among = weights.split([seen_keys.shape[1], key.shape[2]], dim=-1)
    return torch.einsum("thls,hsd->thld", before, seen_values) + among @ value


def finish_block(block: Any, hidden: Tensor, attended: Tensor) -> Tensor:
    """Output of a layer, from its attention (..., heads, L, width / heads)."""
    joined = attended.transpose(-2, -3).flatten(-2)
    hidden = hidden + block.ls_1(block.attn.out_proj(joined))
    return hidden + block.ls_2(block.mlp(block.ln_2(hidden)))

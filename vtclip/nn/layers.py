"""The parts of a guided block: attention, feed-forward, and what adds each of them to the texts."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """x + weight * gate * part(norm(x)), or norm(x + weight * gate * part(x))."""

    part: Any  # Attention | FeedForward

    def __init__(
        self,
        part: "Attention | FeedForward",
        dim: int,
        *,
        norm: str,
        start: str,
        weight: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.part = part
        self.norm = nn.LayerNorm(dim)
        self.norm_first = norm == "pre"
        self.weight = weight
        self.dropout = nn.Dropout(dropout)
        self.gate = nn.Parameter(torch.zeros(())) if start == "gate" else None
        if start == "zero":
            nn.init.zeros_(part.out.weight)
            nn.init.zeros_(part.out.bias)

    def forward(self, texts: Tensor, *context: Tensor) -> Tensor:
        """texts (B or 1, K, D) and what the part looks at -> (B, K, D)."""
        change = self.dropout(self.part(self.before(texts), *context))
        if self.gate is not None:
            change = self.gate * change
        total = texts.add(change, alpha=self.weight)
        return total if self.norm_first else self.norm(total)

    def before(self, texts: Tensor) -> Tensor:
        """What the part is given."""
        return self.norm(texts) if self.norm_first else texts


class Attention(nn.Module):
    """Multi-head attention of the queries to a context, or to one another."""

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(context_dim, dim)
        self.value = nn.Linear(context_dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(
        self, queries: Tensor, key: Tensor | None = None, value: Tensor | None = None
    ) -> Tensor:
        """queries (B or 1, K, D) to what was read of a context, or to one another -> (B, K, D)."""
        if key is None or value is None:
            query, key, value = self._project(queries, self.query, self.key, self.value)
        else:
            query = self._split(self.query(queries))
        # A `len` would make the number of images a part of an exported graph.
        query = query.expand(key.shape[0], -1, -1, -1)
        attended = F.scaled_dot_product_attention(query, key, value)  # (B, heads, K, D / heads)
        return self.out(attended.transpose(1, 2).flatten(2))

    def read(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, width) -> key and value, (B, heads, N, D / heads) each."""
        key, value = self._project(context, self.key, self.value)
        return key, value

    def weights(self, queries: Tensor, key: Tensor) -> Tensor:
        """queries (B or 1, K, D) -> (B, K, N): the shares of each token, the mean over heads."""
        query = self._split(self.query(queries))
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, heads, K, N)
        return scores.softmax(dim=-1).mean(dim=1)

    def _project(self, tokens: Tensor, *layers: nn.Linear) -> list[Tensor]:
        """(B, N, width) -> what each layer makes of it, (B, heads, N, D / heads): one product."""
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        made = F.linear(tokens, weight, bias).chunk(len(layers), dim=-1)
        return [self._split(part) for part in made]

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, heads, N, D / heads)."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two layers with a GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.rise = nn.Linear(dim, hidden)
        self.out = nn.Linear(hidden, dim)

    def forward(self, texts: Tensor) -> Tensor:
        """(B, K, D) -> (B, K, D)."""
        return self.out(F.gelu(self.rise(texts)))

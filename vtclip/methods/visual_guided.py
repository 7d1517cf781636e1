"""The one trained module of VT-CLIP, arXiv 2112.02399, section 3.

The class texts T (K, D) are the queries, an image's spatial features S (B, N, D) the keys and the
values. What a text reads from an image is added to it:

    x = sqrt(D) * T                      the residual stream, of unit size an entry
    x = x + SelfAttention(norm(x))       among the K texts: the same for every image
    x = x + CrossAttention(norm(x), norm(S))
    x = x + FeedForward(norm(x))
    guided texts = x / |x|               (B, K, D)

The last projection of each part starts at zero, so that x / |x| is T before the first step, and
training starts at zero-shot CLIP. The factor sqrt(D) matters: a text of unit length has entries
near 1 / sqrt(D), which one step of an adaptive optimiser would drown.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtclip.methods.base import Images, Texts


class VisualGuidedText(nn.Module):
    """Turns class texts into texts of an image.

    Args:
        dim: width D of the texts.
        spatial_dim: width of the spatial features; D if left out.
        blocks: how often the parts are repeated.
        heads: attention heads, a divisor of D.
        self_attention: whether the texts attend to one another.
        feed_forward: hidden width of the feed-forward part, as a multiple of D; 0 for none.

    Raises:
        ValueError: D is not a multiple of the heads.
    """

    def __init__(
        self,
        dim: int,
        *,
        spatial_dim: int | None = None,
        blocks: int = 1,
        heads: int = 8,
        self_attention: bool = True,
        feed_forward: float = 4.0,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads: expected a divisor of the width {dim}, found {heads}.")
        self.scale = math.sqrt(dim)
        spatial_dim = spatial_dim or dim
        self.spatial_norm = nn.LayerNorm(spatial_dim)
        self.blocks = nn.ModuleList(
            GuidedBlock(dim, spatial_dim, heads, self_attention, feed_forward)
            for _ in range(blocks)
        )

    def forward(self, texts: Tensor, spatial: Tensor) -> Tensor:
        """The texts of each image.

        Args:
            texts: (K, D) of unit length.
            spatial: (B, N, width).

        Returns:
            (B, K, D) of unit length.
        """
        spatial = self.spatial_norm(spatial)
        guided = (self.scale * texts)[None]  # (1, K, D) until the images come in
        for block in self.blocks:
            guided = block(guided, spatial)
        return F.normalize(guided, dim=-1).expand(len(spatial), -1, -1)


class GuidedBlock(nn.Module):
    """Self-attention among the texts, cross-attention to the image, feed-forward; norms first."""

    def __init__(
        self, dim: int, spatial_dim: int, heads: int, self_attention: bool, feed_forward: float
    ) -> None:
        super().__init__()
        self.among_texts = Attention(dim, dim, heads) if self_attention else None
        self.to_image = Attention(dim, spatial_dim, heads)
        self.feed_forward = FeedForward(dim, round(feed_forward * dim)) if feed_forward else None

    def forward(self, texts: Tensor, spatial: Tensor) -> Tensor:
        """texts (B or 1, K, D), spatial (B, N, width) -> (B, K, D)."""
        if self.among_texts is not None:
            texts = texts + self.among_texts(texts)
        texts = texts + self.to_image(texts, spatial)
        if self.feed_forward is not None:
            texts = texts + self.feed_forward(texts)
        return texts


class Attention(nn.Module):
    """Multi-head attention of the normed queries to the context, or to themselves."""

    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(context_dim, dim)
        self.value = nn.Linear(context_dim, dim)
        self.out = _zero(nn.Linear(dim, dim))

    def forward(self, queries: Tensor, context: Tensor | None = None) -> Tensor:
        """queries (B or 1, K, D), context (B, N, width) -> (B, K, D)."""
        queries = self.norm(queries)
        context = queries if context is None else context
        query = self._split(self.query(queries)).expand(len(context), -1, -1, -1)
        key, value = self._split(self.key(context)), self._split(self.value(context))
        attended = F.scaled_dot_product_attention(query, key, value)  # (B, heads, K, D / heads)
        return self.out(attended.transpose(1, 2).flatten(2))

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, heads, N, D / heads)."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Two layers with a GELU between them, on the normed texts."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.rise = nn.Linear(dim, hidden)
        self.fall = _zero(nn.Linear(hidden, dim))

    def forward(self, texts: Tensor) -> Tensor:
        """(B, K, D) -> (B, K, D)."""
        return self.fall(F.gelu(self.rise(self.norm(texts))))


class VisualGuidedHead(nn.Module):
    """VT-CLIP's classifier: each image against its own texts.

    Args:
        guide: what turns texts into texts of an image.
        texts: the classes, kept as they are.
    """

    texts: Tensor

    def __init__(self, guide: VisualGuidedText, texts: Texts) -> None:
        super().__init__()
        self.guide = guide
        self.logit_scale = texts.logit_scale
        self.register_buffer("texts", texts.features, persistent=False)

    def forward(self, images: Images) -> Tensor:
        """logits (B, K) = scale * cos(pooled, guided texts)."""
        assert images.spatial is not None
        guided = self.guide(self.texts, images.spatial)  # (B, K, D)
        pooled = F.normalize(images.pooled, dim=-1)  # (B, D)
        return self.logit_scale * torch.einsum("bd,bkd->bk", pooled, guided)


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer

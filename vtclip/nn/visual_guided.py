"""The one trained module of VT-CLIP, arXiv 2112.02399, section 3.

The class texts T (K, D) are the queries, an image's spatial features S (B, N, D) the keys and the
values. What a text reads from an image is added to it:

    x = sqrt(D) * T                      the residual stream, of unit size per entry
    x = x + SelfAttention(norm(x))       among the K texts: the same for every image
    x = x + CrossAttention(norm(x), norm(S))
    x = x + FeedForward(norm(x))
    guided texts = x / |x|               (B, K, D)

The last projection of each part starts at zero, so that x / |x| is T before the first step, and
training starts at zero-shot CLIP. The factor sqrt(D) matters: a text of unit length has entries
near 1 / sqrt(D), which one step of an adaptive optimiser would drown.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtclip.nn.chunks import Chunks, in_chunks, memory_for_pairs, once, plan_chunks
from vtclip.runtime.devices import half_precision
from vtclip.task import Images, Texts

Finish = Callable[[Tensor], Tensor]  # applied to the guided texts (B, k, D) of a chunk


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
        """Attend to key and value of `read`, or to one another: (B or 1, K, D) -> (B, K, D)."""
        if key is None or value is None:
            query, key, value = self._project(queries, self.query, self.key, self.value)
        else:
            # A `len` would make the number of images a part of an exported graph. A copy for each
            # image, as some versions of cuDNN's attention refuse strides of 0 (PyTorch 175764).
            query = self._split(self.query(queries).expand(key.shape[0], -1, -1).contiguous())
        attended = F.scaled_dot_product_attention(query, key, value)  # (B, heads, K, D / heads)
        return self.out(attended.transpose(1, 2).flatten(2))

    def read(self, context: Tensor) -> list[Tensor]:
        """(B, N, width) -> key and value, (B, heads, N, D / heads) each."""
        return self._project(context, self.key, self.value)

    def weights(self, queries: Tensor, key: Tensor) -> Tensor:
        """(B or 1, K, D) -> (B, K, N): the shares of each token, the mean over heads."""
        query = self._split(self.query(queries))
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (B, heads, K, N)
        return scores.softmax(dim=-1).mean(dim=1)

    def _project(self, tokens: Tensor, *layers: nn.Linear) -> list[Tensor]:
        """(B, N, width) -> each layer's output, (B, heads, N, D / heads), by one product."""
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers])
        outputs = F.linear(tokens, weight, bias).chunk(len(layers), dim=-1)
        return [self._split(output) for output in outputs]

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, N, D) -> (B, heads, N, D / heads)."""
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def make_feed_forward(dim: int, hidden: int) -> nn.Sequential:
    """Two layers with a GELU between them, (B, K, D) -> (B, K, D)."""
    layers = {"rise": nn.Linear(dim, hidden), "gelu": nn.GELU(), "out": nn.Linear(hidden, dim)}
    return nn.Sequential(OrderedDict(layers))


class Residual(nn.Module):
    """x + weight * gate * part(norm(x)), or norm(x + weight * gate * part(x)).

    The last layer of the part, attention or feed-forward, is its `out`.
    """

    def __init__(
        self, part: Any, dim: int, *, norm: str, residual: str, weight: float, dropout: float
    ) -> None:
        super().__init__()
        self.part = part
        self.norm = nn.LayerNorm(dim)
        self.norm_first = norm == "pre"
        self.weight = weight
        self.dropout = nn.Dropout(dropout)
        self.gate = nn.Parameter(torch.zeros(())) if residual == "gate" else None
        if residual == "zero":
            nn.init.zeros_(part.out.weight)
            nn.init.zeros_(part.out.bias)

    def forward(self, texts: Tensor, *context: Tensor) -> Tensor:
        """texts (B or 1, K, D) and the part's context -> (B, K, D)."""
        change = self.dropout(self.part(self.input_of_part(texts), *context))
        if self.gate is not None:
            change = self.gate * change
        total = texts.add(change, alpha=self.weight)
        return total if self.norm_first else self.norm(total)

    def input_of_part(self, texts: Tensor) -> Tensor:
        """The texts, normalised where the norm comes first."""
        return self.norm(texts) if self.norm_first else texts


class GuidedBlock(nn.Module):
    """Self-attention among the texts, cross-attention to the image, feed-forward."""

    def __init__(self, among_texts: nn.Module, to_image: Residual, feed_forward: nn.Module) -> None:
        super().__init__()
        self.among_texts = among_texts  # (B or 1, K, D) -> (B or 1, K, D)
        self.to_image = to_image
        self.feed_forward = feed_forward  # (B, K, D) -> (B, K, D)

    def cross_attend(
        self, texts: Tensor, spatial: Tensor, norm: nn.Module, chunks: Chunks, finish: Finish
    ) -> Tensor:
        """texts (B or 1, K, D), spatial (B, N, width) -> finish((B, K, D))."""

        def apply_block(texts: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return finish(self.feed_forward(self.to_image(texts, key, value)))

        part = self.to_image.part
        key, value = once(lambda tokens: part.read(norm(tokens)), spatial, chunks=chunks)
        return in_chunks(apply_block, texts, key, value, chunks=chunks)


class VisualGuidedText(nn.Module):
    """Turns class texts of width `dim` (D) into texts of an image.

    Args:
        spatial_dim: width of the spatial features; D if left out.
        blocks: how often the parts are repeated.
        heads: attention heads, a divisor of D.
        self_attention: whether the texts attend to one another.
        feed_forward: hidden width of the feed-forward part, as a multiple of D; 0 for none.
        norm: "pre" for norms before each part; "post" for norms after each sum, which takes the
            mean from the texts and so does not start at zero-shot exactly.
        residual: "zero" starts each part's last projection at zero; "gate" multiplies each part
            by a learned number that starts at zero.
        residual_weight: a fixed weight of each part.
        dropout: share of each part's output that is dropped in training.
        memory: bytes that the B x K pairs may take before the classes are split, infinity for
            never; left out, a quarter of what is free on the device at the first call.

    Raises:
        ValueError: D is not a multiple of the heads.
    """

    blocks: Any  # of GuidedBlock

    def __init__(
        self,
        dim: int,
        *,
        spatial_dim: int | None = None,
        blocks: int = 1,
        heads: int = 8,
        self_attention: bool = True,
        feed_forward: float = 4.0,
        norm: Literal["pre", "post"] = "pre",
        residual: Literal["zero", "gate"] = "zero",
        residual_weight: float = 1.0,
        dropout: float = 0.0,
        memory: float | None = None,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads: expected a divisor of the width {dim}, found {heads}.")
        self.dim = dim
        self.scale = math.sqrt(dim)
        self.feed_forward = feed_forward
        self.memory = memory
        spatial_dim = spatial_dim or dim
        self.spatial_norm = nn.LayerNorm(spatial_dim)
        hidden, no_part = round(feed_forward * dim), nn.Identity()
        add = partial(
            Residual, dim=dim, norm=norm, residual=residual, weight=residual_weight, dropout=dropout
        )
        self.blocks = nn.ModuleList(
            GuidedBlock(
                add(Attention(dim, dim, heads)) if self_attention else no_part,
                add(Attention(dim, spatial_dim, heads)),
                add(make_feed_forward(dim, hidden)) if feed_forward else no_part,
            )
            for _ in range(blocks)
        )

    def forward(self, texts: Tensor, spatial: Tensor) -> Tensor:
        """Guide texts (K, D) of unit length by spatial (B, N, width): (B, K, D) of unit length."""
        return self._guide(texts, spatial, partial(F.normalize, dim=-1))

    def similarity(
        self, texts: Tensor, spatial: Tensor, pooled: Tensor, chosen: Tensor | None = None
    ) -> Tensor:
        """cos(pooled (B, D), guided texts), (B, K) float32, a chunk of the guided texts at a time.

        With chosen (B, M), the texts that are guided for each image, the result is (B, M).
        """
        pooled = F.normalize(pooled.float(), dim=-1)[..., None]  # (B, D, 1)

        def cosine(guided: Tensor) -> Tensor:
            # The product is divided, not its factor of (B, k, D) numbers: a third of the time.
            with torch.autocast(guided.device.type, enabled=False):
                guided = guided.float()
                return (guided @ pooled).squeeze(-1) / guided.norm(dim=-1)

        return self._guide(texts, spatial, cosine, chosen)

    def attention(self, texts: Tensor, spatial: Tensor) -> Tensor:
        """Attention of the last block, (B, K, N): the mean over heads, each text's sum 1."""
        guided = self._guide_up_to_last_block(texts, spatial, self._plan(texts, spatial))
        last = self.blocks[-1].to_image
        key, _ = last.part.read(self.spatial_norm(spatial))
        return last.part.weights(last.input_of_part(guided), key)

    def _guide(
        self, texts: Tensor, spatial: Tensor, finish: Finish, chosen: Tensor | None = None
    ) -> Tensor:
        """finish(guided texts), a chunk of the classes at a time."""
        chunks = self._plan(texts, spatial, chosen)
        guided = self._guide_up_to_last_block(texts, spatial, chunks, chosen)
        return self.blocks[-1].cross_attend(guided, spatial, self.spatial_norm, chunks, finish)

    def _guide_up_to_last_block(
        self, texts: Tensor, spatial: Tensor, chunks: Chunks, chosen: Tensor | None = None
    ) -> Tensor:
        """Queries of the last block's cross-attention, (B or 1, K, D) or (B, M, D)."""
        # The texts' attention to one another depends on no image: it is computed once for the
        # batch, and not once for each image as in a decoder layer given (B, K, D).
        guided = self.blocks[0].among_texts((self.scale * texts)[None])  # (1, K, D)
        if chosen is not None:
            guided = F.embedding(chosen, guided[0])
        for block, following in pairwise(self.blocks):
            attended = block.cross_attend(guided, spatial, self.spatial_norm, chunks, nn.Identity())
            guided = following.among_texts(attended)
        return guided

    def _plan(self, texts: Tensor, spatial: Tensor, chosen: Tensor | None = None) -> Chunks:
        if self.memory is None:
            self.memory = memory_for_pairs(texts.device)
        classes = len(texts) if chosen is None else chosen.shape[1]
        if self.memory == math.inf:
            return Chunks(classes, "everything")
        # A pair's numbers of size D: query, attended, projected, sum and norm twice; the hidden
        # ones and their GELU. The feed-forward part's two products are what a chunk keeps.
        return plan_chunks(
            len(spatial), classes,
            numbers=(7 + 2 * self.feed_forward) * self.dim,
            products=(1 + self.feed_forward) * self.dim,
            memory=self.memory, device=texts.device,
        )  # fmt: skip


class VisualGuidedHead(nn.Module):
    """VT-CLIP's classifier: each image against its own texts.

    A training step guides `train_classes` texts for each image, its own class's and those nearest
    to it by zero-shot; all if left out, or if there are no more.
    """

    texts: Tensor

    def __init__(
        self, guide: VisualGuidedText, texts: Texts, *, train_classes: int | None = None
    ) -> None:
        super().__init__()
        self.guide = guide
        self.logit_scale = texts.logit_scale
        self.train_classes = train_classes or len(texts.features)
        self.register_buffer("texts", texts.features, persistent=False)

    def forward(self, images: Images) -> Tensor:
        """logits (B, K) = scale * cos(pooled, guided texts), float32; bfloat16 layers on a GPU.

        In training, classes whose texts are not guided keep their zero-shot logits.
        """
        assert images.spatial is not None
        plain, chosen = None, None
        if self.training and images.labels is not None and self.train_classes < len(self.texts):
            plain = Texts(self.texts, self.logit_scale).logits(images.pooled)
            own_first = plain.scatter(1, images.labels[:, None], math.inf)
            chosen = own_first.topk(self.train_classes, dim=1).indices  # (B, M)
        with half_precision(images.pooled.device):
            cosines = self.guide.similarity(self.texts, images.spatial, images.pooled, chosen)
        logits = self.logit_scale * cosines
        return logits if plain is None or chosen is None else plain.scatter(1, chosen, logits)

"""The image towers of open_clip: pooled and spatial features from one pass."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vtclip.clip import AttentionPool2d, ModifiedResNet, VisionTransformer

SpatialKind = Literal["projected", "raw"]


def encode_images(
    visual: ModifiedResNet | VisionTransformer, pixels: torch.Tensor, spatial: SpatialKind
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pooled and spatial features, as `Backbone.encode_images` gives them."""
    encode = _encode_resnet if isinstance(visual, ModifiedResNet) else _encode_vit
    return encode(visual, pixels, spatial)


def fold_batch_norms(visual: ModifiedResNet) -> None:
    """Make each frozen batch norm part of the convolution before it: the same map, in less time."""
    visual.eval()
    _fold(visual, [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")])
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        for block in layer:
            _fold(block, [("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")])
            if block.downsample is not None:
                _fold(block.downsample, [("0", "1")])


def _fold(module: torch.nn.Module, pairs: list[tuple[str, str]]) -> None:
    for convolution, norm in pairs:
        folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
        setattr(module, convolution, folded)
        setattr(module, norm, torch.nn.Identity())


def _encode_resnet(
    visual: ModifiedResNet, pixels: torch.Tensor, spatial: SpatialKind
) -> tuple[torch.Tensor, torch.Tensor]:
    features = visual.stem(pixels)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        features = layer(features)  # (B, width, h, w)
    if spatial == "raw":
        return visual.attnpool(features), features.flatten(2).transpose(1, 2)
    tokens = _pool_with_every_query(visual.attnpool, features)  # (B, 1 + h*w, D)
    return tokens[:, 0], tokens


def _pool_with_every_query(pool: AttentionPool2d, features: torch.Tensor) -> torch.Tensor:
    """open_clip's attention pool, which computes every token and gives back only the first.

    Args:
        features: (B, width, h, w).

    Returns:
        (B, 1 + h*w, D), the pooled feature first.
    """
    tokens = features.flatten(2).transpose(1, 2)  # (B, h*w, width)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    tokens = tokens + pool.positional_embedding.to(tokens.dtype)
    query, key, value = (
        projection(tokens).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
        for projection in (pool.q_proj, pool.k_proj, pool.v_proj)
    )  # (B, heads, 1 + h*w, width / heads)
    attended = F.scaled_dot_product_attention(query, key, value)
    return pool.c_proj(attended.transpose(1, 2).flatten(2))


def _encode_vit(
    visual: VisionTransformer, pixels: torch.Tensor, spatial: SpatialKind
) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = visual.transformer(visual._embeds(pixels))  # (B, 1 + h*w, width)
    pooled, _ = visual._pool(tokens)
    if visual.proj is not None:
        pooled = pooled @ visual.proj  # (B, D)
    if spatial == "raw":
        return pooled, tokens[:, 1:]
    tokens = visual.ln_post(tokens)
    return pooled, tokens if visual.proj is None else tokens @ visual.proj

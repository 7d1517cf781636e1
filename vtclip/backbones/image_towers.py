"""The image towers of open_clip: pooled and spatial features from one pass.

Pooled features are those of open_clip's `encode_image`. "raw" spatial features are the map before
pooling. "unprojected" ones are a single vector, the pooled feature before the last linear map, the
projection. What "projected" ones are, in the joint space, depends on the kind of the tower:

    resnet          the attention pool with every token as query, the pooled feature first
    vit             the class token and the places after the final norm and the projection, the
                    pooled feature first
    average         each place as if it were the only one that is averaged; their mean is the
                    pooled feature where nothing but a projection follows the average
    attention_pool  each place as if it were the only one that the learned query sees
    other           there are none
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from open_clip.model import TimmModel
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.transformer import AttentionalPooler, Transformer, VisionTransformer
from timm.layers import Attention
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vtclip.backbones.checkpoints import BackboneError
from vtclip.config.backbone_config import SpatialKind

TowerKind = Literal["resnet", "vit", "average", "attention_pool", "other"]

# Names for pooling in open_clip's own towers and in timm's.
POOLINGS: dict[str, TowerKind] = {
    "tok": "vit",
    "token": "vit",
    "avg": "average",
    "map": "attention_pool",
}


def find_kind(visual: nn.Module) -> TowerKind:
    """The kind of an image tower of open_clip."""
    if isinstance(visual, ModifiedResNet):
        return "resnet"
    if isinstance(visual, VisionTransformer):
        if visual.attn_pool is None:
            return POOLINGS.get(visual.pool_type, "other")
        return "attention_pool" if visual.attn_pool_contrastive is None else "other"
    if not isinstance(visual, TimmModel) or hasattr(visual.head, "pool"):
        return "other"
    kind, trunk = POOLINGS.get(_find_pooling(visual.trunk), "other"), visual.trunk
    # A place alone has no position, and where there is no class token, a place is taken for it.
    if (kind == "attention_pool" and trunk.attn_pool.pos_embed is not None) or (
        kind == "vit" and _count_prefix(trunk) == 0
    ):
        return "other"
    return kind


def check_tower(visual: nn.Module, spatial: SpatialKind, *, name: str) -> None:
    """Refuse a tower that does not give the requested features."""
    if find_kind(visual) != "other":
        return
    if isinstance(visual, VisionTransformer):
        raise BackboneError(
            f"{name}: the image tower gives many vectors and no pooled one.\n"
            "  expected: vision_cfg with pool_type tok or avg, or with attentional_pool true"
        )
    if spatial == "projected":
        raise BackboneError(
            f"{name}: the image tower pools in a way that has no meaning for one place of the "
            "image, so there are no projected spatial features.\n  write:\n    spatial: raw"
        )


def encode_images(visual: nn.Module, pixels: Tensor, spatial: SpatialKind) -> tuple[Tensor, Tensor]:
    """Pooled and spatial features, as `Backbone.encode_images` gives them."""
    if isinstance(visual, ModifiedResNet):
        return _encode_resnet(visual, pixels, spatial)
    if isinstance(visual, VisionTransformer):
        return _encode_vit(visual, pixels, spatial)
    return _encode_timm(visual, pixels, spatial)


def list_attention(tower: nn.Module) -> dict[str, nn.Module]:
    """Name -> the attention of each block of a tower, where one product gives q, k and v.

    Other kinds, and those of Hugging Face's text towers, are none.
    """
    found: dict[str, nn.Module] = {}
    for name, part in tower.named_modules():
        if isinstance(part, Transformer):  # open_clip's
            each = {f"{name}.resblocks.{i}.attn": b.attn for i, b in enumerate(part.resblocks)}
            for layer, attn in each.items():
                # The second is what `vtclip.nn.towers` puts in place of the first.
                if type(attn) is nn.MultiheadAttention or hasattr(attn, "qkv"):
                    found[layer] = attn
        elif type(part) is Attention:  # timm's
            found[name] = part
    return found


def fold_batch_norms(visual: ModifiedResNet) -> None:
    """Make each frozen batch norm part of the convolution before it: the same map, in less time."""
    visual.eval()
    for part in list(visual.modules()):
        children = dict(part.named_children())
        # "0" and "1" are those of a block's downsample.
        for convolution, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1")):
            if isinstance(children.get(norm), nn.BatchNorm2d):
                folded = fuse_conv_bn_eval(children[convolution], children[norm])
                setattr(part, convolution, folded)
                setattr(part, norm, nn.Identity())


def _encode_resnet(
    visual: ModifiedResNet, pixels: Tensor, spatial: SpatialKind
) -> tuple[Tensor, Tensor]:
    features = visual.stem(pixels)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        features = layer(features)  # (B, width, h, w)
    if spatial == "raw":
        return visual.attnpool(features), features.flatten(2).transpose(1, 2)
    attended = _attend_with_every_query(visual.attnpool, features)  # (B, 1 + h*w, width)
    if spatial == "unprojected":
        return visual.attnpool.c_proj(attended[:, 0]), attended[:, :1]
    tokens = visual.attnpool.c_proj(attended)  # (B, 1 + h*w, D)
    return tokens[:, 0], tokens


def _attend_with_every_query(pool: AttentionPool2d, features: Tensor) -> Tensor:
    """open_clip's attention pool of a map (B, width, h, w): (B, 1 + h*w, width) to be projected.

    open_clip computes every token, too, and returns only the first, the pooled feature.
    """
    tokens = features.flatten(2).transpose(1, 2)  # (B, h*w, width)
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
    tokens = tokens + pool.positional_embedding.to(tokens.dtype)
    query, key, value = (
        projection(tokens).unflatten(-1, (pool.num_heads, -1)).transpose(1, 2)
        for projection in (pool.q_proj, pool.k_proj, pool.v_proj)
    )  # (B, heads, 1 + h*w, width / heads)
    attended = F.scaled_dot_product_attention(query, key, value)
    return attended.transpose(1, 2).flatten(2)


def _encode_vit(
    visual: VisionTransformer, pixels: Tensor, spatial: SpatialKind
) -> tuple[Tensor, Tensor]:
    tokens = visual.transformer(visual._embeds(pixels))  # (B, 1 + h*w, width)
    wide = visual._pool(tokens)[0]  # (B, width)
    pooled = _project(visual, wide)  # (B, D)
    kind, places = find_kind(visual), tokens[:, 1:]
    if spatial == "unprojected":
        return pooled, wide[:, None]
    if spatial == "raw":
        return pooled, places
    if kind == "attention_pool":
        places = _attend_alone(visual.attn_pool, places)
    return pooled, _project(visual, visual.ln_post(tokens if kind == "vit" else places))


def _project(visual: VisionTransformer, features: Tensor) -> Tensor:
    return features if visual.proj is None else features @ visual.proj


def _attend_alone(pool: AttentionalPooler, places: Tensor) -> Tensor:
    """Attention of a query to one place alone: the value of each place (B, N, width)."""
    attention = pool.attn
    weight = attention.v_proj_weight
    if weight is None:  # of queries as wide as the places
        weight = attention.in_proj_weight.chunk(3)[2]
    values = F.linear(pool.ln_k(places), weight, attention.in_proj_bias.chunk(3)[2])
    return attention.out_proj(values)


def _encode_timm(visual: TimmModel, pixels: Tensor, spatial: SpatialKind) -> tuple[Tensor, Tensor]:
    trunk = visual.trunk
    features = trunk.forward_features(pixels)
    wide = trunk.forward_head(features)  # (B, width)
    pooled = visual.head(wide)  # (B, D)
    if spatial == "unprojected":
        return pooled, wide[:, None]
    tokens, prefix = _to_tokens(trunk, features), _count_prefix(trunk)
    kind, places = find_kind(visual), tokens[:, prefix:]  # (B, h*w, width)
    if spatial == "raw":
        return pooled, places
    if kind == "vit":
        places = torch.cat([tokens[:, :1], places], dim=1)
    alone = places.flatten(0, 1)[:, None]  # (B * N, 1, width), every token a map of its own
    if features.ndim == 4:
        alone = alone[:, None] if _is_channels_last(trunk) else alone.mT[..., None]
    elif kind != "vit" and prefix:  # the class token and its like are cut off: add as many
        alone = alone.expand(-1, 1 + prefix, -1)
    projected = visual.head(trunk.forward_head(alone))  # (B * N, D)
    return pooled, projected.unflatten(0, places.shape[:2])


def _to_tokens(trunk: nn.Module, features: Tensor) -> Tensor:
    """A map of timm's as (B, N, width), with the class token and its like in front."""
    if features.ndim == 3:
        return features
    return features.flatten(1, 2) if _is_channels_last(trunk) else features.flatten(2).mT


def _is_channels_last(trunk: nn.Module) -> bool:
    return str(getattr(trunk, "output_fmt", "NCHW")).endswith("NHWC")


def _count_prefix(trunk: nn.Module) -> int:
    """The class token and its like, in front of the places."""
    return getattr(trunk, "num_prefix_tokens", 0)


def _find_pooling(trunk: nn.Module) -> str:
    """timm's name for how its tower pools; "" for one that does not say."""
    for holder in (trunk, getattr(trunk, "head", None)):
        pool: Any = getattr(holder, "global_pool", None)
        if pool is not None:
            return pool if isinstance(pool, str) else getattr(pool, "pool_type", "")
    return ""

"""The frozen CLIP: pooled and spatial image features from one pass, and text features."""

import json
import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vtclip.clip import (
    AttentionPool2d,
    ModifiedResNet,
    PreprocessCfg,
    VisionTransformer,
    image_transform_v2,
    open_clip,
)
from vtclip.features.text_tower import encode_tokens
from vtclip.files import sha256_of, write_receipt, writing

logger = logging.getLogger(__name__)

SpatialKind = Literal["projected", "raw"]
Precision = Literal["float32", "float16", "bfloat16"]


class BackboneError(ValueError):
    """A backbone that cannot be built as asked."""


class Backbone:
    """A CLIP of open_clip with frozen weights.

    Attributes:
        name: open_clip's name of the architecture.
        pretrained: the tag or file of the weights.
        spatial: "projected" into the joint space, or "raw".
        precision: what images are encoded in; texts are always encoded in float32.
        image_size: height and width in pixels.
        preprocess: PIL.Image -> (3, H, W) float32, open_clip's test transform.
        device: where the weights are.
        logit_scale: the factor on the cosine similarities.
        tokenizer: open_clip's, texts -> (T, context) int64.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        name: str,
        pretrained: str | None,
        spatial: SpatialKind,
        precision: Precision,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.name = name
        self.pretrained = self._weights = pretrained
        self.spatial = spatial
        self.precision = precision
        preprocessing = PreprocessCfg(**open_clip.get_model_preprocess_cfg(model))
        size = preprocessing.size
        self.image_size: int = size if isinstance(size, int) else size[0]
        self.preprocess: Callable[[Image.Image], torch.Tensor] = image_transform_v2(
            preprocessing, is_train=False
        )
        self.device: torch.device = next(model.parameters()).device
        self.logit_scale = model.get_parameter("logit_scale").exp().item()
        self.tokenizer = open_clip.get_tokenizer(name)

    @cached_property
    def weights_sha256(self) -> str | None:
        """Of the file of weights; None for weights that came from no file."""
        if self._weights is None or not Path(self._weights).is_file():
            return None
        return sha256_of(self._weights)

    @torch.inference_mode()
    def encode_images(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled and spatial features from one pass through the image tower.

        "projected" spatial features lie in the joint space. A ResNet's attention pool is run with
        every token as query, so the first token is the pooled feature; a ViT's tokens all go
        through the final norm and the projection. "raw" ones are the map before pooling.

        Args:
            pixels: (B, 3, H, W), as `preprocess` gives them, on the backbone's device.

        Returns:
            pooled (B, D) and spatial (B, N, D), or (B, N, width) if raw; not normalised.
        """
        visual = self.model.visual
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        encode = _encode_resnet if isinstance(visual, ModifiedResNet) else _encode_vit
        if self.device.type == "cuda":  # TF32: ten times as fast, and exact to 1e-3
            torch.set_float32_matmul_precision("high")
        dtype = getattr(torch, self.precision)
        with torch.autocast(self.device.type, dtype, enabled=self.precision != "float32"):
            return encode(visual, pixels, self.spatial)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Text features (T, D), not normalised."""
        tokens = self.tokenizer(list(texts)).to(self.device)  # (T, context)
        return encode_tokens(self.model, tokens)

    def encode_classes(self, class_names: Sequence[str], templates: Sequence[str]) -> torch.Tensor:
        """One text feature a class: the mean over templates of unit vectors, a unit vector again.

        Underscores in class names are read as spaces, as CoOp does.

        Returns:
            (K, D) float32 of unit length.
        """
        readable = [name.replace("_", " ") for name in class_names]
        texts = self.encode_texts([each.format(name) for name in readable for each in templates])
        units = F.normalize(texts.float(), dim=-1).unflatten(0, (-1, len(templates)))
        return F.normalize(units.mean(dim=1), dim=-1)


def load_backbone(
    name: str,
    *,
    pretrained: str | None,
    device: str | torch.device = "cpu",
    architecture: str | Path | None = None,
    spatial: SpatialKind = "projected",
    precision: Precision = "float32",
) -> Backbone:
    """Build a frozen CLIP.

    Args:
        name: open_clip's name of a ResNet or ViT, such as "RN50-quickgelu".
        pretrained: open_clip's tag, or a file of weights (safetensors, or a PyTorch file that
            loads with weights only); None for random weights.
        device: where to put it.
        architecture: a configuration in open_clip's JSON form, for a name of your own.
        spatial: the kind of spatial features.
        precision: what images are encoded in.

    Raises:
        BackboneError: an unknown name, an image tower that is no ResNet or ViT, or weights that
            were trained with another activation than the named model has.
    """
    known = _register(name, architecture)
    _check_tower(known)
    origin = _read_origin(known, pretrained)
    model = _build(known, pretrained, device, origin)
    if isinstance(model.visual, ModifiedResNet):
        _fold_batch_norms(model.visual)
    # Convolutions are faster on either kind of processor with the channels last.
    model = model.to(memory_format=torch.channels_last)
    backbone = Backbone(model, known, pretrained, spatial, precision)
    backbone.pretrained = origin.get("pretrained", pretrained)
    return backbone


def fetch_backbone(
    name: str, pretrained: str, destination: str | Path, *, architecture: str | Path | None = None
) -> None:
    """Bring a backbone's weights into one safetensors file: later jobs need no internet.

    The file remembers the name, the tag and the test transform that go with the weights.

    Args:
        name: open_clip's name of the model.
        pretrained: open_clip's tag, which is downloaded, or a file of weights.
        destination: the safetensors file to write.
        architecture: as for `load_backbone`.

    Raises:
        BackboneError: as `load_backbone`; or a tag that open_clip does not know for this model.
    """
    known = _register(name, architecture)
    tags = open_clip.list_pretrained_tags_by_model(known)
    if not Path(pretrained).is_file() and pretrained not in tags:
        raise BackboneError(
            f"{name}: expected a file of weights or one of the tags {', '.join(tags) or '(none)'}, "
            f"found '{pretrained}'."
        )
    model = _build(known, pretrained, "cpu", {})
    origin = {
        "backbone": known,
        "pretrained": pretrained,
        "preprocess": json.dumps(open_clip.get_model_preprocess_cfg(model)),
    }
    with writing(destination) as temporary:
        weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
        save_file(weights, temporary, metadata=origin)
    write_receipt(destination)


def _build(
    name: str, pretrained: str | None, device: str | torch.device, origin: dict[str, str]
) -> torch.nn.Module:
    """open_clip's model, as it is."""
    _check_activation(name, pretrained)
    return open_clip.create_model(
        name,
        pretrained=pretrained,
        device=device,
        load_weights=pretrained is not None,
        force_preprocess_cfg=json.loads(origin.get("preprocess", "{}")),
    )


def _fold_batch_norms(visual: ModifiedResNet) -> None:
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


def _read_origin(name: str, pretrained: str | None) -> dict[str, str]:
    """What a file of `fetch_backbone` remembers; nothing for other weights.

    Raises:
        BackboneError: weights of another backbone.
    """
    if pretrained is None or not pretrained.endswith(".safetensors"):
        return {}
    with safe_open(pretrained, framework="pt") as file:
        origin = file.metadata() or {}
    if origin.get("backbone", name) != name:
        raise BackboneError(
            f"{pretrained}: expected weights of {name}, found weights of {origin['backbone']}."
        )
    return origin


def _register(name: str, architecture: str | Path | None) -> str:
    """Make open_clip know the model, and give the name that open_clip knows it by."""
    if architecture is not None:
        if not Path(architecture).is_file():
            raise BackboneError(f"{architecture}: the architecture of '{name}' is not there.")
        open_clip.add_model_config(Path(architecture))
        return Path(architecture).stem
    known = name.replace("/", "-")
    if known not in open_clip.list_models():
        raise BackboneError(
            f"Unknown backbone '{name}'; known: {', '.join(open_clip.list_models())}."
        )
    return known


def _check_tower(name: str) -> None:
    """Refuse an image tower of another library, before it is built."""
    vision = (open_clip.get_model_config(name) or {}).get("vision_cfg", {})
    if "timm_model_name" in vision:
        raise BackboneError(
            f"{name}: expected a ResNet or a ViT of open_clip as the image tower, "
            f"found {vision['timm_model_name']} of timm."
        )


def _check_activation(name: str, pretrained: str | None) -> None:
    """Refuse weights trained with QuickGELU in a model with GELU: open_clip would only warn."""
    expected = (open_clip.get_pretrained_cfg(name, pretrained or "") or {}).get("quick_gelu", False)
    if expected and not open_clip.get_model_config(name).get("quick_gelu", False):
        raise BackboneError(
            f"{name}: the weights '{pretrained}' were trained with QuickGELU, and this model has "
            f"GELU.\n  write:\n    name: {name}-quickgelu"
        )


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

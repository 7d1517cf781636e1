"""Both towers of a backbone, with changes that are trained: loaded by name, for such methods."""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from vtclip.backbones.backbone import Backbone, fill_templates, load_backbone
from vtclip.backbones.image_towers import list_attention
from vtclip.backbones.prompts import TextTower
from vtclip.backbones.text_towers import check_lengths, find_causal
from vtclip.config.dataset import Exif
from vtclip.features.loading import KeptPictures, Pictures, explaining_workers, load_batches
from vtclip.features.views import Views
from vtclip.runtime.devices import half_precision
from vtclip.task import Change


class Attention(nn.Module):
    """PyTorch's self-attention with one layer for query, key and value, as timm's has."""

    def __init__(self, packed: nn.MultiheadAttention) -> None:
        super().__init__()
        assert packed.batch_first
        width = packed.embed_dim
        self.qkv = nn.Linear(width, 3 * width, device="meta")
        self.qkv.weight, self.qkv.bias = packed.in_proj_weight, packed.in_proj_bias
        self.out_proj, self.num_heads = packed.out_proj, packed.num_heads

    @property
    def in_proj_weight(self) -> Tensor:
        """As of the packed one."""
        return self.qkv.weight

    @property
    def in_proj_bias(self) -> Tensor:
        """As of the packed one."""
        return self.qkv.bias

    def forward(
        self,
        tokens: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        need_weights: bool,
        attn_mask: Tensor | None,
    ) -> tuple[Tensor, None]:
        """Attention of tokens (B, L, width) among themselves; in place of weights, none."""
        joint = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).transpose(1, 3)
        query, key, value = joint.unbind(2)  # (B, heads, L, width / heads)
        mask = None if attn_mask is None else attn_mask.to(joint.dtype)  # (L, L)
        if mask is not None and mask.ndim == 3:  # (B * heads, L, L), as CoCa gives it
            mask = mask.unflatten(0, (-1, self.num_heads))
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out_proj(attended.transpose(1, 2).flatten(2)), None


class _Model(nn.Module):
    """A model as a part of a module, whose forward pass is a function that uses the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, encode: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        return encode(*inputs)


class Towers(TextTower):
    """Both towers of a backbone: the weights stay frozen, and gradients reach a change to them.

    Args:
        backbone: the frozen CLIP. Its attention layers are replaced by ones that compute the same.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.backbone, self._whole = backbone, _Model(backbone.model)
        self.device = backbone.device
        found = {f"{n}.qkv": _unpack(self._model, n) for n in list_attention(self._model)}
        self.attention: Mapping[Literal["image", "text"], Mapping[str, nn.Linear]] = {
            "image": {n: layer for n, layer in found.items() if n.startswith("visual.")},
            "text": {
                n: layer for n, layer in found.items() if n.startswith(("transformer.", "text."))
            },
        }
        self.weights: Mapping[str, Tensor] = dict(self._model.named_parameters())
        modules = self._model.named_modules()
        self.norms: Set[str] = {name for name, part in modules if isinstance(part, nn.LayerNorm)}

    def encode_images(self, pixels: Tensor, change: Change) -> Tensor:
        """Pooled features (B, D) float32 of pixels (B, 3, H, W), not normalised."""
        return self._encode(lambda pixels: self._model.encode_image(pixels), pixels, change)

    @torch.inference_mode()
    def encode_frozen(self, pixels: Tensor) -> Tensor:
        """The backbone's own features (B, D), as precise as they are stored for other methods."""
        return self.encode_images(pixels, Change()).half().float()

    def encode_prompts(self, class_names: Sequence[str], template: str, change: Change) -> Tensor:
        """Text features (K, D) float32 of unit length, of one template.

        Raises:
            PromptError: classes whose prompts are longer than the text tower reads.
        """
        prompts = fill_templates([template], class_names)
        named = dict(zip(class_names, prompts, strict=True))
        check_lengths(self._tokenizer, named, tower=self.backbone.name)
        tokens = self._tokenizer([prompt for (prompt,) in prompts]).to(self._device)
        return F.normalize(self._encode(self._read, tokens, change), dim=-1)

    def open_pictures(
        self,
        names: Sequence[str],
        images: str | Path,
        *,
        scale: tuple[float, float],
        flip: bool,
        seed: int,
        exif: Exif,
        test_only: bool,
    ) -> KeptPictures:
        """Decode images into memory, for any number of their views; as of `KeptPictures`."""
        views = self._views(scale=scale, flip=flip, seed=seed)
        return KeptPictures(
            names, views, Path(images), self._device, exif=exif, test_only=test_only
        )

    def read_test(
        self,
        rows: pl.DataFrame,
        images: str | Path,
        *,
        batch_size: int,
        exif: Exif,
        workers: int,
    ) -> Iterator[Tensor]:
        """Pixels (B, 3, H, W) of the test views of some rows of a manifest, in their order."""
        views = self._views()
        shown = rows.with_columns(view=pl.lit(0, pl.Int64))
        pictures = Pictures(shown, views, Path(images), exif=exif)
        with explaining_workers():
            for decoded in load_batches(pictures, batch_size, workers=workers):
                yield views.normalize(decoded.to(self.device))

    def _views(self, **options: Any) -> Views:
        return Views(self.backbone.preprocess, self.backbone.image_size, **options)

    def _read(self, tokens: Tensor) -> Tensor:
        tower = find_causal(self._model)
        if tower is None:
            return self._model.encode_text(tokens, normalize=False)
        return tower.encode_apart(tokens)

    def _encode(self, encode: Callable[..., Tensor], inputs: Tensor, change: Change) -> Tensor:
        weights = {f"model.{name}": weight for name, weight in change.weights.items()}
        with self._adding(change), half_precision(self._device):
            found = functional_call(self._whole, weights, (encode, inputs))
        return found.to(torch.promote_types(found.dtype, torch.float32))

    @contextmanager
    def _adding(self, change: Change) -> Iterator[None]:
        """Add to the outputs of layers."""
        hooks = [
            self._model.get_submodule(name).register_forward_hook(
                lambda _, inputs, output, add=add: output + add(*inputs)
            )
            for name, add in change.added.items()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _unpack(model: nn.Module, name: str) -> nn.Linear:
    """The layer of an attention that makes query, key and value."""
    attention: Any = model.get_submodule(name)
    if isinstance(attention, nn.MultiheadAttention):
        attention = Attention(attention)
        model.set_submodule(name, attention)
    return attention.qkv


def load_tower(name: str, **options: Any) -> Towers:
    """Both towers of a backbone; arguments as for `load_backbone`."""
    return Towers(load_backbone(name, **options))

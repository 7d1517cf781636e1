"""The frozen CLIP: pooled and spatial image features from one pass, and text features."""

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from vtclip.clip import ModifiedResNet, PreprocessCfg, image_transform_v2, open_clip
from vtclip.features.checkpoints import (
    OPENAI,
    BackboneError,
    check_finite,
    load_weights,
    read_checkpoint,
    read_metadata,
)
from vtclip.features.text_tower import encode_tokens
from vtclip.features.tokens import PromptError, check_lengths, find_overlong
from vtclip.features.towers import SpatialKind, encode_images, fold_batch_norms
from vtclip.files import check_receipt, write_receipt, writing

Precision = Literal["float32", "float16", "bfloat16"]


class Backbone:
    """A CLIP of open_clip with frozen weights.

    Attributes:
        name: open_clip's name of the architecture.
        pretrained: the tag or file of the weights.
        weights_sha256: of the file of weights; None for weights that came from no file.
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
        weights_sha256: str | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.name = name
        self.pretrained = pretrained
        self.weights_sha256 = weights_sha256
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
        if self.device.type == "cuda":  # TF32: ten times as fast, and exact to 1e-3
            torch.set_float32_matmul_precision("high")
        dtype = getattr(torch, self.precision)
        with torch.autocast(self.device.type, dtype, enabled=self.precision != "float32"):
            return encode_images(visual, pixels, self.spatial)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Text features (T, D), not normalised.

        Raises:
            PromptError: a text that is longer than the text tower reads.
        """
        found = find_overlong(self.tokenizer, texts)
        if found is not None:
            raise PromptError(found.explain(texts, self.name))
        return self._encode(texts)

    def encode_classes(self, class_names: Sequence[str], templates: Sequence[str]) -> torch.Tensor:
        """One text feature a class: the mean over templates of unit vectors, a unit vector again.

        Underscores in class names are read as spaces, as CoOp does.

        Returns:
            (K, D) float32 of unit length.

        Raises:
            PromptError: classes whose prompts are longer than the text tower reads, all of them.
        """
        return self.encode_classes_and_norms(class_names, templates)[0]

    def encode_classes_and_norms(
        self, class_names: Sequence[str], templates: Sequence[str]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, with how long the mean of each class's texts is where none is normalised.

        Returns:
            (K, D) float32 of unit length, and (K,) float32.

        Raises:
            PromptError: as for `encode_classes`.
        """
        prompts = {name: _fill(templates, name) for name in class_names}
        check_lengths(self.tokenizer, prompts, tower=self.name)
        texts = self._encode([prompt for name in class_names for prompt in prompts[name]])
        texts = texts.float().unflatten(0, (-1, len(templates)))  # (K, templates, D)
        units = F.normalize(texts, dim=-1)
        return F.normalize(units.mean(dim=1), dim=-1), texts.mean(dim=1).norm(dim=-1)

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str]) -> torch.Tensor:
        tokens = self.tokenizer(list(texts)).to(self.device)  # (T, context)
        return encode_tokens(self.model, tokens)


def _fill(templates: Sequence[str], class_name: str) -> list[str]:
    """The prompts of a class."""
    readable = class_name.replace("_", " ")
    return [template.format(readable) for template in templates]


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
        pretrained: open_clip's tag, or a file of weights in a form that `read_checkpoint` reads;
            None for random weights.
        device: where to put it.
        architecture: a configuration in open_clip's JSON form, for a name of your own.
        spatial: the kind of spatial features.
        precision: what images are encoded in.

    Raises:
        BackboneError: an unknown name, an image tower that is no ResNet or ViT, or weights that
            cannot be read, are not this model's, are not finite, or were trained with another
            activation than the named model has.
        DamagedError: a file of weights that differs from its receipt.
    """
    known = _register(name, architecture)
    _check_tower(known)
    found = pretrained is not None and Path(pretrained).is_file()
    digest = check_receipt(str(pretrained)) if found else None
    origin = _read_origin(known, pretrained)
    model = _build(known, pretrained, device, origin)
    if isinstance(model.visual, ModifiedResNet):
        fold_batch_norms(model.visual)
    # Convolutions are faster on either kind of processor with the channels last.
    model = model.to(memory_format=torch.channels_last)
    backbone = Backbone(model, known, pretrained, spatial, precision, digest)
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
    model = _build(known, pretrained, "cpu", _read_origin(known, pretrained))
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
    tag = open_clip.get_pretrained_cfg(name, pretrained or "") or {}
    if tag.get("quick_gelu", False):
        _check_activation(name, pretrained)
    file = None if tag else pretrained
    with nullcontext() if file is None else _unsaid():
        model = open_clip.create_model(
            name,
            pretrained=pretrained if tag else None,
            device=device,
            load_weights=bool(tag),
            force_preprocess_cfg=json.loads(origin.get("preprocess", "{}")),
        )
    if file is not None:
        weights = read_checkpoint(file)
        if weights.keys() >= set(OPENAI):
            _check_activation(name, file)
        load_weights(model, weights, source=file)
    check_finite(model.state_dict(), source=pretrained or name)
    return model


@contextmanager
def _unsaid() -> Iterator[None]:
    """Keep open_clip from saying that the weights are random: those of a file come next."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def _read_origin(name: str, pretrained: str | None) -> dict[str, str]:
    """What a file of `fetch_backbone` remembers; nothing for other weights.

    Raises:
        BackboneError: weights of another backbone.
    """
    if pretrained is None or not Path(pretrained).is_file():
        return {}
    origin = read_metadata(pretrained)
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
    if not open_clip.get_model_config(name).get("quick_gelu", False):
        raise BackboneError(
            f"{name}: the weights '{pretrained}' were trained with QuickGELU, and this model has "
            f"GELU.\n  write:\n    name: {name}-quickgelu"
        )

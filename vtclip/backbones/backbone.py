"""The frozen CLIP: pooled and spatial image features from one pass, and text features."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
import torch.nn.functional as F
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms import Compose

from vtclip.backbones.build import build_model, find_blueprint, hub_folder, load_tokenizer
from vtclip.backbones.checkpoints import BackboneError, pack_files
from vtclip.backbones.image_towers import check_tower, encode_images, find_kind, fold_batch_norms
from vtclip.backbones.known import CONFIGURATION, has_pooled_token
from vtclip.backbones.text_towers import PromptError, check_lengths, encode_tokens, find_overlong
from vtclip.config.backbone_config import SpatialKind, is_hub_name, list_parts
from vtclip.files import check_receipt, sha256_of, sha256_of_all, write_receipt
from vtclip.tensors import write_tensors

__all__ = ["Backbone", "BackboneError", "fetch_backbone", "load_backbone"]

Precision = Literal["float32", "float16", "bfloat16"]
LONGEST = 32  # times the shorter side; what lies beyond is outside the test transform's crop


class CutEnds:
    """Cut both ends off a very long picture.

    The test transform enlarges the shorter side to the image size and crops the middle: of
    65,000 x 1 pixels it would first make 10 GB.
    """

    def __call__(self, picture: Image.Image) -> Image.Image:
        """The middle of a picture; the picture itself unless it is very long."""
        longest = LONGEST * min(picture.size)
        if max(picture.size) <= longest:
            return picture
        width, height = (min(side, longest) for side in picture.size)
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        return picture.crop((left, top, left + width, top + height))


class Backbone:
    """A CLIP of open_clip with frozen weights.

    Attributes:
        name: open_clip's name of the architecture.
        pretrained: the tag or file of the weights.
        weights_sha256: of the file of weights; None for weights that came from no file.
        spatial: "projected" into the joint space, "raw" or "unprojected".
        precision: what images are encoded in; texts are always encoded in float32.
        image_size: height and width in pixels.
        preprocess: PIL.Image -> (3, H, W) float32, open_clip's test transform.
        device: where the weights are.
        logit_scale: the factor on the cosine similarities, the model's own.
        logit_bias: what its loss adds to all of them alike, as SigLIP's does; 0 for most.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        name: str,
        pretrained: str | None,
        spatial: SpatialKind,
        precision: Precision,
        weights_sha256: str | None = None,
        *,
        read_tokenizer: Callable[[], Any] | None = None,
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
        self.preprocess: Compose = image_transform_v2(preprocessing, is_train=False)
        if preprocessing.resize_mode == "shortest":
            self.preprocess.transforms.insert(0, CutEnds())
        self.device: torch.device = next(model.parameters()).device
        self.logit_scale = model.get_parameter("logit_scale").exp().item()
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = 0.0 if bias is None else bias.item()
        self._read_tokenizer = read_tokenizer or partial(open_clip.get_tokenizer, name)

    @property
    def has_pooled_token(self) -> bool:
        """Check that the first of the spatial features is the pooled one."""
        return has_pooled_token(find_kind(self.model.get_submodule("visual")), self.spatial)

    @cached_property
    def tokenizer(self) -> Any:
        """open_clip's, texts -> (T, context) int64; read when the first text is to be encoded."""
        return self._read_tokenizer()

    @torch.inference_mode()
    def encode_images(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled and spatial features from one pass through the image tower.

        "projected" spatial features lie in the joint space; what they are depends on the tower
        (`vtclip.backbones.image_towers`). "raw" ones are the map before pooling, and the
        "unprojected" one is the pooled feature before its projection.

        Args:
            pixels: (B, 3, H, W), as `preprocess` gives them, on the backbone's device.

        Returns:
            pooled (B, D) and spatial (B, N, D), or (B, N, width) if not projected; not normalised.
        """
        visual = self.model.get_submodule("visual")
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        dtype, kind = getattr(torch, self.precision), self.device.type
        with _fast_float32(kind), torch.autocast(kind, dtype, enabled=self.precision != "float32"):
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
        """One text feature a class (K, D): the mean of unit vectors, a unit vector again, float32.

        Underscores in class names are read as spaces, as CoOp does. Classes whose prompts are
        longer than the text tower reads are refused, all in one error.
        """
        return average_texts(self.encode_prompts(class_names, templates))

    def encode_prompts(self, class_names: Sequence[str], templates: Sequence[str]) -> torch.Tensor:
        """Features (K, templates, D) float32 of each class in each template, not normalised."""
        return torch.stack(self.encode_groups(class_names, fill_templates(templates, class_names)))

    def encode_groups(
        self, class_names: Sequence[str], prompts: Sequence[Sequence[str]]
    ) -> list[torch.Tensor]:
        """Features (P, D) float32 of the P prompts of each class, not normalised."""
        check_lengths(self.tokenizer, dict(zip(class_names, prompts, strict=True)), tower=self.name)
        texts = self._encode([prompt for group in prompts for prompt in group])
        return list(texts.float().split([len(group) for group in prompts]))

    @torch.inference_mode()
    def _encode(self, texts: Sequence[str]) -> torch.Tensor:
        tokens = self.tokenizer(list(texts)).to(self.device)  # (T, context)
        return encode_tokens(self.model, tokens)


@contextmanager
def _fast_float32(device: str) -> Iterator[None]:
    """TF32 on NVIDIA's GPUs: ten times as fast, and exact to 1e-3.

    In this block alone: heads compute in float32, in training and in classifying alike.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device == "cuda" else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def average_texts(prompts: torch.Tensor) -> torch.Tensor:
    """The mean of unit texts, a unit text again: (K, templates, D) -> (K, D)."""
    return F.normalize(F.normalize(prompts, dim=-1).mean(dim=1), dim=-1)


def fill_templates(templates: Sequence[str], class_names: Sequence[str]) -> list[list[str]]:
    """The prompts of each class."""
    readable = [name.replace("_", " ") for name in class_names]
    return [[template.format(name) for template in templates] for name in readable]


def load_backbone(
    name: str,
    *,
    pretrained: str | None,
    device: str | torch.device = "cpu",
    architecture: str | Path | None = None,
    spatial: SpatialKind = "projected",
    precision: Precision = "float32",
    weights_key: str | None = None,
) -> Backbone:
    """Build a frozen CLIP.

    Args:
        name: open_clip's name of a model, such as "RN50-quickgelu", or the place of one in the form
            of Hugging Face's hub: "hf-hub:timm/ViT-B-16-SigLIP", "local-dir:/data/my-siglip".
        pretrained: open_clip's tag, or a file of weights in a form that `read_checkpoint` reads, or
            "own" for those that lie beside a configuration in the hub's form; None for random
            weights.
        device: where to put it.
        architecture: a configuration in open_clip's JSON form, for a custom model.
        spatial: the kind of spatial features.
        precision: what images are encoded in.
        weights_key: which weights to take of a training program's file that has several, such as
            "state_dict_ema".

    Raises:
        BackboneError: an unknown name, towers that cannot be built here or give no such spatial
            features, or weights that cannot be read, are not this model's, or are not finite.
        ConfigError: a model's configuration that is not there or is none, or weights that were
            trained with another activation than the named model has.
        DamagedError: a file of weights that differs from its receipt.
    """
    blueprint = find_blueprint(name, pretrained, architecture, weights_key)
    digest = None if blueprint.weights is None else _digest_weights(blueprint.weights)
    with hub_folder(blueprint, text=bool(blueprint.text.get("hf_model_name"))) as folder:
        model = build_model(blueprint, folder, device)
    check_tower(model.visual, spatial, name=blueprint.name)
    if isinstance(model.visual, ModifiedResNet):
        fold_batch_norms(model.visual)
    # Convolutions are faster on either kind of processor with the channels last.
    model = model.to(memory_format=torch.channels_last)
    origin = blueprint.origin.get("pretrained", pretrained)
    return Backbone(
        model, blueprint.name, origin, spatial, precision, digest,
        read_tokenizer=partial(load_tokenizer, blueprint),
    )  # fmt: skip


def _digest_weights(file: str) -> str:
    """SHA-256 of a file of weights, and of the parts that an index lists."""
    digests = {str(file): check_receipt(file)}
    digests |= {part.name: sha256_of(part) for part in list_parts(file)}
    return digests[file] if len(digests) == 1 else sha256_of_all(digests)


def fetch_backbone(
    name: str,
    pretrained: str,
    destination: str | Path,
    *,
    architecture: str | Path | None = None,
    weights_key: str | None = None,
) -> None:
    """Bring a backbone's weights into one safetensors file: later jobs need no internet.

    Its metadata has the name, the tag and the test transform that go with the weights, and the
    files that Hugging Face's tokenizer and text tower are made from, where there are such. The
    arguments and errors are those of `load_backbone`.
    """
    blueprint = find_blueprint(name, pretrained, architecture, weights_key)
    with hub_folder(blueprint, text=blueprint.needs_files) as folder:
        model = build_model(blueprint, folder, "cpu")
        (folder / CONFIGURATION).unlink()
        packed = pack_files(folder)
    origin = {
        "backbone": blueprint.name,
        "pretrained": pretrained,
        "preprocess": json.dumps(open_clip.get_model_preprocess_cfg(model)),
    }
    if is_hub_name(name):
        origin["config"] = json.dumps(blueprint.config)
    write_tensors(destination, model.state_dict(), origin | packed)
    write_receipt(destination)

"""The configuration of a backbone, and the names of its model."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from vtclip.paths import find_own
from vtclip.settings import ConfigError, PathText, Settings, check, refusal

SpatialKind = Literal["projected", "raw", "unprojected"]
Precision = Literal["float32", "float16", "bfloat16"]

HUB, FOLDER = "hf-hub:", "local-dir:"
OWN = "own"  # as `pretrained`: the weights that lie beside the model's configuration
# The first of these that exists contains the weights, in open_clip's order.
WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
    "open_clip_model.safetensors.index.json",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
INDEX = ".index.json"  # end of the name of a file that lists the parts of a file of weights
WEIGHT_SUFFIXES = {".bin", ".ckpt", ".pt", ".pth", ".safetensors", ".json"}
GLYPHS = "glyphs"  # the small CLIP of the embedded experiment
GLYPH_SIZE = 32  # pixels of an image that these weights are trained on

Channel = Annotated[float, Field(gt=0)]


class Transform(Settings):
    """The `preprocess_cfg` of a model: where its test transform differs from CLIP's."""

    size: int | list[int] | None = None
    """the model's `image_size`"""
    mode: Literal["RGB"] = "RGB"
    """RGB"""
    mean: tuple[float, float, float] | None = Field(None, examples=[[0.5, 0.5, 0.5]])
    """of red, green and blue"""
    std: tuple[Channel, Channel, Channel] | None = Field(None, examples=[[0.5, 0.5, 0.5]])
    """of red, green and blue, above 0"""
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    """bicubic or bilinear"""
    resize_mode: Literal["shortest", "longest", "squash"] = Field("shortest", examples=["squash"])
    """shortest, longest or squash"""
    fill_color: int = Field(0, ge=0, le=255)
    """0 to 255"""


def check_transform(content: Mapping[str, Any], *, source: str) -> None:
    """Check the `preprocess_cfg` of a model's configuration; open_clip skips unknown keys."""
    source = f"{source}: preprocess_cfg"
    size = check(Transform, content.get("preprocess_cfg") or {}, source=source).size
    image_size = content["model_cfg"]["vision_cfg"].get("image_size", size)
    sides = [[each] * 2 if isinstance(each, int) else each for each in (size, image_size)]
    if size is not None and sides[0] != sides[1]:
        raise refusal(
            f"{source}.size", "the model reads images of another size",
            found=f"size: {size}", expected=f"image_size of vision_cfg, {image_size}",
        )  # fmt: skip


class BackboneConfig(Settings):
    """A frozen CLIP."""

    name: str = Field(
        pattern=rf"^({HUB}|{FOLDER}[./]*)?[A-Za-z0-9][A-Za-z0-9._/-]{{0,199}}$",
        examples=["RN50-quickgelu"],
    )
    """a model name of open_clip; where a model lies in the form of Hugging Face's hub,
    hf-hub:organisation/model or local-dir:path/to/folder; or a name of your own with
    `architecture`"""
    pretrained: PathText = Field(examples=["openai"])
    """open_clip's tag for the weights, a file of weights, own: those of a model in the hub's form,
    or glyphs: the demo's small CLIP, which was pre-trained on rendered glyphs"""
    architecture: PathText | None = Field(None, examples=["config/backbones/glyph-clip.json"])
    """a model configuration in open_clip's JSON form, for a model it does not know"""
    weights_key: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$", examples=["state_dict_ema"]
    )
    """which weights to take of a training program's file that has several"""
    spatial: SpatialKind = "projected"
    """spatial features in the joint space (projected), or before pooling (raw); or the pooled
    feature before its projection alone (unprojected), as ProLIP reads it"""
    precision: Precision = "float32"
    """what the features are computed in: float32 (on a GPU with TF32), float16 or bfloat16"""

    @property
    def weights_file(self) -> str | None:
        """Path of the weights; None for a tag of open_clip, the hub's weights, or glyphs."""
        folder = find_folder(self.name)
        if folder is not None and self.pretrained == OWN:
            files = [folder / file for file in WEIGHTS]
            return str(next((file for file in files if file.is_file()), files[0]))
        is_file = "/" in self.pretrained or Path(self.pretrained).suffix in WEIGHT_SUFFIXES
        return self.pretrained if is_file else None

    @property
    def architecture_file(self) -> str | None:
        """The file of a custom architecture, as jobs find it."""
        return None if self.architecture is None else find_own(self.architecture)

    @property
    def weights(self) -> str:
        """Name and weights in words, one part of a path: `RN50-quickgelu-openai`."""
        words = self.pretrained
        if self.weights_file is not None and words != OWN:
            words = Path(Path(self.weights_file).name.removesuffix(INDEX)).stem
        parts = [self.name, words, *([self.weights_key] if self.weights_key else [])]
        return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts))

    @property
    def folder(self) -> str:
        """Folder of its features: `weights`, with kind and precision that are not the defaults."""
        kind = "" if self.spatial == "projected" else f"-{self.spatial}"
        precision = "" if self.precision == "float32" else f"-{self.precision}"
        return f"{self.weights}{kind}{precision}"


def with_spatial(backbone: BackboneConfig, spatial: SpatialKind | None) -> BackboneConfig:
    """A backbone, with another kind of spatial features if one is named."""
    return backbone if spatial is None else backbone.model_copy(update={"spatial": spatial})


def list_parts(index: str | Path) -> list[Path]:
    """The files that an index of Hugging Face's form lists, beside it; none for another file."""
    index = Path(index)
    if not index.name.endswith(INDEX) or not index.is_file():
        return []
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        parts = [index.with_name(name) for name in sorted(set(found))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{index}: this is no index of weights: {type(error).__name__}: {error}.\n"
            "  expected: JSON with weight_map, from the name of a tensor to that of its file"
        ) from None
    return parts


def name_model(name: str, architecture: str | Path | None = None) -> str:
    """Name of a model, or of the file of its architecture, as features and weights record it."""
    if architecture is not None:
        return Path(architecture).stem
    return name if is_hub_name(name) else name.replace("/", "-")


def is_hub_name(name: str) -> bool:
    """Check that a name is the place of a model in the hub's form, and not a name of open_clip."""
    return name.startswith((HUB, FOLDER))


def find_folder(name: str) -> Path | None:
    """Folder of a model on this machine; None for any other name."""
    return Path(name.removeprefix(FOLDER)) if name.startswith(FOLDER) else None

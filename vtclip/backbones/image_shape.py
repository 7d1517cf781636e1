"""What an image tower is, from its configuration: kind, tokens, weights and work.

Nothing is built. Of open_clip's own towers it is arithmetic. What timm's are only timm knows, once
they are built: `timm_towers.csv` holds it, written by docs/measure_towers.py.
"""

import csv
import difflib
import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, StrictInt

from vtclip.config.backbone_config import SpatialKind
from vtclip.settings import LARGEST, Settings

TOWERS = Path(__file__).with_name("timm_towers.csv")

Number = Annotated[StrictInt, Field(ge=1, le=LARGEST)]
Stages = Annotated[list[Number], Field(min_length=4, max_length=4)]
Ratio = Annotated[float, Field(gt=0, le=1000)]
Kind = Literal["resnet", "vit", "average", "attention_pool", "other"]

POOLINGS: dict[str, Kind] = {
    "tok": "vit", "token": "vit", "avg": "average", "map": "attention_pool",
}  # fmt: skip


class Part(Settings):
    """What counts of a part of open_clip's JSON; what a file leaves out, open_clip has too."""

    model_config = ConfigDict(extra="ignore")


class Vision(Part):
    """An image tower."""

    image_size: Number = Field(default=224, description="pixels of a side")
    layers: Number | Stages = Field(default=12, description="of a ViT a number, of a ResNet four")
    width: Number = Field(default=768, description="width of the layers")
    patch_size: Number | None = Field(default=16, description="pixels of a patch's side, of a ViT")
    mlp_ratio: Ratio = Field(default=4.0, description="hidden width of a layer, by its width")
    pool_type: str = "tok"
    attentional_pool: Any = False
    attn_pooler_queries: Number = Field(default=256, description="queries of the attention pool")
    timm_model_name: str | None = None
    timm_pool: str | None = "avg"
    timm_proj: str | None = "linear"


class Tower(NamedTuple):
    """What is known of an image tower."""

    kind: Kind
    """how it pools; `vtclip.backbones.image_towers` tells what follows"""
    places: int
    """spatial tokens of the map before pooling"""
    width: int
    """numbers of each"""
    weights: int
    flops: float
    """floating-point operations of encoding one image"""

    @property
    def kinds(self) -> tuple[SpatialKind, ...]:
        """The kinds of spatial features that it gives."""
        return ("raw",) if self.kind == "other" else ("projected", "raw")

    def count_tokens(self, spatial: SpatialKind) -> int:
        """N: of some towers the pooled feature is the first of the projected ones."""
        has_pooled = spatial == "projected" and self.kind in ("resnet", "vit")
        return self.places + has_pooled


def read_tower(vision: Vision, dim: int) -> Tower:
    """What an image tower is that projects to `dim` numbers."""
    if vision.timm_model_name is not None:
        return _read_timm(vision)
    if isinstance(vision.layers, list):
        return _read_resnet(vision, dim)
    return _read_vit(vision, dim)


def find_fault(vision: Vision) -> tuple[str, str] | None:
    """What was found and what is expected, of a tower that cannot be built."""
    if vision.timm_model_name is not None:
        return _find_fault_of_timm(vision, vision.timm_model_name)
    if isinstance(vision.layers, int) and vision.patch_size is None:
        return "no patch_size", "vision_cfg with the patch_size of a ViT"
    if isinstance(vision.layers, int) and vision.pool_type not in ("tok", "avg"):
        return f"pool_type {vision.pool_type}", "vision_cfg with pool_type tok or avg"
    if isinstance(vision.layers, int) and vision.attentional_pool not in (None, False, True):
        found = f"attentional_pool {vision.attentional_pool}"
        return found, "vision_cfg with attentional_pool true or false"
    return None


# open_clip's own.


def _read_vit(vision: Vision, dim: int) -> Tower:
    assert isinstance(vision.layers, int)
    assert vision.patch_size is not None
    width, places = vision.width, (vision.image_size // vision.patch_size) ** 2
    tokens = places + 1  # with the class token
    layers = vision.layers * (4 + 2 * vision.mlp_ratio) * width**2
    patches = 3 * vision.patch_size**2 * width
    weights = layers + patches + tokens * width + width * dim
    flops = (
        2 * (tokens * layers + places * patches + width * dim)
        + 4 * tokens**2 * width * vision.layers
    )
    if not vision.attentional_pool:
        return Tower(POOLINGS[vision.pool_type], places, width, round(weights), flops)
    queries, values = vision.attn_pooler_queries, 2 * width * dim  # keys among them
    weights += values + 3 * dim**2 + queries * dim - width * dim
    flops += 2 * (tokens * values + 2 * queries * dim**2) + 4 * queries * tokens * dim
    return Tower("attention_pool", places, width, round(weights), flops)


def _read_resnet(vision: Vision, dim: int) -> Tower:
    """A ResNet's map has 1/32 of the image's size, and 32 times the width of its first stage."""
    convolutions = list(_list_convolutions(vision))
    width, places = 32 * vision.width, (vision.image_size // 32) ** 2
    tokens, pool = places + 1, 3 * (32 * vision.width) ** 2 + 32 * vision.width * dim
    weights = sum(number for number, _ in convolutions) + pool + tokens * width
    flops = sum(2.0 * number * side**2 for number, side in convolutions)
    flops += 2 * tokens * pool + 4 * tokens**2 * width
    return Tower("resnet", places, width, weights, flops)


def _list_convolutions(vision: Vision) -> Iterator[tuple[int, int]]:
    """Weights of each convolution of open_clip's ResNet, and the side of the map that it makes."""
    assert isinstance(vision.layers, list)
    width, side = vision.width, vision.image_size // 2
    for channels, made in ((3, width // 2), (width // 2, width // 2), (width // 2, width)):
        yield 9 * channels * made, side
    channels, side = width, side // 2
    for stage, blocks in enumerate(vision.layers):
        inner = width * 2**stage
        for block in range(blocks):
            yield channels * inner, side
            yield 9 * inner**2, side
            if block == 0:
                side //= 2 if stage > 0 else 1
                yield channels * 4 * inner, side
            yield inner * 4 * inner, side
            channels = 4 * inner


# timm's.


class TimmTower(NamedTuple):
    """A row of `timm_towers.csv`: a tower as timm makes it, for images of its own size."""

    name: str
    pool: str
    """how it pools, where a configuration does not say"""
    image_size: int
    any_size: bool
    """whether it reads images of other sizes too"""
    places: int
    width: int
    weights: int
    gflops: float


def _read_timm(vision: Vision) -> Tower:
    row = read_rows().get(_own_name(vision.timm_model_name or ""))
    kind = POOLINGS.get(vision.timm_pool or (row.pool if row else ""), "other")
    if row is None:  # reckoned as a large one
        large = Vision(image_size=vision.image_size, layers=24, width=1024, patch_size=14)
        return _read_vit(large, dim=1024)._replace(kind=kind)
    share = (vision.image_size / row.image_size) ** 2
    places = max(1, round(share * row.places))
    return Tower(kind, places, row.width, row.weights, share * row.gflops * 1e9)


def _find_fault_of_timm(vision: Vision, name: str) -> tuple[str, str] | None:
    row, size = read_rows().get(_own_name(name)), vision.image_size
    if row is None and _own_name(name) not in _list_timm():
        close = difflib.get_close_matches(name, _list_timm(), n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"no {name} in timm{hint}", "a tower of timm's, from timm.list_models()"
    if not vision.timm_pool and vision.timm_proj not in ("linear", "mlp"):
        return "no timm_pool and no timm_proj", "vision_cfg with one of them, such as timm_pool avg"
    if row is not None and not row.any_size and size != row.image_size:
        expected = f"vision_cfg with image_size {row.image_size}, the only one that it reads"
        return f"image_size {size} for {name} of timm", expected
    return None


def _own_name(name: str) -> str:
    """A tower's name without the tag of its weights: `test_vit` of `test_vit.r160_in1k`."""
    return name.partition(".")[0]


@cache
def read_rows() -> dict[str, TimmTower]:
    """The table of timm's towers, by name."""
    with TOWERS.open(encoding="utf-8", newline="") as file:
        rows = [
            TimmTower(
                name=row["name"],
                pool=row["pool"],
                image_size=int(row["image_size"]),
                any_size=row["any_size"] == "yes",
                places=int(row["places"]),
                width=int(row["width"]),
                weights=int(row["weights"]),
                gflops=float(row["gflops"]),
            )
            for row in csv.DictReader(file)
        ]
    return {row.name: row for row in rows}


@cache
def _list_timm() -> frozenset[str]:
    """The towers that timm has, from its source: importing it takes seconds."""
    spec = find_spec("timm")
    assert spec is not None  # open_clip asks for it
    assert spec.origin is not None
    files = (Path(spec.origin).parent / "models").glob("*.py")
    texts = [file.read_text(encoding="utf-8") for file in files]
    return frozenset(re.findall(r"(?m)^def (\w+)\(pretrained", "\n".join(texts)))

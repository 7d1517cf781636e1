"""Write vtclip/timm_towers.csv, what the plan knows of timm's: `python docs/measure_towers.py`.

Each tower of timm's that a configuration of open_clip names is built, and timm's own small ones,
without memory for its weights: that takes some minutes.
"""

import csv
import io
from collections.abc import Iterator

import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from vtclip.backbones.image_shape import TOWERS, TimmTower
from vtclip.backbones.shapes import list_names, read_content
from vtclip.config.backbone_config import BackboneConfig
from vtclip.files import write_text

SMALL = "test_*"  # a few hundred thousand weights


def list_towers() -> list[str]:
    """The names of the towers that are measured."""
    named = [BackboneConfig(name=name, pretrained="none") for name in list_names()]
    found = {read_content(backbone)["vision_cfg"].get("timm_model_name") for backbone in named}
    return sorted({*found, *timm.list_models(SMALL)} - {None})


def measure_tower(name: str) -> TimmTower:
    """What a tower is for images of its own size."""
    with torch.device("meta"):
        tower = timm.create_model(name, num_classes=0).eval().requires_grad_(False)
    size = tower.default_cfg["input_size"][-1]
    flops = FlopCounterMode(display=False)
    with flops:
        places, width = encode(tower, size)
    return TimmTower(
        name=name,
        pool=find_pooling(tower),
        image_size=size,
        any_size=reads(tower, 2 * size),
        places=places,
        width=width,
        weights=sum(weight.numel() for weight in tower.parameters()),
        gflops=float(f"{flops.get_total_flops() / 1e9:.4g}"),
    )


def encode(tower: torch.nn.Module, size: int) -> tuple[int, int]:
    """The spatial tokens of an image's map before pooling, and the width of each."""
    features = tower.forward_features(torch.zeros(1, 3, size, size, device="meta"))
    tower.forward_head(features)
    if features.ndim == 3:
        return features.shape[1] - getattr(tower, "num_prefix_tokens", 0), features.shape[2]
    last = str(getattr(tower, "output_fmt", "NCHW")).endswith("NHWC")
    width = features.shape[3 if last else 1]
    return features.numel() // width, width


def reads(tower: torch.nn.Module, size: int) -> bool:
    """Whether a tower reads images of another size than its own."""
    try:
        encode(tower, size)
    except (AssertionError, RuntimeError):
        return False
    return True


def find_pooling(tower: torch.nn.Module) -> str:
    """How a tower pools by itself, in timm's word."""
    for holder in (tower, getattr(tower, "head", None)):
        pool = getattr(holder, "global_pool", None)
        if pool is not None:
            return pool if isinstance(pool, str) else pool.pool_type
    return ""


def render_table(towers: Iterator[TimmTower]) -> str:
    """The table, with a line for each tower."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TimmTower._fields)
    for tower in towers:
        writer.writerow(tower._replace(any_size="yes" if tower.any_size else "no"))
    return text.getvalue()


if __name__ == "__main__":
    write_text(TOWERS, render_table(measure_tower(name) for name in list_towers()))

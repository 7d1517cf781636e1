"""Write vtclip/backbones/shapes.csv: `python docs/make_shapes.py`, about a minute.

Run it again where open_clip has other configurations or other tags of weights. The demo's model is
in the table too, so that planning the demo measures nothing.
"""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import open_clip

from vtclip.backbones.known import Measured, list_names, read_content
from vtclip.backbones.measure import measure_model
from vtclip.backbones.shapes import SHAPES, digest_of
from vtclip.config.backbone_config import BackboneConfig
from vtclip.files import write_text

DEMO = Path(__file__).parents[1] / "config" / "backbones" / "glyph-clip.json"
QUICK = "-quickgelu"


def list_rows() -> Iterator[list[object]]:
    """Name, SHA-256 of the configuration, what is measured, and tags of each model."""
    for name in list_names():
        config = read_content(BackboneConfig(name=name, pretrained="none"))
        yield [
            name,
            digest_of(config),
            *round_flops(measure_model(config)),
            " ".join(tags_of(name)),
        ]
    config = json.loads(DEMO.read_text(encoding="utf-8"))
    yield [DEMO.stem, digest_of(config), *round_flops(measure_model(config)), ""]


def round_flops(measured: Measured) -> Measured:
    """Four digits are more than estimates need."""
    return measured._replace(
        image_flops=float(f"{measured.image_flops:.4g}"),
        prompt_flops=float(f"{measured.prompt_flops:.4g}"),
    )


def tags_of(name: str) -> Iterator[str]:
    """The tags of a model's weights, with a * where they were trained with QuickGELU."""
    for tag in open_clip.list_pretrained_tags_by_model(name.removesuffix(QUICK)):
        weights = open_clip.get_pretrained_cfg(name.removesuffix(QUICK), tag)
        quick = weights.get("quick_gelu", False)
        if quick or not name.endswith(QUICK):
            yield f"{tag}*" if quick else tag


def render_table(rows: Iterator[list[object]]) -> str:
    """The table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "sha256", *Measured._fields, "tags"])
    writer.writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    write_text(SHAPES, render_table(list_rows()))

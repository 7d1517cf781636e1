"""Write vtclip/backbones/shapes.csv: `python docs/make_shapes.py`, about a minute.

Run it again where open_clip has other configurations or other tags of weights. The demo's model is
in the table too, so that planning the demo measures nothing.
"""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from vtclip.backbones.build import read_tags
from vtclip.backbones.known import Measured, list_names, read_content
from vtclip.backbones.measure import measure_model
from vtclip.backbones.shapes import SHAPES, digest_of
from vtclip.config.backbone_config import BackboneConfig
from vtclip.files import write_text

DEMO = Path(__file__).parents[1] / "config" / "backbones" / "glyph-clip.json"


def list_rows() -> Iterator[list[object]]:
    """Name, SHA-256, what is measured, and tags of each model; a * is for those of QuickGELU."""
    for name in list_names():
        config = read_content(BackboneConfig(name=name, pretrained="none"))
        yield [
            name,
            digest_of(config),
            *round_flops(measure_model(config)),
            " ".join(f"{tag}*" if quick else tag for tag, quick in read_tags(name).items()),
        ]
    config = json.loads(DEMO.read_text(encoding="utf-8"))
    yield [DEMO.stem, digest_of(config), *round_flops(measure_model(config)), ""]


def round_flops(measured: Measured) -> Measured:
    """Four digits are more than estimates need."""
    return measured._replace(
        image_flops=float(f"{measured.image_flops:.4g}"),
        prompt_flops=float(f"{measured.prompt_flops:.4g}"),
    )


def render_table(rows: Iterator[list[object]]) -> str:
    """The table as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "sha256", *Measured._fields, "tags"])
    writer.writerows(rows)
    return text.getvalue()


if __name__ == "__main__":
    write_text(SHAPES, render_table(list_rows()))

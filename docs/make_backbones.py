"""Write docs/backbones.md from what the plan knows: `python docs/make_backbones.py`."""

from pathlib import Path

from vtclip import cost
from vtclip.backbones.known import Measured, list_names
from vtclip.backbones.shapes import (
    Architecture,
    find_measured,
    list_tags,
    read_architecture,
    read_shape,
)
from vtclip.config.backbone_config import BackboneConfig
from vtclip.files import write_text
from vtclip.methods import METHODS
from vtclip.settings import ConfigError

PAGE = Path(__file__).with_name("backbones.md")

INTRODUCTION = """\
# Backbones

<!-- Written by docs/make_backbones.py. Run it again where open_clip has other configurations. -->

Any model of open_clip can be a backbone. Name one of its configurations and a tag of its weights:

```yaml
backbone: {name: ViT-B-16-quickgelu, pretrained: openai}
```

The weights may also be your own file, and so may the configuration (`architecture:`, in open_clip's
JSON format, with a tower of open_clip's or of timm's). A model in the format of the Hugging Face
hub is called `hf-hub:organisation/model`, or `local-dir:path/to/folder` if it is on this machine.
`pretrained: own` uses the weights that are stored there.

## Spatial features

Every image tower has `spatial: raw`, the map before pooling. `spatial: projected` is in the joint
space of images and texts. What it contains depends on how the tower pools:

- **resnet**: the attention pool with every token as its query. N is the number of places plus one:
  the first token is the pooled feature.
- **vit**: each token after the final norm and the projection. N is the number of places plus one:
  the first token, the class token, is the pooled feature.
- **average**: each place as if it were the only one in the average. N is the number of places. If
  only a projection follows the average, their mean is the pooled feature.
- **attention_pool**: each place as if it were the only one that the learned query sees. N is the
  number of places.

A tower that pools in another way has no projected features. The plan then stops before the first
job and suggests `spatial: raw`. None of open_clip's own configurations is such a tower.

## What the columns say

- **D** is the width of the joint space.
- **pixels** is the side of an image.
- **places** is the number of spatial tokens of the map before pooling, and **width** is the width
  of each of them.
- **GFLOPs** are those of encoding one image. A multiplication and its addition count as two.
- **GB** is the main memory that a job requests to encode images. The job keeps the weights of both
  towers twice while it reads them.
- **methods** are those that can use the configuration. In brackets is the largest setting that its
  text tower allows.
- **weights** are open_clip's tags. A name with a `*` has a tokenizer or text tower from Hugging
  Face, which requires `python -m pip install --editable '.[transformers]'`.
"""

HEAD = """\
| name | kind | spatial | D | pixels | places | width | GFLOPs | GB | methods | weights |
|---|---|---|---:|---:|---:|---:|---:|---:|---|---|"""


def render_page() -> str:
    """The page, with a row for each configuration of open_clip."""
    rows = [render_row(name) for name in sorted(list_names(), key=str.casefold)]
    return "\n".join([INTRODUCTION, "## The configurations", "", HEAD, *rows, ""])


def render_row(name: str) -> str:
    """What is known of one configuration."""
    backbone = BackboneConfig(name=name, pretrained="none")
    found = read_architecture(backbone)
    measured = find_measured(backbone)
    cells = [
        f"`{name}`{'*' if found.text_cfg.needs_transformers else ''}",
        measured.kind,
        ", ".join(measured.kinds),
        f"{measured.dim:,}",
        str(measured.image_size),
        f"{measured.places:,}",
        f"{measured.width:,}",
        render_number(measured.image_flops / 1e9),
        render_number(cost.extraction_memory(read_shape(backbone), workers=0) / 1000),
        render_methods(backbone, measured),
        render_tags(name, found),
    ]
    return f"| {' | '.join(cells)} |"


def render_number(number: float) -> str:
    """One digit behind the point, and none from a hundred on."""
    return f"{number:,.1f}" if number < 99.95 else f"{number:,.0f}"


def render_methods(backbone: BackboneConfig, measured: Measured) -> str:
    """The methods that can use a backbone; beside one, a setting that it then needs."""
    usable, shape = {}, read_shape(backbone)
    has_blocks = shape.image_blocks and shape.text_blocks
    for name, method in METHODS.items():
        if method.needs_projected and "projected" not in measured.kinds:
            continue
        if method.reads_images and not has_blocks:
            continue
        try:
            method(method.settings_type()).check(shape)
            usable[name] = ""
        except ConfigError as error:
            usable[name] = f" ({str(error).splitlines()[-1].strip()})"
    restricted = [name + setting for name, setting in usable.items() if setting]
    left_out = [name for name in METHODS if name not in usable]
    every = f"all but {', '.join(left_out)}" if left_out else "all"
    return "; ".join([every, *restricted])


def render_tags(name: str, found: Architecture) -> str:
    """The tags of weights that go with a configuration."""
    tags = [tag for tag, quick in list_tags(name).items() if found.quick_gelu or not quick]
    return ", ".join(tags) or "none"


if __name__ == "__main__":
    write_text(PAGE, render_page())

"""What this package uses of open_clip, imported without what no backbone here needs.

open_clip imports timm, for image towers that are refused, and torchvision, whose `roi_align` asks
torch.compile one question. Both bring the compiler along, two seconds of every job with a backbone.
While open_clip is imported, timm is therefore not to be had, which open_clip provides for, and
another module answers torchvision's question with no.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

TIMM, COMPILER = "timm", "torch._dynamo.utils"


def _import_lightly(name: str) -> Any:
    if TIMM in sys.modules or COMPILER in sys.modules:  # it has been paid for
        return import_module(name)
    answer = ModuleType(COMPILER)
    vars(answer)["is_compile_supported"] = lambda device: False
    sys.modules.update({COMPILER: answer, TIMM: None})  # type: ignore[dict-item]
    try:
        return import_module(name)
    except (ImportError, AttributeError):  # a release that needs more of them
        pass
    finally:
        for hidden in (TIMM, COMPILER):
            sys.modules.pop(hidden, None)
    return import_module(name)


open_clip = _import_lightly("open_clip")

from open_clip.model import CLIP  # noqa: E402
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet  # noqa: E402
from open_clip.transform import PreprocessCfg, image_transform_v2  # noqa: E402
from open_clip.transformer import (  # noqa: E402
    ResidualAttentionBlock,
    TextTransformer,
    VisionTransformer,
)

__all__ = [
    "CLIP",
    "AttentionPool2d",
    "ModifiedResNet",
    "PreprocessCfg",
    "ResidualAttentionBlock",
    "TextTransformer",
    "VisionTransformer",
    "image_transform_v2",
    "open_clip",
]

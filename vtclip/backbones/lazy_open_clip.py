"""What this package uses of open_clip, imported without what most backbones do not need.

open_clip imports timm, for image towers of timm's, transformers, for text towers of Hugging Face's,
and torchvision, whose `roi_align` asks torch.compile one question. Each brings the compiler along,
two seconds or more of every job with a backbone. While open_clip is imported, the two libraries are
therefore missing, which open_clip provides for, and another module answers torchvision's
question with no. `load_timm` and `load_transformers` give open_clip what a backbone does need.
"""

import sys
from importlib import import_module, reload
from types import ModuleType
from typing import Any

HIDDEN, COMPILER = ("timm", "transformers"), "torch._dynamo.utils"


def _import_lightly(name: str) -> Any:
    if {*HIDDEN, COMPILER} & sys.modules.keys():  # it has been paid for
        return import_module(name)
    answer = ModuleType(COMPILER)
    vars(answer)["is_compile_supported"] = lambda device: False
    sys.modules.update({COMPILER: answer, **dict.fromkeys(HIDDEN)})  # type: ignore[dict-item]
    try:
        return import_module(name)
    except (ImportError, AttributeError):  # a release that needs more of them
        pass
    finally:
        for hidden in (*HIDDEN, COMPILER):
            sys.modules.pop(hidden, None)
    return import_module(name)


open_clip = _import_lightly("open_clip")

from open_clip.convert import convert_state_dict  # noqa: E402
from open_clip.model import CLIP, TimmModel  # noqa: E402
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet  # noqa: E402
from open_clip.transform import (  # noqa: E402
    CenterCropOrPad,
    PreprocessCfg,
    ResizeKeepRatio,
    image_transform_v2,
    merge_preprocess_dict,
)
from open_clip.transformer import (  # noqa: E402
    AttentionalPooler,
    ResidualAttentionBlock,
    TextTransformer,
    VisionTransformer,
)


def load_timm() -> Any:
    """Let open_clip build image towers of timm's."""
    return _load("timm", open_clip.timm_model)


def load_transformers() -> Any:
    """Let open_clip build text towers and tokenizers of Hugging Face's.

    Raises:
        ImportError: transformers is not installed.
    """
    return _load("transformers", open_clip.hf_model)


def _load(library: str, reader: ModuleType) -> Any:
    found = import_module(library)
    if getattr(reader, library) is None:
        # The classes that open_clip has made of this module look their names up in it: they find
        # the library from now on.
        reload(reader)
    return found


__all__ = [
    "CLIP",
    "AttentionPool2d",
    "AttentionalPooler",
    "CenterCropOrPad",
    "ModifiedResNet",
    "PreprocessCfg",
    "ResidualAttentionBlock",
    "ResizeKeepRatio",
    "TextTransformer",
    "TimmModel",
    "VisionTransformer",
    "convert_state_dict",
    "image_transform_v2",
    "load_timm",
    "load_transformers",
    "merge_preprocess_dict",
    "open_clip",
]

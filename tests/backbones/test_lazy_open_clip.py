"""open_clip comes without torch.compile and timm, and both are still found."""

import subprocess
import sys

CODE = """
import sys, vtclip.backbones.backbone
print(*({"timm", "torch._dynamo"} & set(sys.modules)) or ["neither"])
import timm, torch
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
from open_clip import create_model
print(type(create_model("RN50-quickgelu", load_weights=False)).__name__)
"""


def test_a_backbones_module_imports_neither_and_leaves_both_to_be_imported():
    done = subprocess.run(
        [sys.executable, "-c", CODE], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout.split() == ["neither", "2.0", "CLIP"]

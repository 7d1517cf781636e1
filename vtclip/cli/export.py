"""Write a trained head into one file that works anywhere.

The safetensors file contains the head, the class names, their texts and the settings: everything
that `vtclip classify` needs except the backbone's weights. --with-backbone adds these.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vtclip.files import sha256_of

HELP = "write a trained head into one file"
EXAMPLES = """examples:
  vtclip export demo/digits/vt_clip/16shot-seed1 digits.safetensors --with-backbone
  vtclip export demo/digits/vt_clip/16shot-seed1 digits.onnx --onnx
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("head", metavar="HEAD", help="the trained head, as for `vtclip classify`")
    parser.add_argument("file", metavar="FILE", help="the file to write")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--with-backbone", action="store_true", help="include the backbone's weights")
    form.add_argument(
        "--onnx",
        action="store_true",
        help="write an ONNX graph from pixels to logits, including the backbone",
    )
    parser.add_argument(
        "--backbone",
        metavar="FILE",
        help="the backbone's weights (default: those in HEAD or in resources/backbones/)",
    )


def run(given: argparse.Namespace) -> int:
    """Write the file."""
    from vtclip.inference.classifier import load_classifier
    from vtclip.inference.saved import read_saved, write_saved

    if Path(given.file).exists() and not Path(given.file).is_file():
        found = "a folder" if Path(given.file).is_dir() else "a device"
        raise ValueError(f"{given.file}: expected the name of a file, found {found}.")
    if given.onnx:
        from vtclip.inference.onnx_export import check_onnx, export_onnx

        check_onnx()
        export_onnx(load_classifier(given.head, backbone=given.backbone), given.file)
    else:
        saved = read_saved(given.head, given.backbone)
        write_saved(saved, given.file, with_backbone=given.with_backbone)
    size = Path(given.file).stat().st_size / 1e6
    print(f"{given.file}: {size:.1f} MB, SHA-256 {sha256_of(given.file)}")
    return 0

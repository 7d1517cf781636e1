"""Write a trained head into one file that works anywhere, and a model card beside it.

The safetensors file contains the head, the class names, their texts and the settings: everything
that `vtclip classify` needs except the backbone's weights. --with-backbone adds these. The head's
calibration is in it, so sets and refusals can be requested later; an ONNX graph computes those that
--coverage and --refuse request.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vtclip.cli import add_backbone, add_rules
from vtclip.files import sha256_of

HELP = "write a trained head into one file"
EXAMPLES = """examples:
  vtclip export demo/digits/vt_clip/16shot-seed1 digits.safetensors --with-backbone
  vtclip export demo/digits/vt_clip/16shot-seed1 digits.onnx --onnx
  vtclip export demo/digits/vt_clip/16shot-seed1 digits.onnx --onnx --coverage 0.9 --refuse 0.05
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
    add_rules(parser)
    add_backbone(parser)


def run(given: argparse.Namespace) -> int:
    """Write the file."""
    from vtclip.inference.classifier import make_classifier
    from vtclip.inference.runs import read_saved
    from vtclip.inference.saved import write_card, write_saved
    from vtclip.settings import refusal

    if Path(given.file).exists() and not Path(given.file).is_file():
        found = "a folder" if Path(given.file).is_dir() else "a device"
        raise ValueError(f"{given.file}: expected the name of a file, found {found}.")
    ending = ".onnx" if given.onnx else ".safetensors"
    if Path(given.file).suffix != ending:
        expected = f"a name that ends in {ending}" + ("" if given.onnx else ", or --onnx and .onnx")
        raise refusal("FILE", "its ending is of another form", found=given.file, expected=expected)
    saved = read_saved(given.head, given.backbone)
    if given.onnx:
        from vtclip.inference.onnx_export import check_onnx, export_onnx

        check_onnx()
        classifier = make_classifier(saved, "cpu")
        rules = classifier.rules(given.coverage, given.refuse, by_class=given.by_class)
        export_onnx(classifier, given.file, rules)
    elif given.coverage is not None or given.refuse is not None:
        raise ValueError(
            "--coverage and --refuse are for --onnx: a safetensors file has the whole calibration, "
            "and `vtclip classify` takes them."
        )
    else:
        write_saved(saved, given.file, with_backbone=given.with_backbone)
    size = Path(given.file).stat().st_size / 1e6
    print(f"{given.file}: {size:.1f} MB, SHA-256 {sha256_of(given.file)}")
    print(f"{write_card(saved, given.file)}: its model card")
    return 0

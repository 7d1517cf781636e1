"""Classify images with a trained head, and print the most probable classes.

HEAD is a run's folder, a file of `vtclip export`, or the name of a run below results/:
experiment/dataset/method/run. IMAGE is a file, a folder (all images in it), or a pattern.

An image that cannot be read is reported and skipped; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vtclip.wording import count

if TYPE_CHECKING:
    import torch

    from vtclip.inference.classifier import Classifier, Prediction

HELP = "classify images with a trained head"
EXAMPLES = """examples:
  vtclip classify demo/digits/vt_clip/16shot-seed1 seven.png
  vtclip classify digits.safetensors photographs/ --csv > classes.csv
  vtclip classify digits.safetensors 'photographs/*.jpg' --attention attention/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("head", metavar="HEAD", help="the trained head")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders or patterns")
    parser.add_argument(
        "--top", type=_positive, default=5, metavar="N", help="classes per image (default: 5)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print CSV: one line per image and class")
    parser.add_argument(
        "--attention",
        metavar="DIR",
        help="also draw what the two most probable classes attend to, into this folder",
    )
    parser.add_argument(
        "--backbone",
        metavar="FILE",
        help="the backbone's weights (default: those in HEAD or in resources/backbones/)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help="where to compute (default: a GPU if there is one)",
    )


def run(given: argparse.Namespace) -> int:
    """Classify; returns 1 if an image could not be classified."""
    from vtclip.inference.classifier import make_classifier
    from vtclip.inference.saved import read_saved
    from vtclip.plan.checks import check_device
    from vtclip.runtime.job import progress

    check_device(given.device)
    images = list(find_images(given.images))
    saved = read_saved(given.head, given.backbone)
    with _lease_device(given.device) as device:
        classifier = make_classifier(saved, device)
        if given.attention:
            classifier.guided_head()
        found = classifier.predict(images)
        if len(images) > 1:
            found = progress(found, what="images", total=len(images))
        predictions = list(found)
        if given.attention:
            _draw_attention(classifier, predictions, Path(given.attention))
    _print(predictions, given, sys.stdout)
    bad = [prediction for prediction in predictions if prediction.reason]
    for prediction in bad:
        print(f"{prediction.image}: {prediction.reason}", file=sys.stderr)
    if bad:
        print(
            f"{len(bad)} of {count(len(images), 'image')} could not be classified.", file=sys.stderr
        )
    return int(bool(bad))


@contextmanager
def _lease_device(wanted: str) -> Iterator[torch.device | str]:
    """Lease a device; with "auto" the CPU, and not a wait, where no GPU is free."""
    from vtclip.runtime.devices import lease_device
    from vtclip.runtime.gpus import NoDeviceError

    with ExitStack() as leases:
        device: torch.device | str = "cpu"
        try:
            device = leases.enter_context(lease_device(wanted, slots=None, waits=wanted != "auto"))
        except NoDeviceError as error:
            if wanted != "auto":
                raise
            print(f"{error}\nComputing on the CPU.", file=sys.stderr)
        yield device


def find_images(given: Sequence[str]) -> Iterator[str]:
    """List the files that names of files, folders and patterns stand for, in their order."""
    from vtclip.data.images import is_picture
    from vtclip.data.walk import walk

    for name in given:
        if Path(name).is_dir():
            entries = [Path(name, entry.path) for entry in walk(name) if entry.kind == "file"]
            pictures = [str(file) for file in entries if is_picture(file)]
            if not pictures:
                raise ValueError(f"{name}: this folder contains no image.")
            yield from pictures
        elif not Path(name).exists() and set("*?[") & set(name):
            files = sorted(glob(name, recursive=True))  # noqa: PTH207  it may be absolute
            if not files:
                raise ValueError(f"{name}: no file matches this pattern.")
            yield from files
        else:
            yield name


def _draw_attention(
    classifier: Classifier, predictions: Sequence[Prediction], folder: Path
) -> None:
    from vtclip.inference.attention import draw_attention

    for number, prediction in enumerate(predictions, start=1):
        if not prediction.reason:
            # Images of two folders may have one name, and a dot would begin a suffix.
            name = f"{number}-{Path(prediction.image).stem}".replace(".", "-")
            draw_attention(classifier, prediction, folder / name)


def _print(predictions: Sequence[Prediction], given: argparse.Namespace, out: TextIO) -> None:
    if given.json:
        content = [_describe(prediction, given.top) for prediction in predictions]
        print(json.dumps(content, indent=2, ensure_ascii=False), file=out)
        return
    good = [prediction for prediction in predictions if not prediction.reason]
    if given.csv:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["image", "rank", "class", "probability"])
        for prediction in good:
            for rank, (name, probability) in enumerate(prediction.top(given.top), start=1):
                writer.writerow([prediction.image, rank, name, f"{probability:.8f}"])
        return
    for prediction in good:
        print(prediction.image, file=out)
        for name, probability in prediction.top(given.top):
            print(f"  {probability:6.1%}  {name}", file=out)


def _describe(prediction: Prediction, number: int) -> dict[str, object]:
    if prediction.reason:
        return {"image": prediction.image, "error": prediction.reason}
    top = [{"class": name, "probability": p} for name, p in prediction.top(number)]
    return {"image": prediction.image, "top": top}


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found '{text}'")
    return int(text)

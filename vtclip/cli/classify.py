"""Classify images with a trained head, and print the most probable classes.

HEAD is a run's folder, a file of `vtclip export`, or the name of a run below results/:
experiment/dataset/method/run, or experiment/best for the head that the report begins with. IMAGE is
a file, a folder (all images in it), or a pattern.

With --coverage, the set of an image contains its true class as often as requested; with --refuse,
an image that is like no class is called unknown, and so is this share of the classes' own images.
--sort puts images into a folder per class, `unsure` (the set is not one class) and `unknown`;
started again, it goes on where it was.

An image that cannot be read is reported and skipped; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vtclip.cli import add_backbone, add_device, add_rules, positive, take_device
from vtclip.cost import threads_to_decode
from vtclip.paths import HEAD
from vtclip.wording import count

if TYPE_CHECKING:
    from vtclip.inference.classifier import Classifier, Prediction
    from vtclip.inference.saved import Saved
    from vtclip.inference.sorting import Sorter

HELP = "classify images with a trained head"
EXAMPLES = """examples:
  vtclip classify demo/digits/vt_clip/16shot-seed1 seven.png
  vtclip classify digits.safetensors photographs/ --csv > classes.csv
  vtclip classify digits.safetensors photographs/ --jsonl --coverage 0.9 --refuse 0.05
  vtclip classify digits.safetensors photographs/ --sort sorted/ --coverage 0.9 --refuse 0.05
  vtclip classify digits.safetensors 'photographs/*.jpg' --attention attention/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("head", metavar="HEAD", help="the trained head")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="files, folders or patterns")
    parser.add_argument(
        "--top", type=positive, default=5, metavar="N", help="classes per image (default: 5)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--jsonl", action="store_true", help="print JSON lines, one per image")
    form.add_argument("--csv", action="store_true", help="print CSV: one line per image and class")
    add_rules(parser)
    parser.add_argument(
        "--sort", metavar="DIR", type=Path, help="link each image into a folder of DIR"
    )
    parser.add_argument("--copy", action="store_true", help="with --sort: copies, and not links")
    parser.add_argument(
        "--attention",
        metavar="DIR",
        help="also draw what the two most probable classes attend to, into this folder",
    )
    add_backbone(parser)
    add_device(parser)


def run(given: argparse.Namespace) -> int:
    """Classify; returns 1 if an image could not be classified."""
    from vtclip.inference.classifier import make_classifier
    from vtclip.inference.runs import read_saved
    from vtclip.inference.sorting import sorting
    from vtclip.plan.checks import check_device

    check_device(given.device)
    if given.copy and given.sort is None:
        raise ValueError("--copy: it needs --sort DIR.")
    images = list(find_images(given.images))
    for image in images:
        if image != os.fsencode(image).decode("utf-8", "replace"):
            raise ValueError(f"{image}: its name is not UTF-8: rename it.")
    saved = read_saved(given.head, given.backbone)
    bad: list[str] = []
    with ExitStack() as stack:
        classifier = make_classifier(saved, stack.enter_context(take_device(given.device)))
        rules = classifier.rules(given.coverage, given.refuse, by_class=given.by_class)
        if given.attention:
            classifier.guided_head()
        sorter = None
        if given.sort is not None:
            sorter = stack.enter_context(
                sorting(
                    given.sort,
                    classifier.class_names,
                    copies=given.copy,
                    made_by=_describe_rules(saved, given),
                )
            )
            images = sorter.left(images)
        workers = min(threads_to_decode(len(images)), os.cpu_count() or 1) - 1
        found = classifier.predict(images, rules, workers=workers)
        found = _follow(found, len(images), given)
        _print(_use(found, classifier, sorter, given, bad), given, sys.stdout)
        if sorter is not None:
            _summarise(sorter)
    if bad:
        print(
            f"{len(bad)} of {count(len(images), 'image')} could not be classified.", file=sys.stderr
        )
    return int(bool(bad))


def _describe_rules(saved: Saved, given: argparse.Namespace) -> dict[str, object]:
    """The head and the options that decide an image's folder."""
    from vtclip.files import sha256_of

    file = saved.source / HEAD if saved.source.is_dir() else saved.source
    return {
        "head": sha256_of(file),
        "--coverage": given.coverage,
        "--by-class": given.by_class,
        "--refuse": given.refuse,
        "--copy": given.copy or None,
    }


def _follow(
    found: Iterator[Prediction], total: int, given: argparse.Namespace
) -> Iterator[Prediction]:
    """Show progress, unless the predictions themselves come on the same terminal."""
    from vtclip.runtime.job import progress

    is_quiet = given.sort is not None and not _form(given)
    if total < 2 or (sys.stdout.isatty() and sys.stderr.isatty() and not is_quiet):
        return found
    return progress(found, what="images", total=total)


def _use(
    found: Iterator[Prediction],
    classifier: Classifier,
    sorter: Sorter | None,
    given: argparse.Namespace,
    bad: list[str],
) -> Iterator[Prediction]:
    """Pass predictions on; sort and draw, and report the images that have none."""
    for number, prediction in enumerate(found, start=1):
        if prediction.reason:
            print(f"{prediction.image}: {prediction.reason}", file=sys.stderr)
            bad.append(prediction.image)
        else:
            if sorter is not None:
                sorter.place(prediction)
            if given.attention:
                _draw_attention(classifier, prediction, Path(given.attention), number)
        yield prediction


def _summarise(sorter: Sorter) -> None:
    """Print how many images each folder has."""
    counts = Counter(sorter.done.values())
    print(f"{sorter.folder}: {count(sum(counts.values()), 'image')}", file=sys.stderr)
    for name, number in counts.most_common():
        print(f"  {number:6}  {name}", file=sys.stderr)


def find_images(given: Sequence[str]) -> Iterator[str]:
    """List the files that names of files, folders and patterns stand for, in their order."""
    from vtclip.data.images import is_picture
    from vtclip.data.walk import walk

    for name in given:
        if not name:  # it would be the current folder
            raise ValueError("IMAGE: an empty name, as of a variable that is not set.")
        if Path(name).is_dir():
            entries = [*walk(name)]
            for entry in entries:
                if entry.kind == "passed over":
                    print(f"{Path(name, entry.path)}: skipped: {entry.note}", file=sys.stderr)
            files = [Path(name, entry.path) for entry in entries if entry.kind == "file"]
            pictures = [str(file) for file in files if is_picture(file)]
            if not pictures:
                raise ValueError(f"{name}: this folder contains no image.")
            yield from pictures
        elif not Path(name).exists() and set("*?[") & set(name):
            found = sorted(glob(name, recursive=True))  # noqa: PTH207  it may be absolute
            if not found:
                raise ValueError(f"{name}: no file matches this pattern.")
            yield from found
        else:
            yield name


def _draw_attention(
    classifier: Classifier, prediction: Prediction, folder: Path, number: int
) -> None:
    from vtclip.inference.attention import draw_attention

    # Images of two folders may have one name, and a dot would begin a suffix.
    name = f"{number}-{Path(prediction.image).stem}".replace(".", "-")
    draw_attention(classifier, prediction, folder / name)


def _form(given: argparse.Namespace) -> str:
    """The form that predictions are printed in; "" for none that is named."""
    return next((form for form in ("json", "jsonl", "csv") if getattr(given, form)), "")


def _print(predictions: Iterator[Prediction], given: argparse.Namespace, out: TextIO) -> None:
    """Print each prediction as it comes."""
    form = _form(given)
    if form == "json":
        lead = "[\n  "
        for prediction in predictions:
            content = json.dumps(describe(prediction, given.top), indent=2, ensure_ascii=False)
            print(lead + content.replace("\n", "\n  "), end="", file=out)
            lead = ",\n  "
        print("[]" if lead == "[\n  " else "\n]", file=out)
    elif form == "csv":
        _print_csv(predictions, given, out)
    else:
        for prediction in predictions:
            if form == "jsonl":
                line = json.dumps(describe(prediction, given.top), ensure_ascii=False)
                print(line, file=out, flush=True)
            elif not prediction.reason and given.sort is None:
                _print_text(prediction, given.top, out)


def _print_csv(predictions: Iterator[Prediction], given: argparse.Namespace, out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    sets = ["in set"] * (given.coverage is not None)
    refusals = ["unknown"] * (given.refuse is not None)
    writer.writerow(["image", "rank", "class", "probability", *sets, *refusals])
    for prediction in predictions:
        top = () if prediction.reason else prediction.top(given.top)
        for rank, (name, probability) in enumerate(top, start=1):
            row = [prediction.image, rank, name, f"{probability:.8f}"]
            if prediction.classes is not None:
                row.append("yes" if name in prediction.classes else "no")
            if prediction.is_unknown is not None:
                row.append("yes" if prediction.is_unknown else "no")
            writer.writerow(row)


def _print_text(prediction: Prediction, number: int, out: TextIO) -> None:
    print(prediction.image, file=out)
    for name, probability in prediction.top(number):
        print(f"  {probability:6.1%}  {name}", file=out)
    if prediction.classes is not None:
        print(f"  set: {', '.join(prediction.classes) or 'no class'}", file=out)
    if prediction.is_unknown:
        print("  unknown: it is like none of the classes", file=out)


def describe(prediction: Prediction, number: int) -> dict[str, object]:
    """A prediction as JSON has it."""
    if prediction.reason:
        return {"image": prediction.image, "error": prediction.reason}
    top = [{"class": name, "probability": p} for name, p in prediction.top(number)]
    found: dict[str, object] = {"image": prediction.image, "top": top}
    if prediction.classes is not None:
        found["set"] = list(prediction.classes)
    if prediction.is_unknown is not None:
        found["unknown"] = prediction.is_unknown
    return found

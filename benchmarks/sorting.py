"""Images a second of `vtclip classify`, and of the extract job on the same images.

The images are invented: JPEGs of 640 x 480. Both rows use the backbone of the head, as many
threads and as many processes that decode, each in turns; the best of each counts.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from PIL import Image

from vtclip.features.extract import extract_test
from vtclip.inference.classifier import Classifier, load_classifier

SIZE = (640, 480)


def main() -> None:
    given = parse_arguments()
    torch.set_num_threads(given.threads)
    classifier = load_classifier(given.head)
    with tempfile.TemporaryDirectory() as folder:
        files = invent(Path(folder), given.number)
        rows: dict[str, Callable[[], None]] = {
            "vtclip classify": lambda: classify(classifier, files, given.workers),
            "the extract job": lambda: extract(classifier, files, given.workers),
        }
        times = [[clock(row) for row in rows.values()] for _ in range(given.rounds)]
    seconds = dict(zip(rows, map(min, zip(*times, strict=True)), strict=True))
    print("| | images/s |\n|---|---:|")
    for name, each in seconds.items():
        print(f"| {name} | {given.number / each:.1f} |")
    ours, job = seconds.values()
    print(f"\nclassify takes {ours / job:.2f} times as long as the extract job")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("head", help="as for `vtclip classify`")
    parser.add_argument("--number", type=int, default=5000, help="images")
    parser.add_argument("--workers", type=int, default=1, help="processes that decode")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


def invent(folder: Path, number: int) -> list[Path]:
    """Write images of coarse noise."""
    generator, files = np.random.default_rng(0), []
    for each in range(number):
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        files.append(folder / f"{each:05}.jpg")
        coarse.resize(SIZE, Image.Resampling.BILINEAR).save(files[-1])
    return files


def classify(classifier: Classifier, files: list[Path], workers: int) -> None:
    for prediction in classifier.predict(files, workers=workers):
        assert not prediction.reason


def extract(classifier: Classifier, files: list[Path], workers: int) -> None:
    manifest = files[0].parent / "manifest.parquet"
    names = pl.DataFrame({"image": [file.name for file in files]})
    names.with_columns(
        label=pl.lit(0, pl.Int32), class_name=pl.lit(""), split=pl.lit("test")
    ).write_parquet(manifest)
    extract_test(
        classifier.backbone, manifest, manifest.parent, manifest.with_name("features.parquet"),
        batch_size=64, workers=workers,
    )  # fmt: skip


def clock(row: Callable[[], None]) -> float:
    started = time.perf_counter()
    row()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()

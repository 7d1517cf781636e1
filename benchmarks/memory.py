"""Peak memory of extraction, of writing and of reading, at 1 and 10 times the number of images.

Each figure is the largest resident size of a process of its own, so it counts Python and PyTorch
too. The last two write and stream a test set of ImageNet's size: 50,000 rows, 5 GB.
"""

import argparse
import resource
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import torch
from measuring import run_alone
from PIL import Image

from vtclip.features.store import FeatureSet, open_features_writer

TOKENS, DIM, BATCH = 50, 1024, 64
ARCHITECTURE = Path(__file__).parents[1] / "config" / "backbones" / "glyph-clip.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=500, help="images at 1 time")
    parser.add_argument("--test-set", type=int, default=50_000, help="rows of the large test set")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        JOBS[arguments.job](arguments.folder, arguments.images)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)  # Linux counts KiB
        return
    print("| job | images | peak GiB |")
    print("|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        once, tenfold = arguments.images, 10 * arguments.images
        runs = [("extract", once), ("extract", tenfold)]
        runs += [(job, n) for n in (once, tenfold, arguments.test_set) for job in ("write", "read")]
        for job, number in runs:
            peak = float(run_alone("--job", job, "--images", number, "--folder", folder))
            print(f"| {job} | {number:,} | {peak:.3f} |", flush=True)


def extract(folder: Path, number: int) -> None:
    """The extract job on one picture under many names, with the small CLIP."""
    from vtclip.backbones.backbone import load_backbone
    from vtclip.features.extract import extract_test

    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a.jpg")
    rows = {"image": ["a.jpg"] * number, "label": 0, "class_name": "", "split": "test"}
    pl.DataFrame(rows).write_parquet(folder / "manifest.parquet")
    backbone = load_backbone("glyph-clip", pretrained=None, architecture=ARCHITECTURE)
    extract_test(backbone, folder / "manifest.parquet", folder, folder / "extracted.parquet",
                 batch_size=BATCH, workers=1)  # fmt: skip


def write(folder: Path, number: int) -> None:
    """Write features of RN50's shape, a batch at a time."""
    spatial = torch.randn(BATCH, TOKENS, DIM).half()
    with open_features_writer(folder / "features.parquet", {}) as writer:
        for start in range(0, number, BATCH):
            size = min(BATCH, number - start)
            names = [f"{start + row}.jpg" for row in range(size)]
            rows = pl.DataFrame({"image": names, "label": 0, "split": "test", "view": 0})
            writer.write(rows, spatial[:size, 0], spatial[:size])


def read(folder: Path, number: int) -> None:
    """Stream the file that `write` has left."""
    features = FeatureSet([folder / "features.parquet"])
    assert sum(len(batch) for batch in features) == number


JOBS = {"extract": extract, "write": write, "read": read}

if __name__ == "__main__":
    main()

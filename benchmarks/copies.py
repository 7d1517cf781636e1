"""Copies of drawn images found among the test images of Caltech101's ten largest classes.

25 images each are re-compressed (quality 30 to 60), cropped (to 85 to 95 % of their sides) and
mirrored, and these copies are test images. The images drawn are those of 1, 2, 4, 8 and 16 shots
and three seeds. Before, all images were hashed; now few are, chosen by their features.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from labels import list_encoders, parse_arguments, read_largest, read_or_encode
from PIL import Image, ImageOps

from vtclip.data.duplicates import find_copies, find_near_duplicates, hash_images
from vtclip.data.shots import sample_shots

KINDS, PLANTED = ("re-compressed", "cropped", "mirrored"), 25


def main() -> None:
    given = parse_arguments()
    torch.set_num_threads(1)
    manifest = read_largest(given.split, given.skip)
    runs = [sample_shots(manifest, shots=k, seed=s) for k in (1, 2, 4, 8, 16) for s in (1, 2, 3)]
    drawn = pl.concat(runs)["image"].unique(maintain_order=True).to_list()
    tested = manifest.filter(split="test")["image"].to_list()
    generator = random.Random(given.seed)
    copied = generator.sample(range(len(drawn)), len(KINDS) * PLANTED)
    with tempfile.TemporaryDirectory() as folder:
        planted = [
            plant(given.images / drawn[row], Path(folder, f"{number}.jpg"), number, generator)
            for number, row in enumerate(copied)
        ]
        files = [*(given.images / name for name in (*drawn, *tested)), *planted]
        table = pl.DataFrame({"image": [str(file) for file in files]})
        print(f"{len(drawn)} images drawn, {len(tested)} test images", flush=True)
        print(f"| features | images hashed | seconds | {' | '.join(KINDS)} | others |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for title, make in list_encoders(given).items():
            features = read_or_encode(title, files, make, given.cache)
            for search in (search_all, search_few):
                started = time.perf_counter()
                pairs, hashed = search(table, len(drawn), features)
                seconds = time.perf_counter() - started
                found = {pair for pair in pairs if pair[0] < len(drawn) <= pair[1]}
                first = len(files) - len(planted)
                counts = count_found(found, copied, first)
                print(f"| {title} | {hashed} | {seconds:.1f} | {counts} |", flush=True)


def plant(source: Path, file: Path, number: int, generator: random.Random) -> Path:
    """Write a copy of an image, of the kind that is next."""
    picture, quality = Image.open(source).convert("RGB"), 90
    kind = KINDS[number % len(KINDS)]
    if kind == "re-compressed":
        quality = generator.randint(30, 60)
    elif kind == "mirrored":
        picture = ImageOps.mirror(picture)
    else:
        share = generator.uniform(0.85, 0.95)
        sides = [int(side * share) for side in picture.size]
        left, top = (
            generator.randint(0, whole - side)
            for whole, side in zip(picture.size, sides, strict=True)
        )
        picture = picture.crop((left, top, left + sides[0], top + sides[1]))
    picture.save(file, quality=quality)
    return file


def search_all(
    table: pl.DataFrame, first: int, features: np.ndarray
) -> tuple[list[tuple[int, ...]], int]:
    """Pairs by the features, or by the hashes of all images."""
    hashes = hash_images(table["image"].to_list(), "/")
    found = find_near_duplicates(table, features=features, hashes=hashes)
    return found.select("row", "other_row").rows(), table.height


def search_few(
    table: pl.DataFrame, first: int, features: np.ndarray
) -> tuple[list[tuple[int, ...]], int]:
    """Search as the rule `find_test_copies` does."""
    numbers = []

    def hash_some(images: Sequence[str]) -> np.ndarray:
        numbers.append(len(images))
        return hash_images(images, "/")

    found = find_copies(table, first, features=features, hash_some=hash_some)
    return found.select("row", "other_row").rows(), sum(numbers)


def count_found(found: set[tuple[int, ...]], copied: list[int], first: int) -> str:
    planted = [(row, first + number) for number, row in enumerate(copied)]
    counts = [len(found & {*planted[kind :: len(KINDS)]}) for kind in range(len(KINDS))]
    others = sum(other < first for _, other in found)
    return " | ".join([*(f"{count} of {PLANTED}" for count in counts), str(others)])


if __name__ == "__main__":
    main()

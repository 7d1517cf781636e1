"""The two embedded datasets, written as folders of PNG images with a split file in CoOp's form."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vtclip.data.build import build_folder
from vtclip.demo.glyphs import DIGIT_NAMES, HELD_OUT_FONTS, LETTERS, distort, draw_sheet
from vtclip.files import sha256_of, write_json

SIZES = {  # images a split; digits has 1,797 in all
    "digits": {"train": 500, "val": 200, "test": 1097},
    "letters": {"train": 624, "val": 208, "test": 780},
}


def draw_dataset(name: str, folder: str | Path, receipt: str | Path, *, seed: int) -> int:
    """Write an embedded dataset: PNG images, `split.json`, and at last the receipt.

    "digits" are scikit-learn's 1,797 handwritten digits, 8 x 8 pixels each, as they are.
    "letters" are synthetic: capitals in fonts that pre-training never saw, with noise and strokes
    of clutter over them.

    Args:
        name: "digits" or "letters".
        folder: where the images go; replaced if it is there.
        receipt: a JSON file that tells how many files were written.
        seed: of the drawing and of the split.

    Returns:
        The number of images.
    """

    def fill(new: Path) -> dict[str, str]:
        pixels, labels, names = _digits() if name == "digits" else _letters(seed)
        paths = list(_write_images(new, pixels, labels, names))
        write_json(new / "split.json", _split(paths, labels, names, SIZES[name], seed))
        return {path: sha256_of(new / path) for path in [*paths, "split.json"]}

    build_folder(folder, receipt, fill, asked=f"{name} {seed}")
    return sum(SIZES[name].values())


def _digits() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """pixels (M, 8, 8) uint8, labels (M,), class names."""
    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)  # values are 0 .. 16
    return pixels, digits.target, list(DIGIT_NAMES)


def _letters(seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """pixels (M, 32, 32) uint8, labels (M,), class names."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(LETTERS)).repeat_interleave(
        sum(SIZES["letters"].values()) // len(LETTERS)
    )
    fonts = torch.randint(len(HELD_OUT_FONTS), labels.shape, generator=generator)
    glyphs = draw_sheet(LETTERS, HELD_OUT_FONTS)[labels, fonts]  # (M, 48, 48)
    pixels = distort(glyphs, generator, zoom=(1.0, 1.8)) + _clutter(len(labels), generator)
    pixels = pixels + 0.2 * torch.randn(pixels.shape, generator=generator)
    return (pixels.clamp(0, 1) * 255).round().byte().numpy(), labels.numpy(), list(LETTERS)


def _clutter(number: int, generator: torch.Generator) -> torch.Tensor:
    """Pieces of strokes from other letters, (number, 32, 32), half as bright as the letter."""
    sheet = draw_sheet("LIVX", HELD_OUT_FONTS).flatten(0, 1)
    pieces = sheet[torch.randint(len(sheet), (number,), generator=generator)]
    return 0.5 * distort(pieces, generator, turn=3.1, zoom=(0.5, 0.9), shift=1.2)


def _write_images(
    folder: Path, pixels: np.ndarray, labels: Iterable[int], names: list[str]
) -> Iterator[str]:
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = f"images/{names[label]}/{number:04d}.png"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / path)
        yield path


def _split(
    paths: list[str], labels: np.ndarray, names: list[str], sizes: dict[str, int], seed: int
) -> dict[str, list[list[object]]]:
    """Three stratified parts, as CoOp's split files hold them."""
    everything = np.arange(len(paths))
    rest, test = train_test_split(
        everything, test_size=sizes["test"], stratify=labels, random_state=seed
    )
    train, val = train_test_split(
        rest, test_size=sizes["val"], stratify=labels[rest], random_state=seed
    )
    parts = {"train": train, "val": val, "test": test}
    return {
        split: [[paths[row], int(labels[row]), names[labels[row]]] for row in sorted(part)]
        for split, part in parts.items()
    }

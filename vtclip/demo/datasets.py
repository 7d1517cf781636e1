"""The embedded datasets, written as folders of PNG images with a split file in CoOp's form."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, rotate
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vtclip.demo.glyphs import DIGIT_NAMES, HELD_OUT_FONTS, LETTERS, distort, draw_sheet
from vtclip.files import build_folder, sha256_of, write_json

STRENGTHS = (1, 2, 3, 4, 5)


def _add_noise(pixels: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    return pixels + 0.1 * strength * generator.standard_normal(pixels.shape)


def _blur(pixels: np.ndarray, strength: int, _: np.random.Generator) -> np.ndarray:
    return gaussian_filter(pixels, 0.2 + 0.2 * strength, axes=(1, 2))


def _turn(pixels: np.ndarray, strength: int, generator: np.random.Generator) -> np.ndarray:
    """Each image to the left or to the right, by 12 degrees a strength."""
    turned = [rotate(pixels, sign * 12 * strength, axes=(1, 2), reshape=False) for sign in (1, -1)]
    left = generator.random(len(pixels)) < 0.5
    return np.where(left[:, None, None], *turned)


SHIFTS: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "noise": _add_noise,
    "blur": _blur,
    "rotation": _turn,
}


def shift_images(pixels: np.ndarray, shift: str, *, seed: int) -> np.ndarray:
    """The images in all strengths, the weakest first.

    Args:
        pixels: (M, H, W) uint8.
        shift: noise, blur or rotation.
        seed: of the noise, and of the sides to turn to.

    Returns:
        (5 M, H, W) uint8.
    """
    generator = np.random.default_rng(seed)
    shifted = [SHIFTS[shift](pixels / 255, strength, generator) for strength in STRENGTHS]
    return (np.concatenate(shifted).clip(0, 1) * 255).round().astype(np.uint8)


SHIFTED = {f"digits_{shift}": shift for shift in SHIFTS}
EACH = 200  # digits that are shifted, in each strength
SIZES = {  # images a split; digits has 1,797 in all
    "digits": {"train": 500, "val": 200, "test": 1097},
    "letters": {"train": 624, "val": 208, "test": 780},
    **{
        name: {"train": 0, "val": 0, "test": EACH * len(STRENGTHS)}
        for name in ("digits_printed", *SHIFTED)
    },
}


def draw_dataset(name: str, folder: str | Path, receipt: str | Path, *, seed: int) -> int:
    """Write an embedded dataset: PNG images, `split.json`, and at last the receipt.

    "digits" are scikit-learn's 1,797 handwritten digits, 8 x 8 pixels each, as they are.
    "letters" are synthetic: capitals in fonts that pre-training never saw, with noise and strokes
    of clutter over them. "digits_printed" are digits drawn in the same way, and "digits_noise",
    "digits_blur" and "digits_rotation" some of the digits' test images, in five strengths each:
    test sets of another domain.

    Args:
        name: of the dataset.
        folder: where the images go; replaced if it is there.
        receipt: a JSON file that tells how many files were written.
        seed: of the drawing and of the split.

    Returns:
        The number of images.
    """

    def fill(new: Path) -> dict[str, str]:
        pixels, labels, names = _draw(name, seed)
        paths = list(_write_images(new, pixels, labels, names))
        write_json(new / "split.json", _split(paths, labels, names, SIZES[name], seed))
        return {path: sha256_of(new / path) for path in [*paths, "split.json"]}

    build_folder(folder, receipt, fill, asked=f"{name} {seed}")
    return sum(SIZES[name].values())


def _draw(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """pixels (M, H, W) uint8, labels (M,), class names."""
    if name in SHIFTED:
        return _shifted_digits(SHIFTED[name], seed)
    if name == "digits":
        return _digits()
    if name == "digits_printed":
        return (*_glyphs("0123456789", sum(SIZES[name].values()), seed), list(DIGIT_NAMES))
    return (*_glyphs(LETTERS, sum(SIZES[name].values()), seed), list(LETTERS))


def _digits() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """pixels (M, 8, 8) uint8, labels (M,), class names."""
    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)  # values are 0 .. 16
    return pixels, digits.target, list(DIGIT_NAMES)


def _shifted_digits(shift: str, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The same, of test images alone: heads are trained on others."""
    pixels, labels, names = _digits()
    _, _, test = _parts(labels, SIZES["digits"], seed)
    _, chosen = train_test_split(test, test_size=EACH, stratify=labels[test], random_state=seed)
    shifted = shift_images(pixels[chosen], shift, seed=seed)
    return shifted, np.tile(labels[chosen], len(STRENGTHS)), names


def _glyphs(characters: str, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """pixels (M, 32, 32) uint8 and labels (M,) of as many images of each character."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(characters)).repeat_interleave(number // len(characters))
    fonts = torch.randint(len(HELD_OUT_FONTS), labels.shape, generator=generator)
    glyphs = draw_sheet(characters, HELD_OUT_FONTS)[labels, fonts]  # (M, 48, 48)
    pixels = distort(glyphs, generator, zoom=(1.0, 1.8)) + _clutter(len(labels), generator)
    pixels = pixels + 0.2 * torch.randn(pixels.shape, generator=generator)
    return (pixels.clamp(0, 1) * 255).round().byte().numpy(), labels.numpy()


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
    """Three stratified parts, or test images alone, as CoOp's split files hold them."""
    parts = zip(("train", "val", "test"), _parts(labels, sizes, seed), strict=True)
    return {
        split: [[paths[row], int(labels[row]), names[labels[row]]] for row in sorted(part)]
        for split, part in parts
    }


def _parts(
    labels: np.ndarray, sizes: dict[str, int], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of train, val and test."""
    everything = np.arange(len(labels))
    if not sizes["train"]:
        return everything[:0], everything[:0], everything
    rest, test = train_test_split(
        everything, test_size=sizes["test"], stratify=labels, random_state=seed
    )
    train, val = train_test_split(
        rest, test_size=sizes["val"], stratify=labels[rest], random_state=seed
    )
    return train, val, test

"""The embedded datasets, as folders of PNG images with a split file in CoOp's form, and glyphs."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, rotate
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from vtclip.files import build_folder, sha256_of, write_json

FONTS = Path(mpl.get_data_path()) / "fonts" / "ttf"
PRETRAINING_FONTS = (
    "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSans-Oblique.ttf", "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSerif-Italic.ttf", "STIXGeneral.ttf",
    "STIXGeneralBol.ttf", "STIXGeneralItalic.ttf", "cmr10.ttf", "cmss10.ttf",
)  # fmt: skip
# Never seen in pre-training: the letters dataset is drawn with these.
HELD_OUT_FONTS = (
    "DejaVuSans-BoldOblique.ttf", "DejaVuSansMono-Oblique.ttf", "DejaVuSerif-Bold.ttf",
    "STIXGeneralBolIta.ttf", "cmb10.ttf", "cmtt10.ttf",
)  # fmt: skip
DIGIT_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Character -> its name in captions.
NAMES = {str(value): f"digit {name}" for value, name in enumerate(DIGIT_NAMES)} | {
    letter: f"letter {letter}" for letter in LETTERS
}
SHIFTS = ("noise", "blur", "rotation")
STRENGTHS = (1, 2, 3, 4, 5)
SHIFTED = {f"digits_{shift}": shift for shift in SHIFTS}
PER_STRENGTH = 200  # digits that are shifted
SIZES = {  # images per split; digits has 1,797 in all
    "digits": {"train": 500, "val": 200, "test": 1097},
    "letters": {"train": 624, "val": 208, "test": 780},
    **{
        name: {"train": 0, "val": 0, "test": PER_STRENGTH * len(STRENGTHS)}
        for name in ("digits_printed", *SHIFTED)
    },
}


def draw_dataset(name: str, folder: str | Path, receipt: str | Path, *, seed: int) -> int:
    """Write an embedded dataset: PNG images, `split.json`, and at last the receipt.

    "digits" are scikit-learn's 1,797 handwritten digits, 8 x 8 pixels each, as they are.
    "letters" are synthetic: capitals in fonts that pre-training never saw, with noise and strokes
    of clutter over them. "digits_printed" are digits drawn in the same way, and "digits_noise",
    "digits_blur" and "digits_rotation" some of the digits' test images, in five strengths each:
    test sets of another domain. The seed decides the drawing and the split. Returns the number of
    images.
    """

    def fill(new: Path) -> dict[str, str]:
        pixels, labels, names = _draw(name, seed)
        paths = list(_write_images(new, pixels, labels, names))
        parts = zip(("train", "val", "test"), _split(labels, SIZES[name], seed), strict=True)
        split = {
            part: [[paths[row], int(labels[row]), names[labels[row]]] for row in sorted(rows)]
            for part, rows in parts
        }
        write_json(new / "split.json", split)
        return {path: sha256_of(new / path) for path in [*paths, "split.json"]}

    build_folder(folder, receipt, fill, sources=f"{name} {seed}")
    return sum(SIZES[name].values())


def shift_images(pixels: np.ndarray, shift: str, *, seed: int) -> np.ndarray:
    """Images (M, H, W) uint8 in all strengths of a shift, the weakest first: (5 M, H, W)."""
    generator = np.random.default_rng(seed)
    shifted = [_shift(pixels / 255, shift, strength, generator) for strength in STRENGTHS]
    return (np.concatenate(shifted).clip(0, 1) * 255).round().astype(np.uint8)


def _shift(
    pixels: np.ndarray, shift: str, strength: int, generator: np.random.Generator
) -> np.ndarray:
    if shift == "noise":
        return pixels + 0.1 * strength * generator.standard_normal(pixels.shape)
    if shift == "blur":
        return gaussian_filter(pixels, 0.2 + 0.2 * strength, axes=(1, 2))
    turned = [rotate(pixels, sign * 12 * strength, axes=(1, 2), reshape=False) for sign in (1, -1)]
    left = generator.random(len(pixels)) < 0.5
    return np.where(left[:, None, None], *turned)  # by 12 degrees per strength


def _draw(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Pixels (M, H, W) uint8, labels (M,), class names."""
    if name in ("letters", "digits_printed"):
        characters, names = (LETTERS, LETTERS) if name == "letters" else ("0123456789", DIGIT_NAMES)
        return (*_draw_characters(characters, sum(SIZES[name].values()), seed), list(names))
    digits = load_digits()
    pixels = (digits.images * (255 / 16)).round().astype(np.uint8)  # values are 0 .. 16
    labels = digits.target
    if name in SHIFTED:  # test images alone: heads are trained on others
        *_, test = _split(labels, SIZES["digits"], seed)
        _, chosen = _split_stratified(test, labels, PER_STRENGTH, seed)
        pixels = shift_images(pixels[chosen], SHIFTED[name], seed=seed)
        labels = np.tile(labels[chosen], len(STRENGTHS))
    return pixels, labels, list(DIGIT_NAMES)


def _draw_characters(characters: str, number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (M, 32, 32) uint8 and labels (M,), with as many images of each character."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(characters)).repeat_interleave(number // len(characters))
    fonts = torch.randint(len(HELD_OUT_FONTS), labels.shape, generator=generator)
    glyphs = draw_sheet(characters, HELD_OUT_FONTS)[labels, fonts]  # (M, 48, 48)
    pixels = distort(glyphs, generator, zoom=(1.0, 1.8)) + _draw_clutter(len(labels), generator)
    pixels = pixels + 0.2 * torch.randn(pixels.shape, generator=generator)
    return (pixels.clamp(0, 1) * 255).round().byte().numpy(), labels.numpy()


def _draw_clutter(number: int, generator: torch.Generator) -> torch.Tensor:
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


def _split(labels: np.ndarray, sizes: dict[str, int], seed: int) -> tuple[np.ndarray, ...]:
    """The rows of train, val and test: three stratified parts, or test images alone."""
    rows = np.arange(len(labels))
    if not sizes["train"]:
        return rows[:0], rows[:0], rows
    rest, test = _split_stratified(rows, labels, sizes["test"], seed)
    train, val = _split_stratified(rest, labels, sizes["val"], seed)
    return train, val, test


def _split_stratified(
    rows: np.ndarray, labels: np.ndarray, number: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """All but `number` of the rows, and these, with every class in both in proportion."""
    return train_test_split(rows, test_size=number, stratify=labels[rows], random_state=seed)


def _draw_glyph(character: str, font: str) -> np.ndarray:
    """Draw one character, white on black and centred: (48, 48) float32 in 0 .. 1."""
    face = ImageFont.truetype(str(FONTS / font), 34)
    image = Image.new("L", (48, 48), 0)
    ImageDraw.Draw(image).text((24, 24), character, fill=255, font=face, anchor="mm")
    ink = np.asarray(image, dtype=np.float32) / 255
    shift = [24 - int(places.mean().round()) for places in np.nonzero(ink)]
    return np.roll(ink, shift, axis=(0, 1))


def draw_sheet(characters: Iterable[str], fonts: tuple[str, ...]) -> torch.Tensor:
    """Every character in every font: (characters, fonts, 48, 48) float32 in 0 .. 1."""
    rows = [np.stack([_draw_glyph(character, font) for font in fonts]) for character in characters]
    return torch.from_numpy(np.stack(rows))


def distort(
    glyphs: torch.Tensor,
    generator: torch.Generator,
    *,
    turn: float = 0.25,  # largest rotation, in radians
    zoom: tuple[float, float] = (1.2, 2.2),  # smallest and largest scale of width and of height
    shift: float = 0.15,  # largest move, in half image widths
) -> torch.Tensor:
    """Turn, shear, stretch and move glyphs (B, H, W) at random, as a hand would: (B, 32, 32)."""
    batch = len(glyphs)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(batch).uniform_(low, high, generator=generator)

    angle, slant = uniform(-turn, turn), uniform(-0.25, 0.25)
    width, height = uniform(*zoom), uniform(*zoom)
    cos, sin = angle.cos(), angle.sin()
    top = torch.stack([cos / width, (slant * cos - sin) / height, uniform(-shift, shift)], dim=1)
    bottom = torch.stack([sin / width, (slant * sin + cos) / height, uniform(-shift, shift)], dim=1)
    affine = torch.stack([top, bottom], dim=1)  # (B, 2, 3)
    grid = F.affine_grid(affine, [batch, 1, 32, 32], align_corners=False)
    return F.grid_sample(glyphs[:, None], grid, align_corners=False)[:, 0]

"""Characters in the fonts that matplotlib ships, as images with a caption each."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
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


def draw_glyph(character: str, font: str, *, size: int = 48) -> np.ndarray:
    """Draw one character, white on black and centred: (size, size) float32 in 0 .. 1."""
    face = ImageFont.truetype(str(FONTS / font), int(size * 0.72))
    image = Image.new("L", (size, size), 0)
    ImageDraw.Draw(image).text((size / 2, size / 2), character, fill=255, font=face, anchor="mm")
    ink = np.asarray(image, dtype=np.float32) / 255
    rows, columns = np.nonzero(ink)
    shift = (size // 2 - int(rows.mean().round()), size // 2 - int(columns.mean().round()))
    return np.roll(ink, shift, axis=(0, 1))


def draw_sheet(characters: Iterable[str], fonts: tuple[str, ...]) -> torch.Tensor:
    """Every character in every font: (characters, fonts, 48, 48) float32 in 0 .. 1."""
    rows = [np.stack([draw_glyph(character, font) for font in fonts]) for character in characters]
    return torch.from_numpy(np.stack(rows))


def distort(
    glyphs: torch.Tensor,
    generator: torch.Generator,
    *,
    turn: float = 0.25,
    shear: float = 0.25,
    zoom: tuple[float, float] = (1.2, 2.2),
    shift: float = 0.15,
    size: int = 32,
) -> torch.Tensor:
    """Turn, shear, stretch and move each glyph at random, as a hand would.

    Args:
        glyphs: (B, H, W) float32.
        generator: of the random numbers.
        turn: largest rotation, in radians.
        shear: largest horizontal shear, in glyph widths per height.
        zoom: smallest and largest scale of the width and of the height.
        shift: largest move, in half image widths.
        size: height and width of the result, in pixels.

    Returns:
        (B, size, size) float32.
    """
    batch = len(glyphs)

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(batch).uniform_(low, high, generator=generator)

    angle, slant = uniform(-turn, turn), uniform(-shear, shear)
    width, height = uniform(*zoom), uniform(*zoom)
    cos, sin = angle.cos(), angle.sin()
    top = torch.stack([cos / width, (slant * cos - sin) / height, uniform(-shift, shift)], dim=1)
    bottom = torch.stack([sin / width, (slant * sin + cos) / height, uniform(-shift, shift)], dim=1)
    affine = torch.stack([top, bottom], dim=1)  # (B, 2, 3)
    grid = F.affine_grid(affine, [batch, 1, size, size], align_corners=False)
    return F.grid_sample(glyphs[:, None], grid, align_corners=False)[:, 0]

"""Decoding images, by content and whatever their suffix says.

What comes out is always 8-bit RGB, as CLIP's own loaders make it: grey and CMYK are converted,
transparency is dropped, of an animation the first frame is taken, an EXIF rotation is ignored.
Only for 16-bit images this differs: they are scaled to 8 bits, where a plain conversion would turn
nearly everything white.
"""

import warnings
from pathlib import Path

from PIL import Image, UnidentifiedImageError


class PictureError(ValueError):
    """An image that cannot be read; the message says why."""


def open_picture(path: str | Path) -> Image.Image:
    """Decode an image file.

    Args:
        path: the file.

    Returns:
        The picture, in mode RGB.

    Raises:
        PictureError: the file is missing, empty, cut off, or no image.
    """
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("ignore")  # of palettes with transparency, which is dropped
            return _to_rgb(picture)
    except FileNotFoundError:
        raise PictureError("there is no such file") from None
    except UnidentifiedImageError:
        empty = Path(path).stat().st_size == 0
        raise PictureError("the file is empty" if empty else "it is no image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(str(error) or type(error).__name__) from None


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits, or 32 that hold 16
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return picture.convert("RGB")

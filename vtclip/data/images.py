"""Decode images to 8-bit RGB, by content, whatever their suffix.

As in CLIP's loaders, grey and CMYK are converted, transparency is dropped, the first frame of an
animation is used, and an EXIF rotation is ignored. Pictures of more than 8 bits, which a plain
conversion would turn nearly all white or black, are scaled: 16 bits by their range; floats, 32 bits
and negative numbers, which have no such range, by the smallest and the largest pixel.
"""

import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import SAMPLEFORMAT, TiffImageFile

# Data, films and drawings that Pillow recognises but does not decode itself.
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PCD", "WMF"}


class PictureError(ValueError):
    """An image that cannot be read; the message says why."""


def open_picture(path: str | Path) -> Image.Image:
    """Decode an image file to mode RGB."""
    try:
        with warnings.catch_warnings(), Image.open(path) as picture:
            warnings.simplefilter("ignore")  # of palettes with transparency, which is dropped
            return _to_rgb(picture)
    except FileNotFoundError:
        raise PictureError("there is no such file") from None
    except UnidentifiedImageError:
        empty = Path(path).stat().st_size == 0
        raise PictureError(
            "the file is empty" if empty else "Pillow cannot read it as an image"
        ) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(str(error) or type(error).__name__) from None


def is_picture(path: str | Path) -> bool:
    """Check that a file has a picture's suffix, or begins as one of Pillow's formats.

    A damaged picture with a known suffix counts: decoding it gives an error that names it.
    """
    if has_suffix(path):
        return True
    known = [name for name, (_, knows) in Image.OPEN.items() if knows and name not in NO_PICTURES]
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=known):
            return True
    except Image.DecompressionBombError:
        return True
    except (OSError, SyntaxError, ValueError):
        return False


def has_suffix(path: str | Path) -> bool:
    """Check that a file has the suffix of a picture."""
    return Path(path).suffix.lower() in _suffixes()


@cache
def _suffixes() -> frozenset[str]:
    formats = Image.registered_extensions().items()  # this also loads all of Pillow's formats
    return frozenset(
        suffix for suffix, name in formats if name in Image.OPEN and name not in NO_PICTURES
    )


def _to_rgb(picture: Image.Image) -> Image.Image:
    # Pillow gives the 16 bits of PGM, and old versions those of PNG, as 32.
    if picture.mode.startswith("I;16") or (
        picture.mode == "I" and picture.format in ("PNG", "PPM")
    ):
        picture = picture.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    elif picture.mode in ("I", "F"):
        picture = _scale(picture)
    return picture.convert("RGB")


def _scale(picture: Image.Image) -> Image.Image:
    """Scale pixels so that the smallest becomes black and the largest white."""
    pixels = np.asarray(picture)
    if not np.isfinite(pixels).all():
        raise PictureError("it contains pixels that are NaN or infinite")
    if (
        isinstance(picture, TiffImageFile)
        and picture.mode == "I"
        and picture.tag_v2.get(SAMPLEFORMAT, (1,)) == (1,)  # unsigned
    ):
        pixels = pixels.view(np.uint32)  # Pillow reads them as signed
    low, high = float(pixels.min()), float(pixels.max())
    scaled = (pixels.astype(np.float64) - low) * (255 / ((high - low) or 1.0))
    return Image.fromarray(scaled.round().astype(np.uint8))

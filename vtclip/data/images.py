"""Decode images to 8-bit RGB, by content, whatever their suffix.

As in CLIP's loaders, grey and CMYK are converted, transparency is dropped, and the first frame of
an animation is used. Pictures of more than 8 bits, which a plain conversion would turn nearly all
white or black, are scaled: 16 bits by their range; floats, 32 bits and negative numbers, which have
no such range, by the smallest and the largest pixel. A phone stores an upright photograph turned,
and its EXIF orientation says how: a dataset's `exif` decides if pixels are turned back.
"""

import logging
import struct
import warnings
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import SAMPLEFORMAT, TiffImageFile

from vtclip.config.dataset import Exif

logger = logging.getLogger(__name__)

# Data, films and drawings that Pillow recognises but does not decode itself.
NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "PCD", "WMF"}

# EXIF orientation -> what turns the pixels upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(ValueError):
    """An image that cannot be read; the message says why."""


def without_size_warnings() -> AbstractContextManager[None]:
    """A context in which Pillow, as it cuts a picture, does not warn of its size.

    The warning has no name; `open_picture` has given it with one.
    """
    return warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)


def open_picture(path: str | Path, *, exif: Exif = "ignore") -> Image.Image:
    """Decode an image file to mode RGB; with `exif` "upright" turned as its orientation says."""
    try:
        # Of palettes with transparency, which is dropped, and of sizes.
        with warnings.catch_warnings(action="ignore"), Image.open(path) as picture:
            width, height = picture.size
            # Pillow warns of such a size, without a name, and refuses one of twice as much.
            if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
                logger.warning("%s: %d x %d pixels take much memory.", path, width, height)
            pixels = _to_rgb(picture)
            turn = UPRIGHT.get(_orientation(picture)) if exif == "upright" else None
            return pixels if turn is None else pixels.transpose(turn)
    except FileNotFoundError:
        raise PictureError("there is no such file") from None
    except UnidentifiedImageError:
        is_empty = Path(path).stat().st_size == 0
        reason = "the file is empty" if is_empty else "Pillow cannot read it as an image"
        raise PictureError(reason) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(str(error) or type(error).__name__) from None
    except MemoryError:
        raise PictureError("there is too little memory for its pixels") from None


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
    formats = Image.registered_extensions()  # this also loads all of Pillow's formats, once
    name = formats.get(Path(path).suffix.lower())
    return name in Image.OPEN and name not in NO_PICTURES


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation of a picture that is loaded; 1, upright, where there is none."""
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, SyntaxError, ValueError, TypeError, struct.error):  # damaged EXIF data
        return 1


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

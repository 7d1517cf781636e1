"""Pictures as text that a page holds: data addresses, of few bytes."""

import base64
import io
from pathlib import Path

from PIL import Image

from vtclip.features.pictures import PictureError, open_picture

SIDES = (1200, 900, 700, 500, 350, 240, 160, 96, 64)  # pixels of the longer side that are tried


def embed_svg(path: str | Path) -> str:
    """A figure, as it is."""
    return _address("image/svg+xml", Path(path).read_bytes())


def embed_picture(path: str | Path, *, limit: int, side: int = SIDES[0]) -> str | None:
    """A picture as JPEG.

    Args:
        path: the image file.
        limit: bytes; the picture is made smaller until it has as few, or is 64 pixels large.
        side: pixels of the longer side at most.

    Returns:
        None for a file that cannot be read: a page without it says as much as before.
    """
    try:
        picture = open_picture(path)
    except PictureError:
        return None
    content = b""
    for size in (size for size in SIDES if size <= side):
        picture.thumbnail((size, size), Image.Resampling.LANCZOS)
        written = io.BytesIO()
        picture.save(written, "JPEG", quality=82)
        content = written.getvalue()
        if len(content) <= limit:
            break
    return _address("image/jpeg", content)


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"

"""Import open_clip through the package first, which is faster than importing it as it is."""

import vtclip.backbones.lazy_open_clip  # noqa: F401

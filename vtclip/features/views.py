"""The cached views of an image: the test transform, and random crops."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from open_clip.transform import CenterCropOrPad, ResizeKeepRatio
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, Normalize, RandomResizedCrop, Resize
from torchvision.transforms.v2 import functional

from vtclip.backbones.backbone import CutEnds

# The steps of open_clip's transforms that choose the part of an image and its size.
PLACING = (CutEnds, Resize, ResizeKeepRatio, CenterCrop, CenterCropOrPad)
KEPT = 2  # times the image size: the shorter side of a picture that is kept or passed on
Pixels = TypeVar("Pixels", Image.Image, torch.Tensor)


class Crop(NamedTuple):
    """The part of a picture that a random view shows, in pixels."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


class Views:
    """Make view 0 (the test transform) and views 1, 2, ... (random crops) of an image.

    A view is 8-bit pixels: a quarter of the floats' bytes to pass on. `normalize` then makes the
    numbers that the test transform gives, bit for bit, on whatever device the pixels are.
    """

    def __init__(
        self,
        preprocess: Compose,  # the backbone's test transform
        image_size: int,  # height and width of a view, in pixels
        *,
        # Of the random views, which not all need:
        scale: tuple[float, float] = (1.0, 1.0),  # smallest and largest share of the image's area
        flip: bool = False,  # mirror half of them
        seed: int = 0,  # decides the pixels, together with the image's name and the view's number
    ) -> None:
        self.image_size = image_size
        steps = preprocess.transforms
        self.test = Compose([step for step in steps if isinstance(step, PLACING)])
        resize = next(step for step in steps if hasattr(step, "interpolation"))
        self.random = RandomResizedCrop(image_size, scale, interpolation=resize.interpolation)
        self.flip = flip
        last = next(step for step in steps if isinstance(step, Normalize))
        self.channels = torch.tensor(last.mean), torch.tensor(last.std)
        self.seed = seed

    def __call__(self, picture: Image.Image, image: str, view: int) -> torch.Tensor:
        """The pixels (H, W, 3) uint8 of one view; `image` is the name in the manifest."""
        if view == 0:
            return _to_tensor(self.test(picture))
        return _to_tensor(self.cut(picture, self.draw(picture, image, view)))

    def draw(self, picture: Image.Image, image: str, view: int) -> Crop:
        """Draw what a random view shows of a picture."""
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            # `torch.manual_seed` would also record the call for GPUs, with its whole stack.
            torch.default_generator.manual_seed(seed_of(image, view, self.seed))
            top, left, h, w = self.random.get_params(picture, self.random.scale, self.random.ratio)
            return Crop(top, left, h, w, self.flip and bool(torch.rand(1) < 0.5))

    def cut(self, picture: Pixels, crop: Crop) -> Pixels:
        """Cut a random view out of a picture, or of its pixels (3, h, w) on any device."""
        *box, mirrored = crop
        size, interpolation = [self.image_size] * 2, self.random.interpolation
        view = functional.resized_crop(picture, *box, size, interpolation, antialias=True)
        return functional.horizontal_flip(view) if mirrored else view

    def leave(
        self, picture: Image.Image, image: str, views: Sequence[int]
    ) -> tuple[torch.Tensor, list[Crop]]:
        """The pixels (h, w, 3) of a picture, shrunk, and what some random views show of them."""
        small, crops = self.shrink(picture), []
        (width, height), (wide, high) = small.size, picture.size
        for view in views:
            top, left, h, w, mirrored = self.draw(picture, image, view)
            bottom, right = -(-(top + h) * height // high), -(-(left + w) * width // wide)
            top, left = top * height // high, left * width // wide
            crops.append(Crop(top, left, bottom - top, right - left, mirrored))
        return _to_tensor(small), crops

    def shrink(self, picture: Image.Image) -> Image.Image:
        """The picture with a shorter side of `KEPT` times the image size at most."""
        factor = KEPT * self.image_size / min(picture.size)
        if factor >= 1:
            return picture
        width, height = (round(factor * side) for side in picture.size)
        return picture.resize((width, height), Image.Resampling.BICUBIC)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Convert views (B, H, W, 3) uint8 to (B, 3, H, W) float32, with the channels last."""
        rows = pixels.flatten(2)  # (B, H, W * 3): operations on long rows are fast
        mean, std = (each.repeat(pixels.shape[2]).to(rows.device) for each in self.channels)
        # A GPU would multiply by 1 / 255 in place of dividing by a number that is no tensor.
        floats = rows / torch.tensor(255.0, device=rows.device)
        return floats.sub_(mean).div_(std).unflatten(2, (-1, 3)).movedim(-1, 1)


def _to_tensor(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture))


def seed_of(image: str, view: int, seed: int) -> int:
    """Seed of PyTorch's generator for one random view."""
    key = hashlib.sha256(f"{image}\0{view}\0{seed}".encode()).digest()
    return int.from_bytes(key[:8], "little") >> 1

"""The cached views of an image: the test transform, and random crops."""

import hashlib

import torch
from open_clip.transform import CenterCropOrPad, ResizeKeepRatio
from PIL import Image
from torchvision.transforms import (
    CenterCrop,
    Compose,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
)

from vtclip.backbones.backbone import CutEnds

# The steps of open_clip's transforms that choose the part of an image and its size.
PLACING = (CutEnds, Resize, ResizeKeepRatio, CenterCrop, CenterCropOrPad)


class Views:
    """Make view 0 (the test transform) and views 1, 2, ... (random crops) of an image."""

    def __init__(
        self,
        preprocess: Compose,  # the backbone's test transform
        image_size: int,  # height and width of a view, in pixels
        *,
        scale: tuple[float, float],  # smallest and largest share of the image's area in a crop
        flip: bool,  # mirror half of the random views
        seed: int,  # decides the pixels, together with the image's name and the view's number
    ) -> None:
        self.image_size = image_size
        self.test = preprocess
        # Random views replace the steps that choose a part of the image, and keep the others.
        resize = next(step for step in preprocess.transforms if hasattr(step, "interpolation"))
        finish = [step for step in preprocess.transforms if not isinstance(step, PLACING)]
        crop = RandomResizedCrop(image_size, scale=scale, interpolation=resize.interpolation)
        self.random = Compose([crop, *([RandomHorizontalFlip()] if flip else []), *finish])
        self.seed = seed

    def __call__(self, picture: Image.Image, image: str, view: int) -> torch.Tensor:
        """The pixels (3, H, W) float32 of one view; `image` is the name in the manifest."""
        if view == 0:
            return self.test(picture)
        with torch.random.fork_rng(devices=[]):  # torchvision draws from the global generator
            # `torch.manual_seed` would also record the call for GPUs, with its whole stack.
            torch.default_generator.manual_seed(seed_of(image, view, self.seed))
            return self.random(picture)


def seed_of(image: str, view: int, seed: int) -> int:
    """Seed of PyTorch's generator for one random view."""
    key = hashlib.sha256(f"{image}\0{view}\0{seed}".encode()).digest()
    return int.from_bytes(key[:8], "little") >> 1

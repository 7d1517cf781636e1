"""Digits under noise, blur and rotation, each in five strengths: test sets of another domain."""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter, rotate

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

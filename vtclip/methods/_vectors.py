"""What methods share whose head is one vector a class, compared with the image by its angle."""

from __future__ import annotations

from collections.abc import Callable

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods.base import Images, Recipe, Tensor, Texts, unit

UPDATE = 30  # operations on each weight in a step: the norms, their way back, Adam's


def cosine_classifier(vectors: Tensor, texts: Texts) -> Callable[[Images], Tensor]:
    """logits = scale * cos(pooled, vectors), for vectors (K, D) of any length."""
    classes = Texts(unit(vectors), texts.logit_scale)
    return lambda images: classes.logits(images.pooled)  # (B, K)


def cosine_head_work(plain: Work, size: Size, recipe: Recipe) -> Work:
    """What training the vectors takes: three passes for each image of a step, and the update."""
    weights = size.classes * size.shape.dim
    steps, batch = recipe.steps(size), recipe.batch(size)
    return plain._replace(
        flops=steps * weights * (6 * batch + UPDATE),
        # The vectors, their unit ones, both gradients and Adam's state; a batch's logits.
        part_bytes=(8 * weights + 4 * batch * size.classes) * SINGLE,
        head_bytes=weights * SINGLE,
    )

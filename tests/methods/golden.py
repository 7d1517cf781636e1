"""Comparisons that the tests of several methods share."""

from dataclasses import replace

from torch import Tensor

from vtclip.methods.base import Images, Method, Samples, Task, Texts


def assert_equal_to_size(found: Tensor, expected: Tensor, share: float = 1e-5) -> None:
    """Every number within a share of the largest."""
    assert found.shape == expected.shape
    furthest, size = (found.double() - expected).abs().max().item(), expected.abs().max().item()
    assert furthest <= share * size, f"{furthest:.3g} apart, of {size:.3g}"


def doubled(task: Task) -> Task:
    """The task in double precision."""

    def shots(given: Samples) -> Samples:
        return replace(given, pooled=given.pooled.double(), spatial=None)

    texts = Texts(task.texts.features.double(), task.texts.logit_scale)
    return replace(task, texts=texts, train=shots(task.train), val=shots(task.val))


def classify(method: Method, task: Task, pooled: Tensor) -> Tensor:
    """The logits of some images (B, D), with the head that the method starts from."""
    return method.classifier(method.initial_head(task), task.texts)(Images(pooled, None))

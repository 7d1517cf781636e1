"""Tip-Adapter: the shots as a cache (Zhang et al., ECCV 2022, arXiv 2207.09519)."""

from collections.abc import Iterator
from itertools import product
from typing import Annotated

from pydantic import Field

from vtclip.cost import BATCH, DOUBLE, SINGLE, Size, Work
from vtclip.methods.base import Classifier, Head, Images, Method, Task, Tensor, Texts, choose, unit
from vtclip.settings import Settings

Alphas = Annotated[
    list[Annotated[float, Field(ge=0)]],
    Field(
        min_length=1,
        description="weights of the cache to choose from on the validation shots, 0 or more",
        examples=[[0.5, 1.0, 2.0]],
    ),
]
Betas = Annotated[
    list[Annotated[float, Field(gt=0)]],
    Field(
        min_length=1,
        description="sharpnesses of the cache to choose from on the validation shots, above 0",
        examples=[[1.0, 5.5]],
    ),
]
# The authors' grids begin at 0.1 and end, by dataset, at up to 50 for both, with 4,000 pairs. These
# 81 pairs span them all.
ALPHAS: list[float] = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
BETAS: list[float] = [0.1, 0.5, 1.0, 2.0, 3.5, 5.5, 10.0, 20.0, 50.0]


class TipAdapterSettings(Settings):
    """Settings of Tip-Adapter."""

    alpha: Alphas = ALPHAS
    beta: Betas = BETAS


class TipAdapter(Method):
    """Zero-shot logits + alpha * sum over the shots of exp(-beta (1 - f . key)) at its class.

    A key is the mean of a shot's pooled features over its views, of unit length.
    """

    title = "Tip-Adapter"
    settings_type = TipAdapterSettings
    settings: TipAdapterSettings
    reads_views = True
    tunes = True

    def initial_head(self, task: Task) -> Head:
        """The cache, with alpha and beta chosen on the validation shots."""
        assert task.train is not None
        return self.choose_weights(unit(task.train.pooled.mean(dim=1)), task)

    def choose_weights(self, keys: Tensor, task: Task) -> Head:
        """The cache with the pair that is best on the validation shots, of equals the smallest."""
        import torch

        assert task.train is not None
        pairs = list(product(sorted(self.settings.beta), sorted(self.settings.alpha)))
        beta, alpha = choose(pairs, self._try(keys, task), task.val)
        weights = torch.tensor((alpha, beta), device=keys.device)
        return {"keys": keys, "labels": task.train.labels, "alpha": weights[0], "beta": weights[1]}

    def _try(self, keys: Tensor, task: Task) -> Iterator[Tensor]:
        """The logits of the validation shots with each pair."""
        assert task.train is not None
        assert task.val is not None
        pooled, classes = task.val.pooled[:, 0], len(task.texts.features)
        zero_shot = task.texts.logits(pooled)
        for beta in sorted(self.settings.beta):
            cached = cache_logits(unit(pooled), keys, task.train.labels, beta, classes)
            for alpha in sorted(self.settings.alpha):
                yield zero_shot + alpha * cached

    def settings_without_choice(self, shots: int) -> TipAdapterSettings:
        """1 for both."""
        return self.settings.model_copy(update={"alpha": [1.0], "beta": [1.0]})

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The texts and the cache."""

        def logits(images: Images) -> Tensor:
            classes = len(texts.features)
            cached = cache_logits(
                unit(images.pooled), head["keys"], head["labels"], head["beta"], classes
            )
            return texts.logits(images.pooled) + head["alpha"] * cached  # (B, K)

        return logits

    def work(self, size: Size) -> Work:
        """A lookup in the cache per validation shot and beta, and one per test image."""
        classes, dim, keys = size.classes, size.shape.dim, size.images
        lookup = 2 * keys * (dim + classes)
        labels = keys * classes * (DOUBLE + SINGLE)  # one-hot, as whole numbers and as floats
        plain = super().work(size)
        return plain._replace(
            flops=len(self.settings.beta) * size.val_images * lookup,
            part_bytes=labels + 2 * size.val_images * keys * SINGLE,
            predict_flops=lookup + 2 * classes * dim,
            head_bytes=keys * (dim * SINGLE + DOUBLE),
            batch_bytes=labels + 2 * BATCH * keys * SINGLE,
        )


def cache_logits(
    pooled: Tensor,  # (B, D) of unit length
    keys: Tensor,  # (M, D) of unit length
    labels: Tensor,  # (M,) int64
    beta: Tensor | float,
    classes: int,
) -> Tensor:
    """exp(-beta (1 - cosine)), summed over the keys of each class: (B, K)."""
    from torch.nn.functional import one_hot

    affinity = (-beta * (1 - pooled @ keys.T)).exp()  # (B, M)
    return affinity @ one_hot(labels, classes).to(affinity.dtype)

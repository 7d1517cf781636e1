"""Tip-Adapter: the shots as a cache (Zhang et al., ECCV 2022, arXiv 2207.09519).

The cache, and the search for its weight and sharpness, are APE's too.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Annotated

from pydantic import Field

from vtclip.cost import BATCH, DOUBLE, SINGLE, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, Head, Images, Method, Task, Tensor, Texts, unit
from vtclip.settings import Settings

LOGITS = 1 << 22  # of validation shots at a time

Alphas = Annotated[
    base.NonNegatives,
    Field(
        description="weights of the cache to choose from on the validation shots, 0 or more",
        examples=[[0.5, 1.0, 2.0]],
    ),
]
Betas = Annotated[
    base.Positives,
    Field(
        description="sharpnesses of the cache to choose from on the validation shots, above 0",
        examples=[[1.0, 5.5]],
    ),
]


class TipAdapterSettings(Settings):
    """Settings of Tip-Adapter.

    The authors' grids begin at 0.1 and end, by dataset, at up to 50 for both, with 4,000 pairs.
    These 81 pairs span them all.
    """

    alpha: Alphas = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0]
    beta: Betas = [0.1, 0.5, 1.0, 2.0, 3.5, 5.5, 10.0, 20.0, 50.0]


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
        return self.choose_weights(make_keys(task), task)

    def choose_weights(self, keys: Tensor, task: Task) -> Head:
        """The cache with the pair that is best on the validation shots, of equals the smallest."""
        texts, labels = task.texts.features, task.samples.labels
        values = [soft_labels(labels, keys.new_ones(len(keys)), texts)]
        alphas, betas = self.settings.alpha, self.settings.beta
        beta, alpha, _ = search(
            task, texts, values, lambda pooled: pooled @ keys.T, alphas=alphas, betas=betas
        )
        chosen = {"alpha": keys.new_tensor(alpha), "beta": keys.new_tensor(beta)}
        return {"keys": keys, "labels": labels} | chosen

    def settings_without_choice(self, shots: int) -> TipAdapterSettings:
        """1 for both."""
        return self.settings.model_copy(update={"alpha": [1.0], "beta": [1.0]})

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The texts and the cache."""

        def logits(images: Images) -> Tensor:
            keys = head["keys"]
            values = soft_labels(head["labels"], keys.new_ones(len(keys)), texts.features)
            cached = look_up(unit(images.pooled) @ keys.T, values, head["beta"])
            return texts.logits(images.pooled) + head["alpha"] * cached  # (B, K)

        return logits

    def work(self, size: Size) -> Work:
        """A lookup in the cache per validation shot and beta, and one per test image."""
        alphas, betas = len(self.settings.alpha), len(self.settings.beta)
        return cache_work(super().work(size), size, alphas=alphas, betas=betas)


def make_keys(task: Task) -> Tensor:
    """A key (M, D) for each shot: the mean of its views, of unit length."""
    return unit(task.samples.pooled.mean(dim=1))


def soft_labels(labels: Tensor, weights: Tensor, texts: Tensor) -> Tensor:
    """The weight of each key at its class, and 0 at the others: (M, K)."""
    from torch.nn.functional import one_hot

    return one_hot(labels, len(texts)).to(weights.dtype) * weights[:, None]


def look_up(cosines: Tensor, values: Tensor, beta: Tensor | float) -> Tensor:
    """exp(-beta (1 - cosine)) of each key, times its values: (B, M), (M, K) -> (B, K)."""
    return (-beta * (1 - cosines)).exp() @ values


def search(
    task: Task,
    texts: Tensor,  # (K, D)
    values: Sequence[Tensor],  # G of (M, K)
    compare: Callable[[Tensor], Tensor],  # unit images (B, D) -> cosines with the keys (B, M)
    *,
    alphas: Sequence[float],
    betas: Sequence[float],
) -> tuple[float, float, int]:
    """Beta, alpha and the place of the values that are best on the validation shots.

    Of equally many hits the likeliest, and of equals the smallest beta, then alpha, as `choose`.
    """
    import torch

    betas, alphas = sorted(betas), sorted(alphas)
    tried = list(product(betas, alphas, range(len(values))))
    if len(tried) == 1:
        return tried[0]
    best = task.choices.repeat()
    if best is None:
        pooled, labels = unit(task.val_samples.pooled[:, 0]), task.val_samples.labels
        zero_shot, cosines = task.texts.logit_scale * pooled @ texts.T, compare(pooled)

        def score(value: Tensor, beta: float) -> Tensor:
            return _score_all(zero_shot, look_up(cosines, value, beta), alphas, labels)

        scores = [torch.stack([score(value, beta) for value in values], dim=1) for beta in betas]
        hits, likelihood = torch.stack(scores).unbind(dim=-1)  # (betas, alphas, G)
        worse = (hits < hits.max()) | likelihood.isnan()
        best = task.choices.keep(int(likelihood.masked_fill(worse, -torch.inf).argmax()))
    return tried[int(best)]


def _score_all(
    zero_shot: Tensor, cached: Tensor, alphas: Sequence[float], labels: Tensor
) -> Tensor:
    """Hits, and the mean log-likelihood of the labels, with each alpha: (A, 2)."""
    import torch

    found = []
    for part in zero_shot.new_tensor(alphas).split(max(1, LOGITS // max(1, zero_shot.numel()))):
        logits = zero_shot + part[:, None, None] * cached  # (A, B, K)
        hits = (logits.argmax(dim=2) == labels).sum(dim=1)
        own = labels.expand(len(part), -1)[:, :, None]
        likelihood = logits.log_softmax(dim=2).gather(2, own).mean(dim=(1, 2))
        found.append(torch.stack([hits.to(likelihood.dtype), likelihood], dim=1))
    return torch.cat(found)


def cache_work(plain: Work, size: Size, *, alphas: int, betas: int, gammas: int = 1) -> Work:
    """The work of a search, and of a lookup per test image."""
    classes, dim, keys, val = size.classes, size.shape.dim, size.images, size.val_images
    lookup = 2 * keys * (dim + classes)
    scoring = 10 * classes * alphas
    values = keys * classes * (DOUBLE + gammas * SINGLE)  # one-hot as whole numbers, then floats
    return plain._replace(
        flops=betas * gammas * val * (lookup + scoring),
        part_bytes=values + (3 * val * keys + 4 * max(LOGITS, val * classes)) * SINGLE,
        predict_flops=lookup + 2 * classes * dim,
        head_bytes=keys * (dim * SINGLE + SINGLE + DOUBLE),
        batch_bytes=keys * classes * (DOUBLE + SINGLE) + 2 * BATCH * keys * SINGLE,
    )

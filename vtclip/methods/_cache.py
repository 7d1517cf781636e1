"""A cache of the shots, and the search for its weight and sharpness: Tip-Adapter's and APE's."""

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from vtclip.cost import BATCH, DOUBLE, SINGLE, Size, Work
from vtclip.methods.base import NonNegatives, Positives, Task, Tensor, unit

LOGITS = 1 << 22  # of validation shots at a time

Alphas = Annotated[
    NonNegatives,
    Field(
        description="weights of the cache to choose from on the validation shots, 0 or more",
        examples=[[0.5, 1.0, 2.0]],
    ),
]
Betas = Annotated[
    Positives,
    Field(
        description="sharpnesses of the cache to choose from on the validation shots, above 0",
        examples=[[1.0, 5.5]],
    ),
]


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
    if len(betas) * len(alphas) * len(values) == 1:
        return betas[0], alphas[0], 0
    pooled, labels = unit(task.val_samples.pooled[:, 0]), task.val_samples.labels
    zero_shot, cosines = task.texts.logit_scale * pooled @ texts.T, compare(pooled)

    def score(value: Tensor, beta: float) -> Tensor:
        return _score_all(zero_shot, look_up(cosines, value, beta), alphas, labels)

    tried = [torch.stack([score(value, beta) for value in values], dim=1) for beta in betas]
    hits, likelihood = torch.stack(tried).unbind(dim=-1)  # (betas, alphas, G)
    worse = (hits < hits.max()) | likelihood.isnan()
    best = likelihood.masked_fill(worse, -torch.inf).argmax()
    beta, alpha, place = torch.unravel_index(best.cpu(), hits.shape)
    return betas[int(beta)], alphas[int(alpha)], int(place)


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

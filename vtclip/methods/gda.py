"""GDA: Gaussians of one covariance, one a class (Wang et al., ICLR 2024, arXiv 2402.04087)."""

import logging
import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from vtclip.cost import DOUBLE, SINGLE, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, Head, Images, Method, Task, Tensor, Texts, choose, unit
from vtclip.settings import Settings

ROWS = 4096  # in double precision at a time
BALANCE = 0.25  # of the Gaussians' logits beside zero-shot's at one shot (docs/methods.md)
ROUNDING = 1e-12  # a variance of features of unit length that is rounding alone

logger = logging.getLogger(__name__)


class GDASettings(Settings):
    """Settings of GDA. The values are the paper's."""

    alpha: base.NonNegatives | Literal["balanced"] = Field(
        [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0], examples=[[0.1, 1.0, 10.0]]
    )
    """weights of the Gaussians to choose from on the validation shots, 0 or more; or `balanced` for
    a weight from the training images alone"""


class GDA(Method):
    """logits = zero-shot + alpha * (f @ weight.T + bias), the discriminant of Gaussians.

    With the N views of all shots as rows of unit length, the mean m_k of the rows of a class and S,
    the covariance of the rows about their own class's mean:

        P = D * inverse((N - 1) * S + trace(S) * I)
        weight_k = P @ m_k
        bias_k = log(1 / K) - m_k @ P @ m_k / 2

    Where no class has two different rows there is no covariance, and the logits are zero-shot's.
    """

    title = "GDA"
    settings_type = GDASettings
    settings: GDASettings
    reads_views = True
    tunes = True
    fits_in_double = True

    def initial_head(self, task: Task) -> Head:
        """The Gaussians, with alpha chosen on the validation shots."""
        import torch

        weight, bias = fit_gaussians(*base.stack_views(task.samples), len(task.texts.features))
        if self.settings.alpha == "balanced":
            alphas = [balanced_alpha(weight, bias, task)]
        else:
            alphas = sorted(self.settings.alpha)
        alpha = choose(alphas, self._try(alphas, weight, bias, task), task)
        return {"weight": weight, "bias": bias, "alpha": torch.tensor(alpha, device=bias.device)}

    def _try(
        self, alphas: list[float], weight: Tensor, bias: Tensor, task: Task
    ) -> Iterator[Tensor]:
        """The logits of the validation shots with each alpha."""
        pooled = task.val_samples.pooled[:, 0]
        zero_shot, discriminant = task.texts.logits(pooled), unit(pooled) @ weight.T + bias
        for alpha in alphas:
            yield zero_shot + alpha * discriminant

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The texts and the Gaussians."""

        def logits(images: Images) -> Tensor:
            discriminant = unit(images.pooled) @ head["weight"].T + head["bias"]
            return texts.logits(images.pooled) + head["alpha"] * discriminant  # (B, K)

        return logits

    def settings_without_choice(self, shots: int) -> GDASettings:
        """The weight from the training images alone."""
        return self.settings.model_copy(update={"alpha": "balanced"})

    def work(self, size: Size) -> Work:
        """One fit of the Gaussians."""
        return gaussian_work(super().work(size), size)


def gaussian_work(plain: Work, size: Size, fits: int = 1) -> Work:
    """The rows' products, a few rows at a time, and for each fit a system of D equations."""
    classes, dim, rows = size.classes, size.shape.dim, size.images * size.views
    weights = classes * (dim + 1)
    return plain._replace(
        flops=fits * (2 * rows * dim**2 + dim**3 / 3 + 2 * classes * dim**2),
        part_bytes=(3 * dim**2 + 4 * min(rows, ROWS) * dim + 4 * fits * weights) * DOUBLE,
        predict_flops=4 * classes * dim,
        head_bytes=weights * SINGLE,
    )


def balanced_alpha(weight: Tensor, bias: Tensor, task: Task) -> float:
    """The alpha at which the Gaussians' logits vary a quarter as much as zero-shot's at one shot.

    At s shots it is sqrt(s) / 4 as much, as the means' error falls. How much logits vary is
    their standard deviation over the classes, averaged over the training images.
    """
    # A fixed alpha will not do: the discriminant's size changes with shots, views and D by a factor
    # of a hundred, so that 1.0 is far below zero-shot at 1 shot, and 0.001 no gain at 16.
    pooled = task.samples.pooled[:, 0]
    shots = len(pooled) / len(task.texts.features)
    discriminant = (unit(pooled) @ weight.T + bias).std(dim=1).mean().item()
    zero_shot = task.texts.logits(pooled).std(dim=1).mean().item()
    return BALANCE * shots**0.5 * zero_shot / discriminant if discriminant > 0 else 0.0


def fit_gaussians(
    rows: Tensor,  # (N, D), of any length
    labels: Tensor,  # (N,)
    classes: int,
    lengths: Tensor | None = None,  # (N,), to scale the rows to; left out, 1
) -> tuple[Tensor, Tensor]:
    """weight (K, D) and bias (K,) of the discriminant; zero where the rows have no covariance."""
    import torch

    dim = rows.shape[1]

    def parts() -> Iterator[tuple[Tensor, Tensor]]:
        """Some rows at a time, in double precision, and their labels."""
        for part in torch.arange(len(rows), device=rows.device).split(ROWS):
            scaled = unit(rows[part].double())
            yield scaled if lengths is None else scaled * lengths[part, None], labels[part]

    means = rows.new_zeros(classes, dim, dtype=torch.float64)
    for part, their in parts():
        means.index_add_(0, their, part)
    number = labels.bincount(minlength=classes)
    means /= number.clamp(min=1)[:, None]
    # A class without a shot takes the mean of the others.
    means[number == 0] = means[number > 0].mean(dim=0)
    scatter = rows.new_zeros(dim, dim, dtype=torch.float64)  # (N - 1) * S
    for part, their in parts():
        centred = part - means[their]
        scatter += centred.T @ centred
    variance = scatter.trace() / max(1, len(rows) - 1)
    if variance < ROUNDING:
        logger.warning("No class has two different views: the Gaussians count for nothing.")
        return torch.zeros_like(means).float(), means.new_zeros(classes).float()
    # The logarithms of Gaussians of one covariance differ by linear functions of f, with the weight
    # inverse(S) @ m. With fewer rows than D there is no inverse. P is Kubokawa and Srivastava's
    # estimate of it (2008), with the trace on the diagonal. The authors' code takes its
    # pseudo-inverse; it is positive definite, so a Cholesky factor gives the same in less time.
    scatter.diagonal().add_(variance)
    weight = dim * torch.cholesky_solve(means.T, torch.linalg.cholesky(scatter)).T
    bias = -(weight * means).sum(dim=1) / 2 - math.log(classes)
    return weight.float(), bias.float()

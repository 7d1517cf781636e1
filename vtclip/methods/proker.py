"""ProKeR: regression on what zero-shot misses (Bendou et al., CVPR 2025, arXiv 2501.11175)."""

from collections.abc import Iterator
from itertools import product

from pydantic import Field

from vtclip.cost import BATCH, DOUBLE, SINGLE, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, Head, Images, Method, Task, Tensor, Texts, choose, unit
from vtclip.settings import ConfigError, Settings

MOST_IMAGES = 20_000  # whose matrix takes 3.2 GB, three times
CONSTANTS = {  # from which number of shots on: beta and ridge, as the authors fixed them
    1: (3.0, 0.05),
    2: (2.6, 0.05),
    4: (1.5, 0.05),
    8: (1.66, 0.07),
    16: (1.7, 0.1),
}


class ProKeRSettings(Settings):
    """Settings of ProKeR. The values lie within the paper's grids, which differ by dataset."""

    beta: base.Positives = Field([0.5, 1.0, 1.5, 2.0, 2.5, 3.0], examples=[[1.0, 3.0]])
    """sharpnesses of the kernel to choose from on the validation shots, above 0"""
    ridge: base.Positives = Field([0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0], examples=[[0.05, 0.1]])
    """values of the paper's lambda to choose from on the validation shots, above 0; small ones stay
    near zero-shot"""
    most_rows: int = Field(4000, ge=1)
    """rows of the kernel's matrix up to which each view of an image is a row; above, an image is
    one row, the mean of its views"""


class ProKeR(Method):
    """logits = scale * (f @ T.T + k(f, F) @ A), with k(a, b) = exp(-beta (1 - a . b)).

    F (N, D) are the views of all shots, of unit length, Y (N, K) their labels, one-hot, and

        A = inverse(k(F, F) / ridge + I) @ (Y - F @ T.T)

    The paper has no scale: it changes no class, but makes probabilities and likelihoods.
    """

    title = "ProKeR"
    settings_type = ProKeRSettings
    settings: ProKeRSettings
    reads_views = True
    tunes = True
    fits_in_double = True

    def initial_head(self, task: Task) -> Head:
        """The regression, with beta and ridge chosen on the validation shots."""
        import torch

        keys, labels = self._rows(task.samples)
        pairs = list(product(sorted(self.settings.beta), sorted(self.settings.ridge)))
        beta, ridge = choose(pairs, self._try(keys, labels, task), task)
        kernel = rbf_kernel(keys, keys, beta)
        return {
            "keys": keys.float(),
            "answers": solve(kernel, ridge, residuals(keys, labels, task.texts)).float(),
            "beta": torch.tensor(beta, device=keys.device),
            "ridge": torch.tensor(ridge, device=keys.device),
        }

    def _rows(self, shots: base.Samples) -> tuple[Tensor, Tensor]:
        """The rows of the matrix (N, D), of unit length in double precision, and their labels."""
        images, views = shots.pooled.shape[:2]
        if images > MOST_IMAGES:
            raise ConfigError(
                f"proker: {images} images of all classes together, and the matrix of their pairs "
                f"is made for {MOST_IMAGES}: request fewer `shots`."
            )
        if self._count_rows(images, views) == images:
            return unit(shots.pooled.mean(dim=1).double()), shots.labels
        rows, labels = base.stack_views(shots)
        return unit(rows.double()), labels

    def _count_rows(self, images: int, views: int) -> int:
        """N: every view, or every image where views would be too many."""
        return images * views if images * views <= self.settings.most_rows else images

    def _try(self, keys: Tensor, labels: Tensor, task: Task) -> Iterator[Tensor]:
        """The logits of the validation shots with each pair."""
        missed = residuals(keys, labels, task.texts)
        pooled = unit(task.val_samples.pooled[:, 0].double())
        zero_shot = pooled @ task.texts.features.T.double()
        for beta in sorted(self.settings.beta):
            kernel, query = rbf_kernel(keys, keys, beta), rbf_kernel(pooled, keys, beta)
            for ridge in sorted(self.settings.ridge):
                answers = solve(kernel, ridge, missed)
                yield task.texts.logit_scale * (zero_shot + query @ answers)

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The texts, and the regression of what they miss."""

        def logits(images: Images) -> Tensor:
            answered = rbf_kernel(unit(images.pooled), head["keys"], head["beta"]) @ head["answers"]
            return texts.logits(images.pooled) + texts.logit_scale * answered  # (B, K)

        return logits

    def settings_without_choice(self, shots: int) -> ProKeRSettings:
        """The authors' constants, which they chose on ImageNet's test images."""
        beta, ridge = CONSTANTS[max((k for k in CONSTANTS if k <= shots), default=1)]
        return self.settings.model_copy(update={"beta": [beta], "ridge": [ridge]})

    def work(self, size: Size) -> Work:
        """A system of N equations for each pair, and once more for the best."""
        classes, dim, val = size.classes, size.shape.dim, size.val_images
        rows = self._count_rows(size.images, size.views)
        pairs = len(self.settings.beta) * len(self.settings.ridge)
        solving = rows**3 / 3 + 2 * rows**2 * classes
        comparing = 2 * rows * (rows + val) * dim
        plain = super().work(size)
        return plain._replace(
            flops=(pairs + 1) * solving
            + (len(self.settings.beta) + 1) * comparing
            + pairs * 2 * val * rows * classes,
            # The kernel, the system, its factor; rows, residuals, answers; the queries.
            part_bytes=(3 * rows**2 + rows * (2 * dim + 4 * classes) + 2 * val * rows) * DOUBLE,
            predict_flops=2 * rows * (dim + classes) + 2 * classes * dim,
            head_bytes=rows * (dim + classes) * SINGLE,
            batch_bytes=2 * BATCH * rows * SINGLE,
        )


def rbf_kernel(left: Tensor, right: Tensor, beta: Tensor | float) -> Tensor:
    """The kernel exp(-beta (1 - a . b)) of features of unit length, (B, D) and (N, D): (B, N)."""
    return (left @ right.T).sub_(1).mul_(beta).exp_()  # in place: it is the largest there is


def residuals(keys: Tensor, labels: Tensor, texts: Texts) -> Tensor:
    """One-hot labels minus zero-shot's cosines, (N, K)."""
    from torch.nn.functional import one_hot

    return one_hot(labels, len(texts.features)) - keys @ texts.features.T.to(keys.dtype)


def solve(kernel: Tensor, ridge: float, missed: Tensor) -> Tensor:
    """inverse(kernel / ridge + I) @ missed, (N, N) and (N, K): (N, K)."""
    import torch

    # Kernel ridge regression: of all functions g in the kernel's space, the one with the smallest
    # sum_n |missed_n - g(f_n)|^2 + ridge |g|^2 is k(., F) @ inverse(kernel + ridge I) @ missed. The
    # authors' answers are `ridge` times these, so that a small ridge stays near zero-shot.
    system = kernel / ridge
    system.diagonal().add_(1)  # positive definite, as the kernel is
    return torch.cholesky_solve(missed, torch.linalg.cholesky(system))

"""The linear probe: logistic regression on pooled features (Radford et al., 2021)."""

import math
from copy import copy
from typing import TYPE_CHECKING

from pydantic import Field

from vtclip.cost import DOUBLE, SINGLE, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, Head, Images, Method, Task, Tensor, Texts, choose, unit
from vtclip.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    from sklearn.linear_model import LogisticRegression


NO_SHOT_BIAS = -1e4  # a bias that no image makes up for
RMS_LENGTH = 3.0  # of the centred images, as root mean square, while they are fitted
CHAIN = 2  # strengths that one core fits in turn
ITERATIONS = 100  # of L-BFGS in a fit, at the most in the mean over all strengths
LONGEST = 200  # the same in the mean over the longest chain


class LinearProbeSettings(Settings):
    """Settings of the linear probe."""

    inverse_regularisation: base.Positives = Field(
        [10.0**power for power in range(-2, 6)], examples=[[0.1, 1.0, 10.0, 100.0]]
    )
    """values of scikit-learn's C to choose from on the validation shots, above 0"""
    iterations: int = Field(1000, ge=1)
    """largest number of L-BFGS iterations"""


class LinearProbe(Method):
    """logits = pooled @ weight.T + bias, on pooled features of unit length."""

    title = "Linear probe"
    settings_type = LinearProbeSettings
    settings: LinearProbeSettings
    tunes = True
    on_gpu = False  # scikit-learn's

    def initial_head(self, task: Task) -> Head:
        """Fit with every C and keep the best on the validation shots, of equals the smallest C."""
        import torch
        from threadpoolctl import threadpool_limits

        strengths = sorted(self.settings.inverse_regularisation)
        labels, classes = task.samples.labels.cpu().numpy(), len(task.texts.features)
        threads = torch.get_num_threads()  # read before the limit, which is PyTorch's, too
        with threadpool_limits(1):
            images = unit(task.samples.pooled[:, 0].cpu().double())
            # Centred, and long beside the intercept's column of ones, images take L-BFGS to the
            # same optimum, for the intercept is not regularised, in fewer iterations. In single
            # precision its line search is lost in rounding before the gradient is small.
            mean = images.mean(dim=0)
            length = (images - mean).square().sum(dim=1).mean().sqrt().item()
            scale = RMS_LENGTH / max(length, 1e-3)  # images that are all alike stay so
            probes = _fit(
                ((images - mean) * scale).numpy(), labels,
                [strength / scale**2 for strength in strengths], self.settings.iterations, threads,
            )  # fmt: skip
            heads = [
                _as_head(probe, strength, mean, scale, classes)
                for probe, strength in zip(probes, strengths, strict=True)
            ]
            logits = (
                self.classifier(head, task.texts)(Images(task.val_samples.pooled[:, 0].cpu(), None))
                for head in heads
            )
            return choose(heads, logits, task)

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The fitted hyperplanes."""
        return lambda images: unit(images.pooled) @ head["weight"].T + head["bias"]  # (B, K)

    def work(self, size: Size) -> Work:
        """A fit for each C; an iteration multiplies images and weights twice."""
        weights = size.classes * size.shape.dim
        fits, iterations = len(self.settings.inverse_regularisation), self.settings.iterations
        iteration = 4 * size.images * weights
        # A fit keeps twenty pairs of vectors of the weights' size, and two of all probabilities.
        numbers = 40 * weights + 2 * size.images * size.classes
        plain = super().work(size)
        return plain._replace(
            flops=fits * min(ITERATIONS, iterations) * iteration,
            parts=math.ceil(fits / CHAIN),
            longest=min(CHAIN, fits) * min(LONGEST, iterations) * iteration,
            part_bytes=numbers * DOUBLE,
            head_bytes=weights * SINGLE,
        )


def _as_head(
    probe: "LogisticRegression", strength: float, mean: Tensor, scale: float, classes: int
) -> Head:
    """A fit to (images - mean) * scale, as hyperplanes of the images themselves."""
    import torch

    weight = torch.from_numpy(probe.coef_) * scale
    bias = torch.from_numpy(probe.intercept_) - weight @ mean
    if len(weight) == 1:  # for two classes scikit-learn gives the second alone
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    rows = torch.from_numpy(probe.classes_)
    return {
        "weight": torch.zeros(classes, len(mean)).index_copy(0, rows, weight.float()),
        # A class without a shot is never predicted.
        "bias": torch.full((classes,), NO_SHOT_BIAS).index_copy(0, rows, bias.float()),
        "inverse_regularisation": torch.tensor(strength),
    }


def _fit(
    images: "np.ndarray",
    labels: "np.ndarray",
    strengths: list[float],
    iterations: int,
    threads: int,
) -> "list[LogisticRegression]":
    """A fit for each of the strengths, which rise.

    In a chain of two, the second starts where the first ended. As many chains are fitted at a time
    as threads, each on one core: the same bits for any number of threads.
    """
    from joblib import Parallel, delayed
    from sklearn.linear_model import LogisticRegression

    # scikit-learn ends where the mean loss has a small gradient. Of many classes it is small at
    # the start: with a thousand, its default tolerance of 1e-4 would let it take no step at all.
    options = {"max_iter": iterations, "tol": 1e-4 / len(images)}

    def fit_chain(chain: list[float]) -> "list[LogisticRegression]":
        probe = LogisticRegression(warm_start=True, **options)
        return [copy(probe.set_params(C=strength).fit(images, labels)) for strength in chain]

    chains = [strengths[first : first + CHAIN] for first in range(0, len(strengths), CHAIN)]
    fits = Parallel(n_jobs=threads, prefer="threads")(delayed(fit_chain)(each) for each in chains)
    return [probe for chain in fits for probe in chain]

"""The linear probe: logistic regression on pooled features (Radford et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vtclip.cost import DOUBLE, SINGLE, Work
from vtclip.methods.base import Head, Images, Method, Task, Texts, unit
from vtclip.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor

    from vtclip.cost import Size


NEVER = -1e4  # a bias that no image makes up for
ITERATIONS = 300  # of L-BFGS in a fit, at the most in the mean over all strengths


class LinearProbeSettings(Settings):
    """Settings of the linear probe."""

    inverse_regularisation: list[Annotated[float, Field(gt=0)]] = Field(
        default=[10.0**power for power in range(-2, 6)],
        min_length=1,
        description="values of scikit-learn's C to choose from on the validation shots, above 0",
        examples=[[0.1, 1.0, 10.0, 100.0]],
    )
    iterations: int = Field(
        default=1000, ge=1, description="largest number of L-BFGS iterations", examples=[1000]
    )


class LinearProbe(Method):
    """logits = pooled @ weight.T + bias, on pooled features of unit length."""

    title = "Linear probe"
    settings_type = LinearProbeSettings
    tunes = True
    on_gpu = False  # scikit-learn's

    def start(self, task: Task) -> Head:
        """Fit with every C and keep the best on the validation shots, of equals the smallest C.

        As many fits at a time as PyTorch has threads, each on one core: the same bits for any
        number of threads.
        """
        import torch
        from joblib import Parallel, delayed
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        assert task.train is not None
        assert task.val is not None
        assert isinstance(self.settings, LinearProbeSettings)
        images, labels = (
            unit(task.train.pooled[:, 0]).cpu().numpy(),
            task.train.labels.cpu().numpy(),
        )
        val_images, val_labels = (
            unit(task.val.pooled[:, 0]).cpu().numpy(),
            task.val.labels.cpu().numpy(),
        )
        # scikit-learn ends where the mean loss has a small gradient. Of many classes it is small at
        # the start: with a thousand, its own tolerance of 1e-4 would let it take no step at all.
        options = {"max_iter": self.settings.iterations, "tol": 1e-4 / len(images)}
        fits = [
            delayed(LogisticRegression(C=strength, **options).fit)(images, labels)
            for strength in sorted(self.settings.inverse_regularisation)
        ]
        threads = torch.get_num_threads()  # the limit below holds for PyTorch's own as well
        with threadpool_limits(1):
            probes = Parallel(n_jobs=threads, prefer="threads")(fits)
        best = max(probes, key=lambda probe: probe.score(val_images, val_labels))
        weight, bias = (torch.from_numpy(part).float() for part in (best.coef_, best.intercept_))
        if len(weight) == 1:  # of two classes scikit-learn tells the second alone
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        classes, dim = task.texts.features.shape
        rows = torch.from_numpy(best.classes_)
        return {
            "weight": torch.zeros(classes, dim).index_copy(0, rows, weight),
            # A class without a shot is never predicted.
            "bias": torch.full((classes,), NEVER).index_copy(0, rows, bias),
            "inverse_regularisation": torch.tensor(best.C),
        }

    def classifier(self, head: Head, texts: Texts) -> Callable[[Images], Tensor]:
        """The fitted hyperplanes."""

        def logits(images: Images) -> Tensor:
            return unit(images.pooled) @ head["weight"].T + head["bias"]  # (B, K)

        return logits

    def work(self, size: Size) -> Work:
        """A fit for each C; an iteration multiplies images and weights twice."""
        assert isinstance(self.settings, LinearProbeSettings)
        weights = size.classes * size.shape.dim
        fits, iterations = len(self.settings.inverse_regularisation), self.settings.iterations
        iteration = 4 * size.images * weights
        # A fit keeps twenty pairs of vectors of the weights' size, and two of all probabilities.
        numbers = 40 * weights + 2 * size.images * size.classes
        plain = super().work(size)
        return plain._replace(
            flops=fits * min(ITERATIONS, iterations) * iteration,
            parts=fits,
            longest=iterations * iteration,
            part_bytes=numbers * DOUBLE,
            head_bytes=weights * SINGLE,
        )

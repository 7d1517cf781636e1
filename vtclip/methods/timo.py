"""TIMO: texts and images that guide each other (Li et al., AAAI 2025, arXiv 2412.11375)."""

from collections.abc import Iterator
from itertools import product
from typing import Self

from pydantic import Field

from vtclip.cost import Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, Head, Images, Method, Task, Tensor, Texts, choose, unit
from vtclip.methods.gda import fit_gaussians, gaussian_work
from vtclip.settings import Settings

GAMMA = 50.0
GAMMA_OF = {"flowers102": 100.0, "imagenet": 1.0}
GAMMAS = [5.0 * i for i in range(1, 21)]  # that TIMO-S chooses from
NUMBERS = 10  # of texts that TIMO-S chooses from


class TIMOSettings(Settings):
    """Settings of TIMO; the values are the authors'."""

    alpha: base.NonNegatives = Field([10.0**i for i in range(-4, 5)], examples=[[0.1, 1.0, 10.0]])
    """weights of the guided texts to choose from on the validation shots, 0 or more"""
    gamma: base.NonNegatives = Field([GAMMA], examples=[[1.0, 50.0]])
    """how much a text counts that is near its class's images, to choose from, 0 or more; left out,
    the authors' for the dataset"""
    search: bool = False
    """whether gamma and the number of texts among the shots are chosen on the validation shots too:
    TIMO-S"""

    def for_dataset(self, dataset: str) -> Self:
        """With the authors' gamma for a dataset, or TIMO-S's values, where none is given."""
        if "gamma" in self.model_fields_set:
            return self
        gamma = GAMMAS if self.search else [GAMMA_OF.get(dataset, GAMMA)]
        return self.model_copy(update={"gamma": gamma})


class TIMO(Method):
    """logits = alpha * cos(f, guided text) + f @ weight.T + bias.

    The P texts of a class are read one by one. Their cosines a_p with the class's prototype, the
    mean of its shots, guide the texts: a guided text is the unit mean of the class's texts, with
    the softmax of gamma * a / |a| as weights. And texts guide the images: weight and bias are those
    of GDA, for which the texts, each as long as its a_p, are further views of the class.
    """

    title = "TIMO"
    settings_type = TIMOSettings
    settings: TIMOSettings
    reads_views = True
    tunes = True
    fits_in_double = True

    def choices(self) -> list[str]:
        """With the number of texts, of TIMO-S."""
        return [*super().choices(), *(["number of texts"] if self.settings.search else [])]

    def initial_head(self, task: Task) -> Head:
        """The guided texts and the Gaussians, with alpha chosen on the validation shots."""
        prompts = base.list_prompts(task.texts)  # (K, P, D)
        nearness = (prompts @ find_prototypes(task)[:, :, None])[:, :, 0]  # (K, P)
        gammas = sorted(self.settings.gamma)
        guided = [guide(prompts, nearness, gamma) for gamma in gammas]
        alone = (
            task.texts.logit_scale * unit(task.val_samples.pooled[:, 0]) @ texts.T
            for texts in guided
        )
        place = choose(range(len(gammas)), alone, task)
        number = prompts.shape[1]
        numbers = list_numbers(number) if self.settings.search else [number]
        fitted = [fit(task, prompts, nearness, each) for each in numbers]
        pairs = list(product(range(len(numbers)), sorted(self.settings.alpha)))
        logits = self._try(fitted, guided[place], task)
        best, alpha = choose(pairs, logits, task)
        weight, bias = fitted[best]
        chosen = {"alpha": alpha, "gamma": gammas[place], "number": float(numbers[best])}
        head = {name: weight.new_tensor(value) for name, value in chosen.items()}
        return head | {"texts": guided[place], "weight": weight, "bias": bias}

    def _try(
        self, fitted: list[tuple[Tensor, Tensor]], texts: Tensor, task: Task
    ) -> Iterator[Tensor]:
        """The logits of the validation shots with each number of texts and each alpha."""
        pooled = unit(task.val_samples.pooled[:, 0])
        for weight, bias in fitted:
            for alpha in sorted(self.settings.alpha):
                yield alpha * pooled @ texts.T + pooled @ weight.T + bias

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The guided texts and the Gaussians."""

        def logits(images: Images) -> Tensor:
            pooled = unit(images.pooled)
            guided = head["alpha"] * pooled @ head["texts"].T
            return guided + pooled @ head["weight"].T + head["bias"]  # (B, K)

        return logits

    def work(self, size: Size) -> Work:
        """The Gaussians for each number of texts; the head has the guided texts beside them."""
        fits = NUMBERS if self.settings.search else 1
        work = gaussian_work(super().work(size), size, fits)
        return work._replace(head_bytes=2 * work.head_bytes)


def find_prototypes(task: Task) -> Tensor:
    """The mean of each class's shots, of unit length (K, D); of a class without any, its text."""
    texts, labels = task.texts.features, task.samples.labels
    keys = unit(task.samples.pooled.mean(dim=1))
    sums = texts.new_zeros(texts.shape).index_add(0, labels, keys)
    missing = labels.bincount(minlength=len(texts)) == 0
    return unit(sums.where(~missing[:, None], texts))


def guide(prompts: Tensor, nearness: Tensor, gamma: float) -> Tensor:
    """One text a class, from its P texts (K, P, D) and their cosines with the images (K, P)."""
    weights = (gamma * unit(nearness)).softmax(dim=1)
    return unit((weights[:, :, None] * prompts).sum(dim=1))  # (K, D)


def list_numbers(texts: int) -> list[int]:
    """The numbers of texts of a class that TIMO-S tries: ten, evenly from 1 to twice all."""
    step = (2 * texts - 1) / (NUMBERS - 1)
    return list(dict.fromkeys(int(1 + i * step) for i in range(NUMBERS)))


def fit(task: Task, prompts: Tensor, nearness: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Weight and bias of the Gaussians of the shots' views and of so many texts of each class.

    The texts are taken from the nearest one on, and from the nearest on again after the last.
    """
    import torch

    rows, labels = base.stack_views(task.samples)
    classes, texts, _ = prompts.shape
    order = nearness.argsort(dim=1, descending=True, stable=True)
    taken = order[:, [place % texts for place in range(number)]]  # (K, number)
    further = prompts.gather(1, taken[:, :, None].expand(-1, -1, prompts.shape[2]))
    their = torch.arange(classes, device=labels.device).repeat_interleave(number)
    lengths = torch.cat([rows.new_ones(len(rows)), nearness.gather(1, taken).flatten()])
    return fit_gaussians(
        torch.cat([rows, further.flatten(0, 1)]), torch.cat([labels, their]), classes,
        lengths.double(),
    )  # fmt: skip

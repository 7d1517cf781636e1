"""APE: Tip-Adapter on the best channels (Zhu et al., ICCV 2023, arXiv 2304.01195)."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self, TypeVar

from pydantic import Field

from vtclip.cost import DOUBLE, SINGLE, Size, Work
from vtclip.methods import tip_adapter
from vtclip.methods.base import Classifier, Head, Images, Method, Task, Tensor, Texts, unit
from vtclip.methods.tip_adapter import Alphas, Betas
from vtclip.settings import Settings

CHANNELS = 1024  # of RN50, which the authors' numbers of channels are for
SMALL = 1e-6  # added to probabilities before their logarithms


Chosen = TypeVar("Chosen", bound=Settings)


class Published(NamedTuple):
    """The authors' settings for a dataset; the search of alpha and beta begins at 0.1."""

    channels: int
    variance: float  # its weight; that of the similarity is the rest of 1
    beta: float  # the end of the search, with 200 values
    alpha: float  # the end of the search, with 20 values
    gamma: float  # the end of the search, from 0 on
    gammas: int = 20

    def lists(self) -> dict[str, list[float]]:
        """The values to choose from."""
        return {
            "beta": [0.1 + i * (self.beta - 0.1) / 200 for i in range(200)],
            "alpha": [0.1 + i * (self.alpha - 0.1) / 20 for i in range(20)],
            "gamma": [i * self.gamma / self.gammas for i in range(self.gammas)],
        }


PUBLISHED = {
    "imagenet": Published(500, 0.3, 7, 7, 0.5, 5),
    "caltech101": Published(800, 0.5, 7, 7, 1),
    "oxford_pets": Published(800, 0.3, 7, 7, 1),
    "stanford_cars": Published(500, 0.4, 10, 7, 1),
    "flowers102": Published(700, 0.6, 7, 7, 1),
    "food101": Published(700, 0.7, 7, 7, 1),
    "fgvc_aircraft": Published(800, 0.9, 20, 10, 1),
    "sun397": Published(800, 0.3, 10, 7, 1),
    "dtd": Published(400, 0.5, 7, 7, 1),
    "eurosat": Published(700, 0.1, 30, 5, 1.5),
    "ucf101": Published(700, 0.7, 10, 7, 1.5),
}
OTHERS = PUBLISHED["imagenet"]  # of datasets that the authors have no settings for


class APESettings(Settings):
    """Settings of APE; those left out are the authors' for the dataset, or for ImageNet."""

    channels: int = Field(OTHERS.channels, ge=1, le=CHANNELS)
    """channels that the cache compares, of 1024; a backbone with another number takes the
    same share"""
    variance: float = Field(OTHERS.variance, ge=0, le=1)
    """weight of the texts' variance in the choice of channels, 0 to 1; the rest is that of the
    similarity of classes"""
    alpha: Alphas = OTHERS.lists()["alpha"]
    beta: Betas = OTHERS.lists()["beta"]
    gamma: Alphas = Field(OTHERS.lists()["gamma"], examples=[[0.0, 0.5]])
    """how much shots count that zero-shot misses, to choose from, 0 or more"""

    def for_dataset(self, dataset: str) -> Self:
        """With the authors' settings for a dataset, where none are given."""
        published = PUBLISHED.get(dataset, OTHERS)
        return fill_in(self, published._asdict() | published.lists())


def fill_in(settings: Chosen, values: Mapping[str, Any]) -> Chosen:
    """Settings with the values of those that a user has left out."""
    fields = type(settings).model_fields.keys() - settings.model_fields_set
    return settings.model_copy(update={key: values[key] for key in fields & values.keys()})


class APE(Method):
    """Zero-shot logits + alpha * sum over the shots of exp(-beta (1 - f . key)) * exp(gamma r).

    A key is the mean of a shot's views. Features and keys are compared on some channels, where they
    have unit length. r is log2 of 1 / p, where p is the probability that the texts give the shot's
    class on these channels, without CLIP's scale.
    """

    title = "APE"
    settings_type = APESettings
    settings: APESettings
    reads_views = True
    tunes = True

    def initial_head(self, task: Task) -> Head:
        """The cache, with alpha, beta and gamma chosen on the validation shots."""
        texts, labels = task.texts.features, task.samples.labels
        keys = tip_adapter.make_keys(task)
        number = count_channels(self.settings.channels, texts.shape[1])
        channels = choose_channels(texts, number, self.settings.variance, keys, labels)
        keys, narrow = unit(keys[:, channels]), unit(texts[:, channels])
        own = (keys @ narrow.T).softmax(dim=1).gather(1, labels[:, None])[:, 0]
        divergence = ((1 + SMALL) / (own + SMALL)).log2()  # (M,)
        gammas = sorted(self.settings.gamma)
        values = [
            tip_adapter.soft_labels(labels, (gamma * divergence).exp(), texts) for gamma in gammas
        ]
        beta, alpha, place = tip_adapter.search(
            task, texts, values, lambda pooled: unit(pooled[:, channels]) @ keys.T,
            alphas=self.settings.alpha, betas=self.settings.beta,
        )  # fmt: skip
        head = {"channels": channels, "keys": keys, "labels": labels, "divergence": divergence}
        chosen = {"alpha": alpha, "beta": beta, "gamma": gammas[place]}
        return head | {name: keys.new_tensor(value) for name, value in chosen.items()}

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The texts and the cache."""

        def logits(images: Images) -> Tensor:
            weights = (head["gamma"] * head["divergence"]).exp()
            values = tip_adapter.soft_labels(head["labels"], weights, texts.features)
            cosines = unit(unit(images.pooled)[:, head["channels"]]) @ head["keys"].T
            cached = tip_adapter.look_up(cosines, values, head["beta"])
            return texts.logits(images.pooled) + head["alpha"] * cached  # (B, K)

        return logits

    def work(self, size: Size) -> Work:
        """The lookups of the search, and one per test image."""
        settings = self.settings
        work = tip_adapter.cache_work(
            super().work(size), size, alphas=len(settings.alpha), betas=len(settings.beta),
            gammas=len(settings.gamma),
        )  # fmt: skip
        channels = count_channels(self.settings.channels, size.shape.dim)
        keys = size.images * (channels * SINGLE + SINGLE + DOUBLE)
        return work._replace(head_bytes=keys + channels * DOUBLE)


def count_channels(channels: int, dim: int) -> int:
    """The channels to take of D, for a number of RN50's."""
    return max(1, channels * dim // CHANNELS)


def choose_channels(
    texts: Tensor,  # (K, D) of unit length
    number: int,
    variance: float,
    keys: Tensor | None = None,  # (M, D) of unit length; None to compare texts alone
    labels: Tensor | None = None,  # (M,)
) -> Tensor:
    """The channels (number,) on which classes differ most.

    That is a weighted difference of two: the variance of the texts over the classes, and the mean
    product of two vectors of different classes, of texts and keys alike.
    """
    import torch

    sums, members = texts, texts.new_ones(len(texts))
    if keys is not None and labels is not None:
        sums = texts.index_add(0, labels, keys)
        members = members + labels.bincount(minlength=len(texts))
    pairs = members.sum() ** 2 - (members**2).sum()
    similarity = (sums.sum(dim=0) ** 2 - (sums**2).sum(dim=0)) / pairs  # (D,)
    return torch.topk(variance * texts.var(dim=0) - (1 - variance) * similarity, number).indices

"""APE: Tip-Adapter on the best channels (Zhu et al., ICCV 2023, arXiv 2304.01195)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, Self

from pydantic import Field

from vtclip.cost import BATCH, DOUBLE, SINGLE, Size, Work
from vtclip.methods.base import Classifier, Head, Images, Method, Task, Tensor, Texts, unit
from vtclip.methods.tip_adapter import Alphas, Betas
from vtclip.settings import Settings

CHANNELS = 1024  # of RN50, which the authors' numbers of channels are for
SMALL = 1e-6  # added to probabilities before their logarithms
LOGITS = 1 << 22  # of validation shots at a time


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

    channels: int = Field(
        default=OTHERS.channels,
        ge=1,
        le=CHANNELS,
        description=f"channels that the cache compares, of {CHANNELS}; a backbone with another "
        "number takes the same share",
    )
    variance: float = Field(
        default=OTHERS.variance,
        ge=0,
        le=1,
        description="weight of the texts' variance in the choice of channels, 0 to 1; the rest is "
        "that of the similarity of classes",
    )
    alpha: Alphas = OTHERS.lists()["alpha"]
    beta: Betas = OTHERS.lists()["beta"]
    gamma: Alphas = Field(
        default=OTHERS.lists()["gamma"],
        description="how much shots count that zero-shot misses, to choose from, 0 or more",
        examples=[[0.0, 0.5]],
    )

    def for_dataset(self, dataset: str) -> Self:
        """With the authors' settings for a dataset, where none are given."""
        published = PUBLISHED.get(dataset, OTHERS)
        values = published._asdict() | published.lists()
        fields = type(self).model_fields.keys() - self.model_fields_set
        return self.model_copy(update={key: values[key] for key in fields & values.keys()})


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
        assert task.train is not None
        texts, labels = task.texts.features, task.train.labels
        keys = unit(task.train.pooled.mean(dim=1))
        number = count_channels(self.settings.channels, texts.shape[1])
        channels = choose_channels(texts, number, self.settings.variance, keys, labels)
        keys, narrow = unit(keys[:, channels]), unit(texts[:, channels])
        own = (keys @ narrow.T).softmax(dim=1).gather(1, labels[:, None])[:, 0]
        divergence = ((1 + SMALL) / (own + SMALL)).log2()  # (M,)
        gammas = sorted(self.settings.gamma)
        values = [soft_labels(labels, (gamma * divergence).exp(), texts) for gamma in gammas]
        beta, alpha, place = search(
            self.settings, task, texts, values, lambda pooled: unit(pooled[:, channels]) @ keys.T
        )
        chosen = keys.new_tensor([alpha, beta, gammas[place]])
        head = {"channels": channels, "keys": keys, "labels": labels, "divergence": divergence}
        return head | dict(zip(("alpha", "beta", "gamma"), chosen, strict=True))

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The texts and the cache."""

        def logits(images: Images) -> Tensor:
            weights = (head["gamma"] * head["divergence"]).exp()
            values = soft_labels(head["labels"], weights, texts.features)
            cosines = unit(unit(images.pooled)[:, head["channels"]]) @ head["keys"].T
            cached = look_up(cosines, values, head["beta"])
            return texts.logits(images.pooled) + head["alpha"] * cached  # (B, K)

        return logits

    def work(self, size: Size) -> Work:
        """The lookups of the search, and one per test image."""
        work = cache_work(super().work(size), size, self.settings, len(self.settings.gamma))
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


def soft_labels(labels: Tensor, weights: Tensor, texts: Tensor) -> Tensor:
    """The weight of each key at its class, and 0 at the others: (M, K)."""
    from torch.nn.functional import one_hot

    return one_hot(labels, len(texts)).to(weights.dtype) * weights[:, None]


def look_up(cosines: Tensor, values: Tensor, beta: Tensor | float) -> Tensor:
    """exp(-beta (1 - cosine)) of each key, times its values: (B, M), (M, K) -> (B, K)."""
    return (-beta * (1 - cosines)).exp() @ values


class Searched(Protocol):
    """Settings with values to choose from."""

    @property
    def alpha(self) -> Sequence[float]:
        """Weights of the cache."""

    @property
    def beta(self) -> Sequence[float]:
        """Sharpnesses of the cache."""


def search(
    settings: Searched,
    task: Task,
    texts: Tensor,  # (K, D)
    values: Sequence[Tensor],  # G of (M, K)
    compare: Callable[[Tensor], Tensor],  # unit images (B, D) -> cosines with the keys (B, M)
) -> tuple[float, float, int]:
    """Beta, alpha and the place of the values that are best on the validation shots.

    Of equally many hits the likeliest, and of equals the smallest beta, then alpha, as `choose`.
    """
    import torch

    betas, alphas = sorted(settings.beta), sorted(settings.alpha)
    if len(betas) * len(alphas) * len(values) == 1:
        return betas[0], alphas[0], 0
    assert task.val is not None
    pooled, labels = unit(task.val.pooled[:, 0]), task.val.labels
    zero_shot, cosines = task.texts.logit_scale * pooled @ texts.T, compare(pooled)
    tried = torch.stack(
        [
            torch.stack(
                [
                    score_all(zero_shot, look_up(cosines, each, beta), alphas, labels)
                    for each in values
                ],
                dim=1,
            )
            for beta in betas
        ]
    )  # (betas, alphas, G, 2)
    hits, likelihood = tried.unbind(dim=-1)
    best = likelihood.masked_fill(hits < hits.max(), -torch.inf).argmax()
    beta, alpha, place = torch.unravel_index(best.cpu(), hits.shape)
    return betas[int(beta)], alphas[int(alpha)], int(place)


def score_all(zero_shot: Tensor, cached: Tensor, alphas: Sequence[float], labels: Tensor) -> Tensor:
    """Hits, and the mean log-likelihood of the labels, with each alpha: (A, 2)."""
    import torch

    found = []
    for part in zero_shot.new_tensor(alphas).split(max(1, LOGITS // zero_shot.numel())):
        logits = zero_shot + part[:, None, None] * cached  # (A, B, K)
        hits = (logits.argmax(dim=2) == labels).sum(dim=1)
        own = labels.expand(len(part), -1)[:, :, None]
        likelihood = logits.log_softmax(dim=2).gather(2, own).mean(dim=(1, 2))
        found.append(torch.stack([hits.to(likelihood.dtype), likelihood], dim=1))
    return torch.cat(found)


def cache_work(plain: Work, size: Size, settings: Searched, gammas: int = 1) -> Work:
    """The work of a search, and of a lookup per test image."""
    classes, dim, keys, val = size.classes, size.shape.dim, size.images, size.val_images
    lookup = 2 * keys * (dim + classes)
    scoring = 10 * classes * len(settings.alpha)
    values = keys * classes * (DOUBLE + gammas * SINGLE)  # one-hot as whole numbers, then floats
    return plain._replace(
        flops=len(settings.beta) * gammas * val * (lookup + scoring),
        part_bytes=values + (3 * val * keys + 4 * max(LOGITS, val * classes)) * SINGLE,
        predict_flops=lookup + 2 * classes * dim,
        head_bytes=keys * (dim * SINGLE + SINGLE + DOUBLE),
        batch_bytes=keys * classes * (DOUBLE + SINGLE) + 2 * BATCH * keys * SINGLE,
    )

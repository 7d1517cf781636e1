"""APE-T: APE's cache with residuals that are trained (Zhu et al., ICCV 2023, arXiv 2304.01195)."""

from typing import NamedTuple, Self

from pydantic import Field

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods import base, tip_adapter
from vtclip.methods.ape import CHANNELS, OTHERS, PUBLISHED, choose_channels, count_channels, fill_in
from vtclip.methods.base import Classifier, Head, Images, Method, Module, Task, Tensor, Texts, unit
from vtclip.methods.tip_adapter import Alphas, Betas


class Trained(NamedTuple):
    """The authors' settings of training for a dataset."""

    channels: int
    learning_rate: float
    epochs: int
    epsilon: float
    initial_alpha: float


TRAINED = {
    "imagenet": Trained(500, 1e-4, 20, 1e-3, 2),
    "caltech101": Trained(900, 1e-3, 30, 1e-3, 1),
    "dtd": Trained(700, 1e-3, 20, 1e-3, 3),
    "eurosat": Trained(900, 1e-3, 200, 1e-3, 1),
    "fgvc_aircraft": Trained(900, 1e-3, 30, 1e-3, 5),
    "food101": Trained(900, 1e-4, 30, 1e-3, 0.8),
    "flowers102": Trained(800, 1e-3, 60, 1e-3, 3),
    "oxford_pets": Trained(800, 1e-4, 30, 2e-3, 2),
    "stanford_cars": Trained(800, 1e-3, 30, 5e-3, 1),
    "sun397": Trained(800, 1e-4, 30, 1e-3, 1),
    "ucf101": Trained(800, 1e-3, 30, 2e-3, 2),
}
FIRST = TRAINED["imagenet"]  # of datasets that the authors have no settings for


class APETSettings(base.Recipe):
    """Settings of APE-T; those left out are the authors' for the dataset, or for ImageNet."""

    learning_rate: base.LearningRate = FIRST.learning_rate
    epsilon: base.Epsilon = FIRST.epsilon
    weight_decay: base.WeightDecay = 0.1
    batch_size: base.BatchSize = 256
    last_batch: base.LastBatch = "keep"
    warmup: base.Warmup = 0.0
    epochs: base.EpochsByShots = FIRST.epochs
    epochs_of: base.EpochsOf = {name: found.epochs for name, found in TRAINED.items()}
    select: base.Select = "val"

    channels: int = Field(FIRST.channels, ge=1, le=CHANNELS)
    """channels that are trained, of 1024; a backbone with another number takes the same
    share"""
    variance: float = Field(0.8, ge=0, le=1)
    """weight of the texts' variance in the choice of channels, 0 to 1; the rest is that of their
    similarity"""
    initial_alpha: float = Field(FIRST.initial_alpha, ge=0)
    """weight of the cache while the residuals are trained, 0 or more"""
    alpha: Alphas = OTHERS.lists()["alpha"]
    beta: Betas = Field(OTHERS.lists()["beta"], examples=[[1.0, 5.5]])
    """sharpnesses of the cache to choose from on the validation shots, above 0; the residuals are
    trained at 1"""

    def for_dataset(self, dataset: str) -> Self:
        """With the authors' settings for a dataset, where none are given."""
        trained = TRAINED.get(dataset, FIRST)._asdict()
        del trained["epochs"]  # they are of `epochs_of`
        values = trained | PUBLISHED.get(dataset, OTHERS).lists()
        return fill_in(super().for_dataset(dataset), values)


class APET(Method):
    """Tip-Adapter's logits, with a residual for each class and a weight for each key.

    The residual is added to some channels of the class's text and of all its keys. Nothing is
    scaled to unit length after that.
    """

    title = "APE-T"
    settings_type = APETSettings
    settings: APETSettings
    reads_views = True
    tunes = True
    trained = ("residual", "weights")

    def initial_head(self, task: Task) -> Head:
        """The cache without residuals, at the alpha and beta of training."""
        texts, labels = task.texts.features, task.samples.labels
        keys = tip_adapter.make_keys(task)
        number = count_channels(self.settings.channels, texts.shape[1])
        return {
            "channels": choose_channels(texts, number, self.settings.variance),
            "keys": keys,
            "labels": labels,
            "residual": texts.new_zeros(len(texts), number),
            "weights": keys.new_ones(len(keys)),
            "alpha": keys.new_tensor(self.settings.initial_alpha),
            "beta": keys.new_tensor(1.0),
        }

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """The texts and the cache, with their residuals."""

        def logits(images: Images) -> Tensor:
            vectors, keys = add_residual(head, texts.features)
            values = tip_adapter.soft_labels(head["labels"], head["weights"], texts.features)
            pooled = unit(images.pooled)
            cached = tip_adapter.look_up(pooled @ keys.T, values, head["beta"])
            return texts.logit_scale * pooled @ vectors.T + head["alpha"] * cached  # (B, K)

        return logits

    def finish(self, learner: Module, task: Task) -> Head:
        """The trained residuals, with alpha and beta chosen for them."""
        head = {name: tensor.detach() for name, tensor in learner.state_dict().items()}
        vectors, keys = add_residual(head, task.texts.features)
        values = [tip_adapter.soft_labels(head["labels"], head["weights"], vectors)]
        beta, alpha, _ = tip_adapter.search(
            task, vectors, values, lambda pooled: pooled @ keys.T,
            alphas=self.settings.alpha, betas=self.settings.beta,
        )  # fmt: skip
        return head | {"alpha": keys.new_tensor(alpha), "beta": keys.new_tensor(beta)}

    def settings_without_choice(self, shots: int) -> APETSettings:
        """The alpha and beta of training, and the last epoch."""
        constants = {"alpha": [self.settings.initial_alpha], "beta": [1.0], "select": "last"}
        return self.settings.model_copy(update=constants)

    def work(self, size: Size) -> Work:
        """The search, and the training of the residuals."""
        alphas, betas = len(self.settings.alpha), len(self.settings.beta)
        searched = tip_adapter.cache_work(super().work(size), size, alphas=alphas, betas=betas)
        steps, batch = self.settings.steps(size), self.settings.batch(size)
        step = 6 * size.images * (size.shape.dim + size.classes)  # there and back, each image
        numbers = 3 * size.images * size.shape.dim + 4 * batch * size.images
        residual = size.classes * count_channels(self.settings.channels, size.shape.dim) * SINGLE
        return searched._replace(
            head_bytes=searched.head_bytes + residual,
            flops=searched.flops + steps * batch * step,
            part_bytes=searched.part_bytes + numbers * SINGLE,
        )


def add_residual(head: Head, texts: Tensor) -> tuple[Tensor, Tensor]:
    """The texts (K, D) and the keys (M, D), with the residuals of their classes."""
    added = texts.new_zeros(texts.shape).index_copy(1, head["channels"], head["residual"])
    return texts + added, head["keys"] + added[head["labels"]]

"""Tip-Adapter: the shots as a cache (Zhang et al., ECCV 2022, arXiv 2207.09519)."""

from vtclip.cost import Size, Work
from vtclip.methods._cache import Alphas, Betas, cache_work, look_up, make_keys, search, soft_labels
from vtclip.methods.base import Classifier, Head, Images, Method, Task, Tensor, Texts, unit
from vtclip.settings import Settings


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

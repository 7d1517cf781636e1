"""SS-Text: the sum of texts and shots (Silva-Rodriguez et al., 2025, arXiv 2506.17500)."""

from pydantic import Field

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, Head, Method, Task, Tensor, Texts, unit
from vtclip.settings import Settings

LARGEST_NUMBER = 1000  # of shots by which a class's sum is weighted: lambda is 1e-3 or more


class SSTextSettings(Settings):
    """Settings of SS-Text."""

    images: float = Field(1.0, ge=0)
    """factor on the shots' part; 0 for zero-shot, 1 is the paper's"""


class SSText(Method):
    """logits = scale * cos(pooled, vector), with vector_k = text_k + weight_k * sum of shots of k.

    The vectors minimise a linear loss on the M shots plus lambda / 2 |vector - text|^2, so that
    weight_k = scale / (M lambda). Here lambda is 1 / M, and 1e-3 at least.
    """

    title = "SS-Text"
    settings_type = SSTextSettings
    settings: SSTextSettings

    def initial_head(self, task: Task) -> Head:
        """The sum, in closed form."""
        texts, labels = task.texts, task.samples.labels
        shots = unit(task.samples.pooled[:, 0])  # (M, D)
        sums = texts.features.new_zeros(texts.features.shape).index_add(0, labels, shots)
        inverse_lambda = self.inverse_lambda(labels.bincount(minlength=len(sums)))
        part = self.settings.images * texts.logit_scale * inverse_lambda / len(labels)
        return {"vectors": texts.features + part[:, None] * sums}

    def inverse_lambda(self, shots: Tensor) -> Tensor:
        """1 / lambda of each class, from its number of shots, (K,)."""
        return shots.sum().clamp(max=LARGEST_NUMBER).expand(len(shots))

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Classification by the vectors."""
        return base.cosine_classifier(head["vectors"], texts)

    def work(self, size: Size) -> Work:
        """One pass over the shots."""
        weights = size.classes * size.shape.dim
        plain = super().work(size)
        return plain._replace(
            flops=2 * size.images * size.shape.dim,
            part_bytes=(4 * weights + 2 * size.images * size.shape.dim) * SINGLE,
            head_bytes=weights * SINGLE,
        )

"""SS-Text: the sum of texts and shots (Silva-Rodriguez et al., MICCAI 2025, arXiv 2506.17500)."""

from pydantic import Field

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods.base import Classifier, Head, Method, Task, Texts, cosine_classifier, unit
from vtclip.settings import Settings


class SSTextSettings(Settings):
    """Settings of SS-Text."""

    images: float = Field(
        default=1.0,
        ge=0,
        description="factor on the shots' part; 0 for zero-shot, 1 is the paper's",
    )


class SSText(Method):
    """logits = scale * cos(pooled, text + scale * (n / M) * the sum of the class's shots).

    It minimises a linear loss on the shots, with |vector - text|^2 weighted by 1 / n; n of the M
    shots are the class's. A class without a shot keeps its text.
    """

    title = "SS-Text"
    settings_type = SSTextSettings
    settings: SSTextSettings

    def initial_head(self, task: Task) -> Head:
        """The sum, in closed form."""
        assert task.train is not None
        texts, labels = task.texts, task.train.labels
        shots = unit(task.train.pooled[:, 0])  # (M, D)
        sums = texts.features.new_zeros(texts.features.shape).index_add(0, labels, shots)
        share = labels.bincount(minlength=len(sums)) / len(labels)  # (K,)
        part = self.settings.images * texts.logit_scale * share[:, None]
        return {"vectors": texts.features + part * sums}

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Classification by the summed vectors."""
        return cosine_classifier(head["vectors"], texts)

    def work(self, size: Size) -> Work:
        """One pass over the shots."""
        weights = size.classes * size.shape.dim
        plain = super().work(size)
        return plain._replace(
            flops=2 * size.images * size.shape.dim,
            part_bytes=(4 * weights + 2 * size.images * size.shape.dim) * SINGLE,
            head_bytes=weights * SINGLE,
        )

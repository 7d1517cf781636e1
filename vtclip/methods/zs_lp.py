"""ZS-LP: a linear probe from the texts on (Silva-Rodriguez et al., CVPR 2024, arXiv 2312.12730)."""

from vtclip.cost import Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, DasslRecipe, Head, Method, Task, Texts, cosine_head_work


class ZSLPSettings(DasslRecipe):
    """Settings of ZS-LP; the defaults are the paper's, the same for all datasets and shots."""

    learning_rate: base.LearningRate = 0.1
    weight_decay: base.WeightDecay = 0.0
    batch_size: base.BatchSize = 256
    epochs: base.EpochsByShots = 300
    epochs_of: base.EpochsOf = {}


class ZSLP(Method):
    """logits = scale * cos(pooled, vectors), from the text means on.

    The text means are as long as CLIP makes them: the learning rate is for vectors of that length.
    """

    title = "ZS-LP"
    settings_type = ZSLPSettings
    settings: ZSLPSettings
    reads_views = True
    trained = ("vectors",)

    def initial_head(self, task: Task) -> Head:
        """The text means: the zero-shot logits."""
        assert task.texts.means is not None
        return {"vectors": task.texts.means}

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Classification by the trained vectors."""
        return base.cosine_classifier(head["vectors"], texts)

    def work(self, size: Size) -> Work:
        """The vectors' training."""
        return cosine_head_work(super().work(size), size, self.settings)

"""KgCoOp: CoOp, kept near the hand-written prompts (Yao et al., CVPR 2023, arXiv 2303.13283)."""

from pydantic import Field

from vtclip.methods import base
from vtclip.methods.base import Classifier, Head, Module, Task, Template, Tensor, nearest
from vtclip.methods.coop import CoOp, CoOpSettings, Words, encode_template, make_encoder


class KgCoOpSettings(CoOpSettings):
    """Settings of KgCoOp; the defaults are the authors', the same for all numbers of shots."""

    words: Words | None = "a photo of a"
    """words that the context starts from; null for `context` random ones"""
    batch_size: base.BatchSize = 128
    epochs: base.EpochsByShots = 100
    epochs_of: base.EpochsOf = {}
    pull: float = Field(8.0, ge=0)
    """factor on the mean distance, 1 - cosine, between the texts of the learned words and those of
    the hand-written prompts; 0 for CoOp"""
    template: Template | None = Field(None, examples=["a photo of a {}."])
    """the hand-written prompt, with {} for the class name; left out, the texts of the dataset"""
    template_of: dict[str, Template] = {
        "dtd": "a photo of a {}, a type of texture.",
        "imagenet": "a photo of a {}.",
    }
    """dataset -> its hand-written prompt, in place of `template`; left out, the default applies
    only where `template` is left out too"""


class KgCoOp(CoOp):
    """CoOp with pull * (1 - mean over classes of cos(text, hand-written text)) in the loss."""

    title = "KgCoOp"
    settings_type = KgCoOpSettings
    settings: KgCoOpSettings

    def learner(self, head: Head, task: Task) -> Module:
        """CoOp's context, with the pull as a penalty."""
        from vtclip.nn.learner import Learner

        encode = make_encoder(task.prompts, len(head["context"]))
        written = encode_template(self.settings.template, task)  # (K, D)
        texts: list[Tensor] = []  # of this step: the penalty does not read the prompts once more

        def classify(head: Head) -> Classifier:
            texts[:] = [encode(head["context"])]
            return nearest(texts[0], task.texts)

        def penalise(head: Head) -> Tensor:
            cosines = (texts[0] * written).sum(dim=1)  # (K,)
            return self.settings.pull * (1 - cosines.mean())

        return Learner(head, ("context",), classify, penalise)

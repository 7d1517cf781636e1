"""CoOp: learned words before the class name (Zhou et al., IJCV 2022, arXiv 2109.01134)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vtclip.methods.base import Head, Images, Method, Recipe, Task, Texts

if TYPE_CHECKING:
    from torch import Tensor, nn


class CoOpSettings(Recipe):
    """Settings of CoOp; the defaults are the paper's, but for the warm-up (docs/methods.md)."""

    context: int = Field(
        default=16,
        ge=1,
        description="number of learned words before the class name, 1 or more",
        examples=[16],
    )
    words: str | None = Field(
        default=None,
        description="words that the context starts from, in place of `context` random ones",
        examples=["a photo of a"],
    )
    optimiser: Literal["adamw", "sgd"] = Field(
        default="sgd", description="adamw, or sgd (momentum 0.9)", examples=["sgd"]
    )
    learning_rate: float | None = Field(
        default=0.002, gt=0, description="the largest learning rate, above 0", examples=[0.002]
    )
    weight_decay: float = Field(
        default=0.0005, ge=0, description="weight decay, 0 or more", examples=[0.0005]
    )
    warmup: float = Field(
        default=0.02,  # one epoch of fifty
        ge=0,
        lt=1,
        description="share of the steps in which the learning rate rises, 0 to below 1",
        examples=[0.02],
    )


class CoOp(Method):
    """logits = scale * cos(pooled, text tower([context] class name.)).

    The trained context is kept with the texts that it makes: predicting needs no text tower.
    """

    settings_type = CoOpSettings
    reads_views = True
    reads_text_tower = True

    def start(self, task: Task) -> Head:
        """A context of small random vectors, or of words."""
        import torch

        assert task.prompts is not None
        assert isinstance(self.settings, CoOpSettings)
        tower = task.prompts.tower
        if self.settings.words is not None:
            return {"context": tower.embed_words(self.settings.words)}
        torch.manual_seed(task.seed)
        context = 0.02 * torch.randn(self.settings.context, tower.width)  # the paper's spread
        return {"context": context.to(task.texts.features.device)}

    def learner(self, head: Head, task: Task) -> nn.Module:
        """The context before every class name, through the frozen text tower."""
        from vtclip.nn.learner import Learner

        assert task.prompts is not None
        encode = task.prompts.tower.prompt_encoder(task.prompts.class_names, len(head["context"]))
        return Learner(
            head,
            ("context",),
            lambda head: _nearest(encode(head["context"]), task.texts.logit_scale),
        )

    def finish(self, learner: nn.Module, task: Task) -> Head:
        """The context and the texts that it makes."""
        assert task.prompts is not None
        context = learner.get_parameter("context").detach()
        encode = task.prompts.tower.prompt_encoder(task.prompts.class_names, len(context))
        return {"context": context, "texts": encode(context).detach()}

    def classifier(self, head: Head, texts: Texts) -> Callable[[Images], Tensor]:
        """The nearest of the texts that the context made."""
        return _nearest(head["texts"], texts.logit_scale)


def _nearest(features: Tensor, logit_scale: float) -> Callable[[Images], Tensor]:
    texts = Texts(features, logit_scale)
    return lambda images: texts.logits(images.pooled)

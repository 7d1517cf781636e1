"""CoCoOp: CoOp's words, shifted by each image (Zhou et al., CVPR 2022, arXiv 2203.05557)."""

from collections.abc import Callable

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods import base
from vtclip.methods.base import (
    Classifier,
    Head,
    Images,
    Module,
    Prompts,
    Task,
    Tensor,
    Texts,
    unit,
)
from vtclip.methods.coop import CoOp, CoOpSettings, Words, make_encoder

REDUCTION = 16  # of the net's hidden layer


class CoCoOpSettings(CoOpSettings):
    """Settings of CoCoOp; the defaults are the authors', the same for all numbers of shots."""

    words: Words | None = "a photo of a"
    """words that the context starts from; null for `context` random ones"""
    batch_size: base.BatchSize = 1
    epochs: base.EpochsByShots = 10
    epochs_of: base.EpochsOf = {}


class CoCoOp(CoOp):
    """logits = scale * cos(pooled, text tower([context + net(pooled)] class name.)).

    An image has its own prompts, one for each class: predicting reads them all. What the prompts
    of an image share, their start and the shifted context, goes through the text tower once.
    """

    title = "CoCoOp"
    settings_type = CoCoOpSettings
    settings: CoCoOpSettings
    predicts_with_tower = True
    trained = ("context", "inner", "inner_bias", "outer", "outer_bias")

    def initial_head(self, task: Task) -> Head:
        """CoOp's context, and a net of two layers with PyTorch's initial weights."""
        import torch

        context = super().initial_head(task)["context"]
        torch.manual_seed(task.seed)
        width, dim = context.shape[1], task.texts.features.shape[1]
        hidden = max(1, dim // REDUCTION)
        inner, outer = torch.nn.Linear(dim, hidden), torch.nn.Linear(hidden, width)
        weights = (inner.weight, inner.bias, outer.weight, outer.bias)
        named = zip(self.trained[1:], weights, strict=True)
        return {"context": context} | {
            name: weight.detach().to(context.device) for name, weight in named
        }

    def learner(self, head: Head, task: Task) -> Module:
        """Context and net, through the frozen text tower."""
        from vtclip.nn.learner import Learner

        encode, scale = make_encoder(task.prompts, len(head["context"])), task.texts.logit_scale
        return Learner(head, self.trained, lambda head: _classify(head, encode, scale))

    def finish(self, learner: Module, task: Task) -> Head:
        """Context and net."""
        return learner.state_dict()

    def for_classes(self, head: Head, prompts: Prompts | None) -> Head:
        """The head itself: it does not depend on the classes."""
        return head

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Classification by the prompts of each image."""
        return _classify(head, make_encoder(texts.made_of, len(head["context"])), texts.logit_scale)

    def work(self, size: Size) -> Work:
        """Every image takes all classes' prompts through the text tower, to predict as well."""
        plain, recipe = super().work(size), self.settings
        prompts = size.classes * size.shape.prompt_flops
        # Validation shots are measured after epochs, and once more at the end.
        measured = size.val_images * (recipe.measurements(size) + 1)
        dim = size.shape.dim
        return plain._replace(
            flops=(recipe.steps(size) * recipe.batch(size) + measured / 2) * prompts,
            predict_flops=prompts / 2,
            head_bytes=2 * dim * dim / REDUCTION * SINGLE,
        )


def _classify(head: Head, encode: Callable[[Tensor], Tensor], logit_scale: float) -> Classifier:
    import torch
    from torch.nn.functional import linear

    def logits(images: Images) -> Tensor:
        pooled = unit(images.pooled)  # (B, D)
        hidden = linear(pooled, head["inner"], head["inner_bias"]).relu()
        shifts = linear(hidden, head["outer"], head["outer_bias"])  # (B, width)
        rows = [
            encode(head["context"] + shift) @ image  # (K, D) texts of one image
            for shift, image in zip(shifts, pooled, strict=True)
        ]
        return logit_scale * torch.stack(rows)  # (B, K)

    return logits

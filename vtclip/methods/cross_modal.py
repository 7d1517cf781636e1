"""Cross-modal linear probe: texts are shots too (Lin et al., CVPR 2023, arXiv 2301.06267)."""

import math
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, Head, Method, Task, Tensor, Texts, nearest, unit
from vtclip.settings import LARGEST, Settings

if TYPE_CHECKING:
    import torch

CHECK = 100  # iterations between two measurements on the validation shots
WARMUP, LOWEST = 50, 1e-5  # iterations in which the learning rate rises, and that of the first
STEP = 20  # operations of AdamW on a weight, by the time that they take


class CrossModalSettings(Settings):
    """Settings of the cross-modal linear probe. The defaults are the paper's."""

    learning_rate: base.Positives = [1e-4, 1e-3]
    """largest learning rates to choose from on the validation shots, above 0"""
    weight_decay: base.NonNegatives = Field([0.0, 1e-4, 1e-2], examples=[[0.0, 0.01]])
    """weight decays to choose from on the validation shots, 0 or more"""
    batch_size: list[Annotated[int, Field(ge=2, le=LARGEST)]] = Field([8, 32], min_length=1)
    """images and texts a step, half of each, to choose from on the validation shots, 2 or more"""
    iterations: int = Field(12_800, ge=1, le=LARGEST)
    """steps of a training"""
    select: Literal["last", "val"] = "val"
    """the iteration that is kept: the last, or the best on the validation shots of the first and
    every hundredth after it"""
    text_share: float = Field(0.0, ge=0, le=1, examples=[0.5])
    """share of the class texts in the weights after training, 0 to 1 (WiSE-FT: 0.5)"""


class CrossModal(Method):
    """logits = scale * f @ weight.T, with weights that start as the class texts.

    Each step takes half of its batch from the views of the shots and half from the texts of the
    classes, one for each template, all of unit length and all with their class as label. Where
    there are fewer than half a batch, some come twice. The learning rate rises for 50 iterations
    and falls with a cosine. After the first iteration the weights are still the class texts, to
    1e-5, so that zero-shot is among those to choose from.
    """

    title = "Cross-modal probe"
    settings_type = CrossModalSettings
    settings: CrossModalSettings
    reads_views = True
    tunes = True

    def initial_head(self, task: Task) -> Head:
        """The weights that are best on the validation shots, of equals the first.

        The smallest batch comes first, then the fewest iterations, then the smallest learning rate.
        """
        sizes = sorted(set(self.settings.batch_size))
        heads = (head for size in sizes for head in self._descend(task, size))
        if self.settings.select == "last" and len(sizes) * len(self._pairs()) == 1:
            return next(heads)
        return base.choose_head(heads, lambda head, texts: nearest(head["weight"], texts), task)

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Classification by the weights, averaged with the texts by `text_share`."""
        share = self.settings.text_share
        weight = (1 - share) * head["weight"] + share * texts.features
        return nearest(weight, texts)

    def settings_without_choice(self, shots: int) -> CrossModalSettings:
        """One of the paper's combinations, and the last iteration."""
        one = {"learning_rate": [1e-3], "weight_decay": [0.01], "batch_size": [32]}
        return self.settings.model_copy(update=one | {"select": "last"})

    def work(self, size: Size) -> Work:
        """A training for each combination; those of one batch size go side by side."""
        weights, batches = size.classes * size.shape.dim, set(self.settings.batch_size)
        variants, iterations = len(self._pairs()), self.settings.iterations
        checks = math.ceil(iterations / CHECK) if self.settings.select == "val" else 1
        training = iterations * sum(4 * batch + STEP for batch in batches)
        rows = size.images * size.views * size.shape.dim
        plain = super().work(size)
        return plain._replace(
            flops=variants * weights * (training + len(batches) * checks * 2 * size.val_images),
            # Weights, gradients, AdamW's two moments; the best so far, and the one measured.
            part_bytes=(6 * variants * weights + 3 * rows) * SINGLE
            + 3 * variants * max(batches) * size.classes * SINGLE,
            predict_flops=2 * weights,
            head_bytes=weights * SINGLE,
        )

    def _pairs(self) -> list[tuple[float, float]]:
        """Learning rates and weight decays, the smallest first."""
        rates, decays = set(self.settings.learning_rate), set(self.settings.weight_decay)
        return list(product(sorted(rates), sorted(decays)))

    def _descend(self, task: Task, batch_size: int) -> Iterator[Head]:
        """The heads of all learning rates and weight decays, at each iteration that counts."""
        import torch

        from vtclip.nn.learner import AdamW

        iterations = self.settings.iterations
        texts, text_labels = list_texts(task.texts)
        rows, image_labels = base.stack_views(task.samples)
        images = unit(rows)  # (N, D)
        pairs, checks_often = self._pairs(), self.settings.select == "val"
        weights = task.texts.features.repeat(len(pairs), 1, 1)  # (pairs, K, D): side by side
        optimisers = [
            AdamW([weight], weight_decay=decay, epsilon=1e-8)
            for weight, (_, decay) in zip(weights, pairs, strict=True)
        ]
        generator, half = torch.Generator().manual_seed(task.seed), batch_size // 2
        image_rows = draw_rows(len(images), iterations, half, generator).to(images.device)
        text_rows = draw_rows(len(texts), iterations, batch_size - half, generator).to(texts.device)
        # The gradient in closed form takes the probes of all pairs in one batched product; autograd
        # would record and walk back a graph in each of the 12,800 iterations.
        for done, (image_row, text_row) in enumerate(zip(image_rows, text_rows, strict=True), 1):
            batch = torch.cat([images[image_row], texts[text_row]])  # (B, D)
            labels = torch.cat([image_labels[image_row], text_labels[text_row]])
            gradients = gradient(weights, batch, labels, task.texts.logit_scale)
            for optimiser, each, (top, _) in zip(optimisers, gradients, pairs, strict=True):
                optimiser.parameters[0].grad = each
                optimiser.step(learning_rate_at(done - 1, top, iterations))
            if (done - 1) % CHECK == 0 if checks_often else done == iterations:
                for weight, (top, decay) in zip(weights, pairs, strict=True):
                    yield {
                        "weight": weight.clone(),
                        "learning_rate": torch.tensor(top),
                        "weight_decay": torch.tensor(decay),
                        "batch_size": torch.tensor(batch_size),
                        "iteration": torch.tensor(done),
                    }


def list_texts(texts: Texts) -> tuple[Tensor, Tensor]:
    """The texts of all templates (K * P, D), of unit length, and their labels."""
    import torch

    prompts = base.list_prompts(texts)  # (K, P, D)
    labels = torch.arange(len(prompts), device=prompts.device)
    return prompts.flatten(0, 1), labels.repeat_interleave(prompts.shape[1])


def gradient(weights: Tensor, batch: Tensor, labels: Tensor, scale: float) -> Tensor:
    """The gradient of a batch's mean cross-entropy by the weights of several probes, (P, K, D)."""
    from torch.nn.functional import one_hot

    shares = (scale * batch @ weights.mT).softmax(dim=2)  # (P, B, K)
    error = (shares - one_hot(labels, weights.shape[1])) / len(batch)
    return scale * error.mT @ batch


def draw_rows(number: int, iterations: int, size: int, generator: "torch.Generator") -> Tensor:
    """Rows for each iteration, (iterations, size): all in random order, and all over again."""
    import torch

    rounds = math.ceil(iterations * size / number)
    rows = torch.cat([torch.randperm(number, generator=generator) for _ in range(rounds)])
    return rows[: iterations * size].view(iterations, size)


def learning_rate_at(step: int, top: float, iterations: int) -> float:
    """The learning rate of a step: a line up to `top`, then half a cosine of all iterations.

    The authors' cosine is not shortened by the warm-up, and so ends a little above 0.
    """
    if step < WARMUP:
        return top * step / WARMUP if step else min(LOWEST, top)
    return top / 2 * (1 + math.cos(math.pi * (step - WARMUP) / iterations))

"""VT-CLIP: texts that attend to the image (arXiv 2112.02399)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vtclip.cost import BATCH, SINGLE, Shape, Size, Work
from vtclip.methods.base import Head, Method, Recipe, StopAtLoss, Task, Texts
from vtclip.settings import misfit

if TYPE_CHECKING:
    from vtclip.nn.visual_guided import VisualGuidedHead


class VTClipSettings(Recipe):
    """Settings of VT-CLIP. The paper does not give them: see `docs/method.md`."""

    stop_at_loss: StopAtLoss = 0.0003

    blocks: int = Field(1, ge=1)
    """blocks, 1 or more"""
    heads: int = Field(8, ge=1)
    """attention heads, a divisor of the features' width"""
    self_attention: bool = True
    """whether the texts attend to one another first"""
    feed_forward: float = Field(4.0, ge=0, le=1000)
    """hidden width of the feed-forward part as a multiple of the features' width, 0 for none, 1000
    at most"""
    norm: Literal["pre", "post"] = "pre"
    """norms before each part (pre), or after each sum (post), which does not start at zero-shot"""
    residual: Literal["zero", "gate"] = "zero"
    """how the parts start at nothing: last projections at zero, or a learned gate at zero"""
    residual_weight: float = Field(1.0, gt=0)
    """fixed weight of each part, above 0"""
    dropout: float = Field(0.0, ge=0, lt=1, examples=[0.1])
    """dropout in each part, 0 to below 1"""
    train_classes: int | None = Field(None, ge=2, examples=[100])
    """how many texts a training step guides for each image, 2 or more: its own class's and those
    nearest to it by zero-shot; left out, or where there are no more, all"""


class VTClip(Method):
    """logits = scale * cos(pooled, texts of this image)."""

    title = "VT-CLIP"
    settings_type = VTClipSettings
    settings: VTClipSettings
    reads_views = True
    reads_spatial = True
    names_new_classes = True
    gpu_precision = "bfloat16"

    def initial_head(self, task: Task) -> Head:
        """Fresh weights, whose logits are the zero-shot logits."""
        import torch

        assert task.samples.spatial is not None
        torch.manual_seed(task.seed)
        return self._build(task.texts, width=task.samples.spatial.shape[-1]).state_dict()

    def classifier(self, head: Head, texts: Texts) -> "VisualGuidedHead":
        """The guided texts' similarity with the pooled feature."""
        built = self._build(texts, width=len(head["guide.spatial_norm.weight"]))
        built.load_state_dict(head)
        return built

    def learner(self, head: Head, task: Task) -> "VisualGuidedHead":
        """The whole module is trained."""
        return self.classifier(head, task.texts)

    def check(self, shape: Shape) -> None:
        """The heads share the features' width evenly; a feed-forward part has a hidden unit.

        A part of the classes is trained in one block alone: in a second one they would attend to
        one another, while all attend to one another in prediction.
        """
        heads, ratio, dim = self.settings.heads, self.settings.feed_forward, shape.dim
        if dim % heads:
            divisors = [number for number in range(1, dim + 1) if dim % number == 0]
            near = sorted(divisors, key=lambda number: abs(number - heads))[:3]
            raise misfit(
                "heads",
                f"it does not divide the features' width {dim}",
                found=heads,
                expected=f"a divisor of {dim}, such as {', '.join(map(str, sorted(near)))}",
                write=near[0],
            )
        if self.settings.train_classes is not None and self.settings.blocks > 1:
            raise misfit(
                "train_classes",
                f"it needs one block, and there are {self.settings.blocks}",
                found=self.settings.train_classes,
                expected="null with several blocks, or `blocks: 1`",
                write=None,
            )
        if ratio > 0 and round(ratio * dim) < 1:
            raise misfit(
                "feed_forward",
                f"of the features' width {dim} it leaves no hidden unit",
                found=ratio,
                expected=f"0 for none, or 1 / {dim} and more",
                write=4.0,
            )

    def work(self, size: Size) -> Work:
        """The layers' products; three times as many in training, in which fewer pairs may be.

        A pair is an image and a class. The attention's own products, a hundredth, do not count.
        """
        settings, dim = self.settings, size.shape.dim
        blocks, ratio = settings.blocks, settings.feed_forward
        width = blocks * (2 + 2 * ratio)
        pair = 2 * width * dim**2
        image = 4 * blocks * size.shape.tokens * size.shape.width * dim  # its keys and values
        texts = 2 * blocks * (5 if settings.self_attention else 1) * size.classes * dim**2
        trained = min(settings.train_classes or size.classes, size.classes)
        steps, batch = settings.steps(size), settings.batch(size)
        # What a pair's layers make, before the classes are split (`vtclip.nn.chunks`).
        pair_bytes = (2 + width) * dim * SINGLE
        attentions = 8 if settings.self_attention else 4
        weights = blocks * (attentions + 2 * ratio) * dim**2 * SINGLE
        predict = image + size.classes * pair
        measured = settings.measurements(size) * size.val_images
        training = 3 * steps * (batch * (image + trained * pair) + texts)
        plain = super().work(size)
        return plain._replace(
            flops=training + measured * predict,
            part_bytes=batch * trained * pair_bytes + 6 * weights,  # with AdamW's state
            predict_flops=predict,
            head_bytes=weights,
            batch_bytes=BATCH * size.classes * pair_bytes,
        )

    def _build(self, texts: Texts, width: int) -> "VisualGuidedHead":
        from vtclip.nn.chunks import memory_for_pairs
        from vtclip.nn.visual_guided import VisualGuidedHead, VisualGuidedText

        guide = VisualGuidedText(
            texts.features.shape[1],
            spatial_dim=width,
            blocks=self.settings.blocks,
            heads=self.settings.heads,
            self_attention=self.settings.self_attention,
            feed_forward=self.settings.feed_forward,
            norm=self.settings.norm,
            residual=self.settings.residual,
            residual_weight=self.settings.residual_weight,
            dropout=self.settings.dropout,
            memory=memory_for_pairs(texts.features.device),
        )
        return VisualGuidedHead(guide, texts, train_classes=self.settings.train_classes)

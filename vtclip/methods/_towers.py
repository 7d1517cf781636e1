"""The base of methods that train the towers: a head is a change to their weights."""

from __future__ import annotations

from typing import Annotated, ClassVar, cast

from pydantic import Field

from vtclip.cost import BATCH, SINGLE, Shape, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, Head, Images, Method, Module, Task, Tensor, Texts
from vtclip.settings import refusal
from vtclip.task import Change, Towers

Share = Annotated[float, Field(gt=0, le=1)]
StepsPerShot = Annotated[base.PositiveInt, Field(description="steps of a training, per shot")]

PROMPT_TOKENS = 17  # of "a photo of a" and a name; the paper's datasets have 8 to 16
# Numbers that a token leaves in a block for the backward pass, and what passing back takes, as
# multiples of its width: norms, q, k, v, their masked inputs, attention, and QuickGELU's eight.
KEPT = 24


class TowerRecipe(base.Training):
    """The settings of a training of so many steps per shot, through both towers."""

    lowest_rate: ClassVar[float] = 1e-6
    learning_rate: base.LearningRate = 2e-4
    last_batch: base.LastBatch = "keep"
    warmup: base.Warmup = 0.0
    steps_per_shot: StepsPerShot
    template: base.Template = "a photo of a {}."
    """the prompt of all classes, with {} for the name, in place of the dataset's"""
    template_of: dict[str, base.Template] = {}
    """dataset -> its prompt, in place of `template`"""
    crop: tuple[Share, Share] = (0.08, 1.0)
    """smallest and largest share of an image's area in the crops that it is trained on, a new one
    in each epoch"""
    mirror: bool = True
    """mirror half of these crops"""

    def steps_at(self, shots: int, images: int) -> int:
        """As many for each shot, whatever the number of classes."""
        return self.steps_per_shot * shots


class TowerMethod(Method):
    """logits = scale * cos(changed image tower(pixels), changed text tower(prompts)).

    A subclass gives the tensors that are trained in `initial_head`, what they change in `change`.
    """

    settings_type = TowerRecipe
    settings: TowerRecipe
    reads_images = True
    reads_text_tower = True
    predicts_with_tower = True
    names_new_classes = True
    gpu_precision = "bfloat16"

    def change(self, head: Head, towers: Towers, *, training: bool) -> Change:
        """The change that a head makes to the towers, in training or to classify.

        By default its tensors take the place of weights: `/` in a name is a point there.
        """
        return Change({name.replace("/", "."): tensor for name, tensor in head.items()})

    def learner(self, head: Head, task: Task) -> Module:
        """The head's tensors, trained through both towers."""
        from vtclip.nn.learner import Learner

        texts, towers = task.texts, towers_of(task.texts)

        def classify(head: Head) -> Classifier:
            def logits(images: Images) -> Tensor:
                if images.labels is None:
                    return self.classifier(head, texts)(images)
                change = self.change(head, towers, training=True)
                classes = self._read_classes(change, texts)
                return classes.logits(self._encode(towers, images, change))

            return logits

        return Learner(head, tuple(head), classify)

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Classification by the changed towers, which read the classes once."""
        towers = towers_of(texts)
        classes = self._read_classes(self.change(head, towers, training=False), texts)

        def logits(images: Images) -> Tensor:
            # Made for each batch: many heads share one backbone.
            change = self.change(head, towers, training=False)
            return classes.logits(self._encode(towers, images, change))

        return logits

    def check(self, shape: Shape) -> None:
        """Both towers need attention that can be reached."""
        towers = {"image": shape.image_blocks, "text": shape.text_blocks}
        for tower, blocks in towers.items():
            if not blocks:
                raise refusal(
                    "backbone.name",
                    f"{self.title} trains the blocks of attention of both towers, and the {tower} "
                    "tower has none that can be reached: a ResNet has none, and those of Hugging "
                    "Face's text towers and of some of timm's image towers are of other kinds",
                    found=f"0 blocks in the {tower} tower",
                    expected="two transformers, as of ViT-B-16-quickgelu, or `methods:` without "
                    f"{self.title}",
                )

    def work(self, size: Size) -> Work:
        """A step takes a batch of images and all classes' prompts through the towers and back."""
        shape, recipe = size.shape, self.settings
        batch = recipe.batch(size)
        own = shape.prompt_flops * PROMPT_TOKENS / 12
        step = 2 * batch * shape.image_flops + size.classes * own
        # Validation shots are measured after epochs, and once more at the end.
        measured = size.val_images * (recipe.measurements(size) + 1) if size.images else 0
        numbers = KEPT * (
            batch * shape.image_tokens * shape.image_width * shape.image_blocks
            + size.classes * PROMPT_TOKENS * shape.text_width * shape.text_blocks
        )
        side = 2 * shape.image_size  # of a picture in memory: 4 bytes a pixel, and often 4:3
        pictures = size.images * 4 * side * side * 4 / 3
        pictures += size.val_images * 4 * shape.image_size**2  # the test view alone
        return (
            super()
            .work(size)
            ._replace(
                rows=0,
                flops=recipe.steps(size) * step + measured * shape.image_flops,
                part_bytes=numbers * SINGLE + pictures,
                predict_flops=shape.image_flops,
                head_bytes=size.classes * shape.dim * SINGLE,
                batch_bytes=8 * BATCH * shape.image_tokens * shape.image_width * SINGLE,
            )
        )

    def _encode(self, towers: Towers, images: Images, change: Change) -> Tensor:
        assert images.pixels is not None
        return towers.encode_images(images.pixels, change)  # (B, D)

    def _read_classes(self, change: Change, texts: Texts) -> Texts:
        assert texts.made_of is not None
        names, template = texts.made_of.class_names, self.settings.template
        features = towers_of(texts).encode_prompts(names, template, change)
        return Texts(features, texts.logit_scale)


def towers_of(texts: Texts) -> Towers:
    """The towers that a method of this kind is given."""
    assert texts.made_of is not None
    return cast(Towers, texts.made_of.tower)

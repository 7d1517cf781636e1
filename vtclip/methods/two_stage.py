"""2SFS: norms of both towers, then a classifier (Farina et al., CVPR 2025, arXiv 2503.11609)."""

from __future__ import annotations

from vtclip.cost import SINGLE, Size, Work
from vtclip.methods import base
from vtclip.methods._towers import StepsPerShot, TowerMethod, TowerRecipe, towers_of
from vtclip.methods.base import Classifier, Head, Images, Module, Prompts, Task, Tensor, Texts, unit
from vtclip.task import Change, Towers

CLASSES = "classes"  # the head's tensor (K, D) of the second stage


class TwoStageSettings(TowerRecipe):
    """Settings of 2SFS; the defaults are the authors'."""

    steps_per_shot: StepsPerShot = 180  # 0.6 of the authors' 300
    classifier_steps_per_shot: base.PositiveInt = 120
    """steps of the second stage, per shot, 1 or more"""
    all_norms: bool = False
    """train the norms before and after the blocks too, three in a ViT: the authors' code lists
    them, but never gives them a gradient"""


class TwoStage(TowerMethod):
    """The norms of both towers, and then one vector a class, which starts as its adapted text.

    Classes that were not trained on have no vector: the adapted text tower reads their names.
    """

    title = "2SFS"
    settings_type = TwoStageSettings
    settings: TwoStageSettings

    def initial_head(self, task: Task) -> Head:
        """Scales and shifts of the norms, as they are."""
        towers = towers_of(task.texts)
        layers = [name for tower in towers.attention.values() for name in tower]
        blocks = tuple(f"{name.rpartition('.attn.')[0]}." for name in layers)
        return {
            name.replace(".", "/"): weight.clone()
            for name, weight in towers.weights.items()
            if name.rpartition(".")[0] in towers.norms
            and (self.settings.all_norms or name.startswith(blocks))
        }

    def second_learner(self, head: Head, task: Task) -> tuple[Module, TowerRecipe]:
        """The vectors of the classes, while the towers stay as the first stage left them."""
        import torch

        from vtclip.nn.learner import Learner

        towers = towers_of(task.texts)
        with torch.no_grad():
            change = self.change(head, towers, training=False)
            classes = self._read_classes(change, task.texts).features
        steps = {"steps_per_shot": self.settings.classifier_steps_per_shot}
        learner = Learner(
            head | {CLASSES: classes}, (CLASSES,), lambda head: self.classifier(head, task.texts)
        )
        return learner, self.settings.model_copy(update=steps)

    def change(self, head: Head, towers: Towers, *, training: bool) -> Change:
        """The norms in the place of the backbone's."""
        return super().change(self.for_classes(head, None), towers, training=training)

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """By the vectors of the second stage, or by the texts of classes that have none."""
        import torch

        if CLASSES not in head:
            return super().classifier(head, texts)
        towers, classes = towers_of(texts), Texts(unit(head[CLASSES]), texts.logit_scale)

        def logits(images: Images) -> Tensor:
            with torch.no_grad():
                change = self.change(head, towers, training=False)
                pooled = self._encode(towers, images, change)
            return classes.logits(pooled)

        return logits

    def for_classes(self, head: Head, prompts: Prompts | None) -> Head:
        """The norms alone."""
        return {name: tensor for name, tensor in head.items() if name != CLASSES}

    def work(self, size: Size) -> Work:
        """In the second stage images go forward alone."""
        plain, recipe = super().work(size), self.settings
        images = recipe.classifier_steps_per_shot * size.shots * recipe.batch(size)
        return plain._replace(
            flops=plain.flops + images * size.shape.image_flops,
            head_bytes=plain.head_bytes + size.classes * size.shape.dim * SINGLE,
        )

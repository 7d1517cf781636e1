"""CoOp: learned words before the class name (Zhou et al., IJCV 2022, arXiv 2109.01134)."""

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from vtclip.cost import SINGLE, Shape, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, DasslRecipe, Head, Method, Module, Task, Tensor, Texts
from vtclip.settings import misfit

Words = Annotated[str, Field(pattern=r"\S")]
WordsOf = Annotated[
    dict[str, Words],
    Field(
        description="dataset -> its words, in place of `words`; left out, the default applies only "
        "where `words` is left out too",
    ),
]
PROMPT_BYTES = 2e-3  # for each operation of a prompt, kept for the way back; on ViT-B/16's tower
OTHER_TOKENS = 4  # beside the context: start, at least one of a class name, the point, end


class CoOpSettings(DasslRecipe):
    """Settings of CoOp; the defaults are the paper's."""

    context: int = Field(16, ge=1)
    """number of learned words before the class name, 1 or more"""
    words: Words | None = Field(None, examples=["a photo of a"])
    """words that the context starts from, in place of `context` random ones"""
    words_of: WordsOf = {}


class CoOp(Method):
    """logits = scale * cos(pooled, text tower([context] class name.)).

    The trained context is kept with the texts that it makes: predicting needs no text tower.
    """

    title = "CoOp"
    settings_type = CoOpSettings
    settings: CoOpSettings
    reads_views = True
    reads_text_tower = True
    names_new_classes = True
    gpu_precision = "bfloat16"

    def initial_head(self, task: Task) -> Head:
        """A context of small random vectors, or of words."""
        import torch

        assert task.prompts is not None
        tower = task.prompts.tower
        if self.settings.words is not None:
            return {"context": tower.embed_words(self.settings.words)}
        torch.manual_seed(task.seed)
        context = 0.02 * torch.randn(self.settings.context, tower.width)  # the paper's spread
        return {"context": context.to(task.texts.features.device)}

    def learner(self, head: Head, task: Task) -> Module:
        """The context before every class name, through the frozen text tower."""
        from vtclip.nn.learner import Learner

        encode = make_encoder(task.prompts, len(head["context"]))

        def classify(head: Head) -> Classifier:
            return base.nearest(encode(head["context"]), task.texts)

        return Learner(head, ("context",), classify)

    def finish(self, learner: Module, task: Task) -> Head:
        """The context and the texts that it makes."""
        context = learner.get_parameter("context").detach()
        return self.for_classes({"context": context}, task.prompts)

    def for_classes(self, head: Head, prompts: base.Prompts | None) -> Head:
        """The texts that the context makes of these classes."""
        context = head["context"]
        encode = make_encoder(prompts, len(context))
        return {"context": context, "texts": encode(context).detach()}

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Classification by the texts that the context made."""
        return base.nearest(head["texts"], texts)

    def check(self, shape: Shape) -> None:
        """A prompt must not be longer than the text tower reads; a word is one token or more."""
        room = shape.context_length - OTHER_TOKENS
        for key in self.list_lengths():
            found = getattr(self.settings, key)
            words = found.split() if isinstance(found, str) else range(found)
            if len(words) > room:
                raise misfit(
                    key,
                    f"{len(words)} words before a class name make {len(words) + OTHER_TOKENS} "
                    f"tokens or more, and the text tower reads {shape.context_length}",
                    found=found,
                    expected=f"{room} words at most",
                    write=" ".join(found.split()[:room]) if isinstance(found, str) else room,
                )

    def list_lengths(self) -> list[str]:
        """Names of the settings that say how many words stand before a class name."""
        return ["context" if self.settings.words is None else "words"]

    def work(self, size: Size) -> Work:
        """Every step takes all classes' prompts through the text tower and back."""
        plain = super().work(size)
        return plain._replace(
            flops=self.settings.steps(size) * size.classes * size.shape.prompt_flops,
            part_bytes=size.classes * size.shape.prompt_flops * PROMPT_BYTES,
            head_bytes=size.classes * size.shape.dim * SINGLE,  # the texts
        )


def make_encoder(prompts: base.Prompts | None, words: int) -> Callable[[Tensor], Tensor]:
    """A function from a context (words, width) to the classes' texts (K, D) of unit length."""
    assert prompts is not None
    return prompts.tower.prompt_encoder(prompts.class_names, words)


def encode_template(template: str | None, task: Task) -> Tensor:
    """The texts (K, D) of a hand-written prompt, with {} for the class name; None: the task's."""
    if template is None:
        return task.texts.features
    assert task.prompts is not None
    return task.prompts.tower.encode_classes(task.prompts.class_names, [template])

"""CoOp: learned words before the class name (Zhou et al., IJCV 2022, arXiv 2109.01134)."""

from pydantic import Field

from vtclip.cost import SINGLE, Shape, Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, DasslRecipe, Head, Method, Module, Task, Tensor, Texts
from vtclip.settings import misfit

OTHER_TOKENS = 4  # beside the context: start, at least one of a class name, the point, end


class CoOpSettings(DasslRecipe):
    """Settings of CoOp; the defaults are the paper's."""

    context: int = Field(
        default=16,
        ge=1,
        description="number of learned words before the class name, 1 or more",
    )
    words: str | None = Field(
        default=None,
        pattern=r"\S",
        description="words that the context starts from, in place of `context` random ones",
        examples=["a photo of a"],
    )


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

        assert task.prompts is not None
        encode = task.prompts.tower.prompt_encoder(task.prompts.class_names, len(head["context"]))

        def classify(head: Head) -> Classifier:
            return _nearest(encode(head["context"]), task.texts.logit_scale)

        return Learner(head, ("context",), classify)

    def finish(self, learner: Module, task: Task) -> Head:
        """The context and the texts that it makes."""
        context = learner.get_parameter("context").detach()
        return self.for_classes({"context": context}, task.prompts)

    def for_classes(self, head: Head, prompts: base.Prompts | None) -> Head:
        """The texts that the context makes of these classes."""
        assert prompts is not None
        context = head["context"]
        encode = prompts.tower.prompt_encoder(prompts.class_names, len(context))
        return {"context": context, "texts": encode(context).detach()}

    def classifier(self, head: Head, texts: Texts) -> Classifier:
        """Classification by the texts that the context made."""
        return _nearest(head["texts"], texts.logit_scale)

    def check(self, shape: Shape) -> None:
        """A prompt must not be longer than the text tower reads; a word is one token or more."""
        context, words = self.settings.context, self.settings.words
        room = shape.context_length - OTHER_TOKENS
        number = context if words is None else len(words.split())
        if number <= room:
            return
        raise misfit(
            "context" if words is None else "words",
            f"{number} words before a class name make {number + OTHER_TOKENS} tokens or more, and "
            f"the text tower reads {shape.context_length}",
            found=context if words is None else words,
            expected=f"{room} words at most",
            write=room if words is None else " ".join(words.split()[:room]),
        )

    def work(self, size: Size) -> Work:
        """Every step takes all classes' prompts through the text tower and back."""
        plain = super().work(size)
        return plain._replace(
            flops=self.settings.steps(size) * size.classes * size.shape.prompt_flops,
            head_bytes=size.classes * size.shape.dim * SINGLE,  # the texts
        )


def _nearest(features: Tensor, logit_scale: float) -> Classifier:
    texts = Texts(features, logit_scale)
    return lambda images: texts.logits(images.pooled)

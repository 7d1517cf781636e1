"""ProGrad: CoOp, never against zero-shot (Zhu et al., ICCV 2023, arXiv 2205.14865)."""

from typing import Annotated, Literal

from pydantic import Field

from vtclip.cost import Size, Work
from vtclip.methods import base
from vtclip.methods.base import Classifier, Head, Images, Module, Task, Tensor, at_shots, nearest
from vtclip.methods.coop import CoOp, CoOpSettings, Words, WordsOf, encode_template, make_encoder

Share = Annotated[float, Field(ge=0)]
Shares = Share | Annotated[dict[base.PositiveInt, Share], Field(min_length=1)]
FEWER = {1: 1.0, 8: 0.8}  # the README's, for three datasets; what it was chosen on is not stated


class ProGradSettings(CoOpSettings):
    """Settings of ProGrad; the defaults are the authors'."""

    words: Words | None = "a photo of a"
    """the last words of the context at the start, and zero-shot's before the class name; null for
    `context` random ones, and the dataset's texts as zero-shot's"""
    words_of: WordsOf = {
        "oxford_pets": "a type of pet, a photo of a",
        "flowers102": "a type of flower, a photo of a",
        "fgvc_aircraft": "a type of aircraft, a photo of a",
        "dtd": "a texture of",
        "eurosat": "a centered satellite photo of",
        "food101": "a type of food, a photo of",
        "ucf101": "a photo of a person doing",
    }
    removed: Shares = 1.0
    """share that is taken away of what a gradient undoes of zero-shot, 0 or more, or from which
    number of shots on which share; 0 for CoOp"""
    removed_of: dict[str, Shares] = {"flowers102": FEWER, "dtd": FEWER, "eurosat": FEWER}
    """dataset -> its share, in place of `removed`; left out, the default applies only where
    `removed` is left out too"""
    compile: Literal[False] = False
    """false: a step goes back twice, which torch.compile cannot do"""


class ProGrad(CoOp):
    """CoOp, from whose gradient the part is taken away that leads away from zero-shot.

    With g of the cross-entropy with the labels, and z of that with zero-shot's probabilities, a
    step follows g - removed * min(0, g.z) / |z|^2 * z.
    """

    title = "ProGrad"
    settings_type = ProGradSettings
    settings: ProGradSettings

    def initial_head(self, task: Task) -> Head:
        """Zeros, then the words; `fixed` are tokens of the words that are not learned.

        As in the authors' code the context has room for the words, as spaces count them: where a
        word and its comma are two tokens, the last token is not learned.
        """
        import torch

        if self.settings.words is None:
            context = super().initial_head(task)["context"]
            return {"context": context, "fixed": context[:0]}
        assert task.prompts is not None
        number, words = self.settings.context, self.settings.words
        embedded = task.prompts.tower.embed_words(words)  # (tokens, width)
        zeros = embedded.new_zeros(max(0, number - len(words.split())), embedded.shape[1])
        context, fixed = torch.cat([zeros, embedded]).tensor_split([number])
        return {"context": context, "fixed": fixed}

    def learner(self, head: Head, task: Task) -> Module:
        """CoOp's context, whose gradient is changed on its way back."""
        import torch
        from torch.nn.functional import cross_entropy

        from vtclip.nn.learner import Learner

        assert task.train is not None
        encode = make_encoder(task.prompts, len(head["context"]) + len(head["fixed"]))
        words = self.settings.words
        template = None if words is None else f"{words} {{}}."
        zero_shot = nearest(encode_template(template, task), task.texts)
        share = at_shots(self.settings.removed, int(task.train.labels.bincount().max()))

        def classify(head: Head) -> Classifier:
            context = head["context"].view_as(head["context"])  # this step's, to have its own hook
            texts = nearest(encode(torch.cat([context, head["fixed"]])), task.texts)

            def logits(images: Images) -> Tensor:
                made = texts(images)
                if made.requires_grad:
                    loss = cross_entropy(made, zero_shot(images).softmax(dim=1))
                    (general,) = torch.autograd.grad(loss, context, retain_graph=True)
                    context.register_hook(lambda own: remove_conflict(own, general, share))
                return made

            return logits

        return Learner(head, ("context",), classify)

    def finish(self, learner: Module, task: Task) -> Head:
        """The whole context, learned and fixed, and the texts that it makes."""
        import torch

        state = learner.state_dict()
        return self.for_classes(
            {"context": torch.cat([state["context"], state["fixed"]])}, task.prompts
        )

    def list_lengths(self) -> list[str]:
        """Both: the longer one counts."""
        return ["context"] if self.settings.words is None else ["context", "words"]

    def work(self, size: Size) -> Work:
        """CoOp's, with a second way back through the text tower in each step."""
        plain = super().work(size)
        return plain._replace(flops=1.5 * plain.flops)


def remove_conflict(own: Tensor, general: Tensor, share: float) -> Tensor:
    """A gradient without a share of its part against another one; unchanged if it has none."""
    conflict = (own * general).sum().clamp(max=0)
    length = general.square().sum().clamp(min=1e-30)  # squared; of a gradient of zero not 0 / 0
    return own - share * conflict / length * general

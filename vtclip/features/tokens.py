"""How long a prompt is for the text tower: its tokenizer cuts longer ones without a word."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor


class PromptError(ValueError):
    """A prompt that the text tower cannot read."""


class Overlong(NamedTuple):
    """A text that would be cut."""

    place: int
    """which of the texts it is, from 0"""
    length: int
    """its tokens, with those of start and end"""
    longest: int
    """the tokens that the text tower reads"""

    def explain(self, texts: Sequence[str], tower: str) -> str:
        """A sentence for the error, with the text and the name of the backbone."""
        return (
            f"'{texts[self.place]}' has {self.length} tokens, and the text tower of {tower} reads "
            f"{self.longest}."
        )


def find_overlong(tokenizer: Any, texts: Sequence[str]) -> Overlong | None:
    """The longest text, if it is longer than the text tower reads; None otherwise.

    Args:
        tokenizer: one of open_clip's.
        texts: whole prompts.
    """
    lengths = [count_tokens(tokenizer, text) for text in texts]
    length = max(lengths, default=0)
    if length <= tokenizer.context_length:
        return None
    return Overlong(lengths.index(length), length, tokenizer.context_length)


def check_lengths(tokenizer: Any, prompts: Mapping[str, Sequence[str]], *, tower: str) -> None:
    """Refuse classes with a prompt that would be cut.

    Args:
        tokenizer: one of open_clip's.
        prompts: class name -> its prompts.
        tower: the name of the backbone, for the error.

    Raises:
        PromptError: with all such classes, the longest prompt of each, and both lengths.
    """
    found = {name: find_overlong(tokenizer, texts) for name, texts in prompts.items()}
    faults = [
        f"class '{name}': {overlong.explain(prompts[name], tower)}"
        for name, overlong in found.items()
        if overlong is not None
    ]
    if faults:
        raise PromptError(
            "\n".join(faults) + "\nShorten the class's name, for layout folders under "
            "`class_names:`, or the longest of `templates:` in the dataset's file."
        )


def count_tokens(tokenizer: Any, text: str) -> int:
    """The tokens of a text, with those of start and end."""
    if hasattr(tokenizer, "encode"):
        return len(tokenizer.encode(text)) + 2
    if getattr(tokenizer, "tokenizer_mode", "") == "clips":
        return len(read_words(tokenizer, text)) + 3  # start, end and a class token
    # Hugging Face's counts start and end itself.
    return len(tokenizer.tokenizer(tokenizer.clean_fn(text))["input_ids"])


def read_words(tokenizer: Any, words: str) -> list[int]:
    """The tokens of some words, without those of start and end."""
    if hasattr(tokenizer, "encode"):
        return tokenizer.encode(words)
    cleaned = tokenizer.clean_fn(words)
    return tokenizer.tokenizer(cleaned, add_special_tokens=False)["input_ids"]


def find_words(tokenizer: Any, prompts: Tensor, words: str) -> int | None:
    """Where some words stand in prompts that all begin with them, behind a start token or none.

    Args:
        tokenizer: one of open_clip's.
        prompts: (T, length), as the tokenizer gives them.
        words: what the prompts begin with, one token a word.

    Returns:
        The place of the first word's token, the same in all prompts; None where there is none.
    """
    wanted = prompts.new_tensor(read_words(tokenizer, words))
    if len(wanted) != len(words.split()):
        return None
    for place in range(prompts.shape[1] - len(wanted)):
        if (prompts[:, place : place + len(wanted)] == wanted).all():
            return place
    return None

"""How long a prompt is for the text tower: its tokenizer cuts longer ones without a word."""

from collections.abc import Sequence
from typing import Any, NamedTuple


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


def count_tokens(tokenizer: Any, text: str) -> int:
    """The tokens of a text, with those of start and end."""
    if hasattr(tokenizer, "encode"):
        return len(tokenizer.encode(text)) + 2
    return len(tokenizer.tokenizer(text)["input_ids"])  # Hugging Face's counts start and end itself

"""Names as tables show them: what a user called something is text, and never markup."""

import re

_LATEX = str.maketrans(
    {
        **{sign: rf"\{sign}" for sign in "{}$&#_%"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        # After the end of a row these two would be its arguments.
        "[": "{[}",
        "*": "{*}",
    }
)
# What Markdown would read as markup: not the underscore of `oxford_pets`, or the sign of `A & B`.
_MARKDOWN = re.compile(r"[\\`*\[|$~]|&(?=[\w#])|<(?=[\w/!?])|(?<![^\W_])_|_(?![^\W_])")


def one_line(text: str) -> str:
    """Text without line breaks, and with a sign in place of what cannot be printed."""
    joined = " ".join(text.split())
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in joined)


def escape_markdown(text: str) -> str:
    """Text as a cell of a Markdown table shows it literally."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


def escape_latex(text: str) -> str:
    """Text as LaTeX sets it literally."""
    return one_line(text).translate(_LATEX)

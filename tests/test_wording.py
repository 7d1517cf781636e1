"""Messages of any origin stay short, and count what they leave out."""

import pytest

from vtclip import __main__
from vtclip.backbones.text_towers import check_lengths
from vtclip.runtime.job import job_log, warn_on_terminal
from vtclip.settings import ConfigError, refusal
from vtclip.wording import (
    LETTERS,
    LINES,
    bound,
    clip,
    count,
    did_you_mean,
    explain_alike,
    find_alike,
    is_blank,
    list_lines,
    list_some,
    show_difference,
)

LONG = "n" * 3000


def assert_bounded(message: str) -> None:
    lines = message.splitlines()
    assert len(lines) <= LINES + 5, len(lines)
    assert max(map(len, lines)) <= LETTERS + 50


def test_a_short_message_stays_as_it_is():
    assert bound("one\n  two") == "one\n  two"
    assert clip("a cat") == "a cat"
    assert list_some(["a", "b"]) == "a, b"
    assert list_lines(["a", "b"]) == "a\n  b"


def test_lists_and_texts_count_what_they_leave_out():
    assert list_some(range(9), 3) == "0, 1, 2 and 6 more"
    assert list_lines(list("abcd"), 2) == "a\n  b\n  and 2 more"
    assert clip("n" * 1000, 40) == f"{'n' * 20}... (970 letters left out) ...{'n' * 10}"


def test_a_long_message_keeps_its_beginning_and_the_advice_at_its_end():
    found = bound("\n".join(["broken:", *(f"  {n}" for n in range(1000)), "Repair them."]))
    assert found.startswith("broken:\n  0\n  1\n")
    assert found.endswith("  999\nRepair them.")
    assert f"  ... and {1002 - LINES + 1} more lines\n" in found
    assert_bounded(found)


def test_an_error_of_a_setting_is_bounded_and_never_cuts_what_to_write():
    message = str(refusal(LONG, LONG, found=LONG, expected=LONG, write=f"name: {LONG}"))
    assert_bounded(message)
    assert "write:" not in message
    assert_bounded(str(ConfigError("a line\n" * 10_000)))


def test_a_jobs_error_and_its_warnings_are_bounded_on_the_terminal_and_whole_in_its_log(
    tmp_path, capfd
):
    with pytest.raises(SystemExit), job_log(tmp_path / "log"):
        warn_on_terminal(LONG)
        raise ValueError("\n".join([LONG] * 100))
    shown = capfd.readouterr().err
    assert "ValueError: nnn" in shown
    assert_bounded(shown.replace(str(tmp_path), ""))
    assert (tmp_path / "log").read_text().count(LONG) == 100


def test_an_error_of_a_command_is_bounded(capsys):
    assert __main__.main(["status", f"{LONG}.yaml"]) == 2
    assert_bounded(capsys.readouterr().err)


def test_a_template_too_long_for_a_thousand_classes_names_the_first_few_of_them():
    class Tokenizer:
        context_length = 77

        def encode(self, text: str) -> list[str]:
            return text.split()

    prompts = {f"class {number}": ["a " * 100] for number in range(1000)}
    with pytest.raises(ValueError, match=r"(?s)'class 4'.*995 more.*`templates:`") as error:
        check_lengths(Tokenizer(), prompts, tower="the text tower")
    assert_bounded(str(error.value))


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, ("0 seeds", "0 classes")), (1, ("1 seed", "1 class")), (2, ("2 seeds", "2 classes"))],
)
def test_a_number_of_things_has_the_right_ending(number, words):
    assert (count(number, "seed"), count(number, "class", "classes")) == words


NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_names_of_one_text_are_grouped():
    names = ["Cat", "dog", "cat", NFC, "old_car", NFD, "old  car", "cats"]
    assert find_alike(names) == [["Cat", "cat"], [NFC, NFD], ["old_car", "old  car"]]
    assert find_alike(["crane", "crane"]) == [["crane", "crane"]]


def test_a_sentence_about_them_is_bounded():
    many = explain_alike([[f"Cat{n}", f"cat{n}"] for n in range(1000)], "pets")
    assert many.startswith("pets: these classes have the same text for most models")
    assert many.endswith("; and 995 more.")
    assert len(many) < 500
    assert "(they differ from letter 4 on: U+00E9" in explain_alike([[NFC, NFD]], "a")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("cat", "cot", ""),
        ("cat", "cat", ""),
        (NFC, NFD, "from letter 4 on: U+00E9 in the first, U+0065 U+0301 in the second"),
        ("cat", "cat ", "from letter 4 on: nothing in the first, U+0020 in the second"),
        ("cat", "c\u0430t", "from letter 2 on: U+0061 in the first, U+0430 in the second"),
        ("big cat", "big\u00a0cat", "from letter 4 on: U+0020 in the first, U+00A0 in the second"),
    ],
)
def test_similar_names_are_shown_apart(one, other, expected):
    shown = show_difference(one, other)
    assert expected in shown
    assert bool(shown) == bool(expected)


def test_the_nearest_name_is_suggested():
    assert did_you_mean("cts", ["cats", "dogs"]) == " Did you mean 'cats'?"
    assert did_you_mean("CATS", ["cats", "dogs"]) == " Did you mean 'cats'?"
    assert did_you_mean("xyz", ["cats"]) == ""


@pytest.mark.parametrize("name", ["", " ", "_", "\u3000", "\u200b"])
def test_a_name_without_a_visible_letter_is_blank(name):
    assert is_blank(name)
    assert not is_blank(f"{name}.")

"""Messages of any origin stay short, and count what they leave out."""

import pytest

from vtclip import __main__
from vtclip.backbones.text_towers import check_lengths
from vtclip.runtime.job import job_log, warn_on_terminal
from vtclip.settings import ConfigError, refusal
from vtclip.wording import LETTERS, LINES, bound, clip, count, list_lines, list_some

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

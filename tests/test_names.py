import pytest

from vtclip.names import did_you_mean, explain_alike, find_alike, is_blank, show_difference

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
def test_names_that_look_alike_are_shown_apart(one, other, expected):
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

"""YAML is read strictly, and any value can be shown."""

import collections
import datetime
import decimal

import pytest
import yaml

from vtclip.settings import ConfigError, read_yaml
from vtclip.wording import inline, shorten


def refused(folder, content: bytes) -> str:
    (folder / "mine.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_yaml(folder / "mine.yaml")
    assert "mine.yaml: not readable as YAML: " in str(error.value)
    return str(error.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(ConfigError, match="mine.yaml: there is no such file"):
        read_yaml(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("seeds: [1]\nshots: [1]\nseeds: [2]\n", "line 3"),
        ("views: {flip: true, flip: false}\n", "line 1"),
        ("methods:\n  vt_clip:\n    heads: 1\n    'heads': 2\n", "line 4"),
        ("- {epochs: {1: 2, 2: 2, 1: 3}}\n", "line 1"),
        ("epochs:\n  1: 50\n  '1': 60\n", "line 3"),
    ],
)
def test_a_key_that_is_given_twice_is_refused_with_its_line(tmp_path, content, line):
    message = refused(tmp_path, content.encode())
    assert "is given twice" in message
    assert line in message


@pytest.mark.parametrize(
    ("text", "meant"),
    [("010", "8"), ("-010", "-8"), ("1:30", "90"), ("1:30.5", "90.5"), ("0_7", "7")],
)
def test_a_number_to_base_8_or_60_is_refused_with_both_things_it_may_mean(tmp_path, text, meant):
    message = refused(tmp_path, f"shots: [{text}]".encode())
    assert f"YAML reads {text} as {meant}: write {meant}, or '{text}' for a text" in message


def test_other_numbers_and_texts_of_digits_are_read(tmp_path):
    (tmp_path / "mine.yaml").write_text("[0, -0, 0.5, 0x10, 1_6, '010', a:1, 12:30 o'clock]")
    found = [0, 0, 0.5, 16, 16, "010", "a:1", "12:30 o'clock"]
    assert read_yaml(tmp_path / "mine.yaml") == found


def test_a_key_of_what_is_merged_in_may_be_given_again(tmp_path):
    text = "a: {deep: &deep {<<: &base {x: 1, y: 2}, y: 3}}\nb: {<<: *deep, y: 4}\nc: {<<: *base}\n"
    (tmp_path / "mine.yaml").write_text(text)
    assert read_yaml(tmp_path / "mine.yaml") == yaml.safe_load(text)


@pytest.mark.parametrize(
    "content",
    [
        b"title: [", b"a\tb: 1\n\tc", b"x: 2024-13-13", b"x: !!int ''", b"x: !!timestamp no",
        b"[" * 100_000, b"x: *nobody", b"!!python/object:os.system x", b"? {a: 1}\n: 2", b"a: 1\0",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_with_the_files_name(tmp_path, content):
    refused(tmp_path, content)


def test_a_file_that_is_not_utf_8_is_refused_with_the_cure(tmp_path):
    assert "Save it as UTF-8." in refused(tmp_path, "title: Vögel".encode("latin-1"))


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "mine.yaml").write_text("title: Vögel", encoding="utf-8-sig")
    assert read_yaml(tmp_path / "mine.yaml") == {"title": "Vögel"}


def test_a_file_that_is_not_there_or_is_a_folder_is_refused_with_its_name(tmp_path):
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(ConfigError, match=str(path)):
            read_yaml(path)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"a": [1, None, True]}, "{a: [1, null, true]}"),
        (collections.OrderedDict(b=1, a=2), "{b: 1, a: 2}"),
        ((1, 2), "[1, 2]"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (decimal.Decimal("1.5"), "Decimal('1.5')"),
        (ValueError, "<class 'ValueError'>"),
        ("\ud800", '"\\uD800"'),
        ("grün 🙂", "grün 🙂"),
        (float("inf"), ".inf"),
        pytest.param(1 << 20_000, "<a int that YAML cannot show>", id="a very large number"),
    ],
)
def test_any_value_is_shown_on_one_line(value, shown):
    assert inline(value) == shown


def test_values_that_contain_themselves_or_are_very_deep_are_shown():
    loop: list = []
    loop.append(loop)
    assert inline(loop) == "&id001 [*id001]"
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    assert inline(deep) == "<a list that YAML cannot show>"


def test_a_long_value_is_cut():
    assert shorten("n" * 300) == "n" * 77 + "..."


def test_an_error_about_a_name_that_is_not_utf_8_can_be_written_to_a_log():
    assert str(ConfigError("a \udcff b ü")) == "a \\udcff b ü"

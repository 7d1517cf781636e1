"""Settings are checked, and errors say what to write."""

from typing import Annotated

import pytest
from pydantic import Field

from vtclip.settings import ConfigError, PathText, Settings, check, misfit, unknown

Rate = Annotated[float | None, Field(gt=0, description="above 0")]


class Parent(Settings):
    rate: Rate = 0.1
    needed: int = Field(default=1, description="a number")


class Child(Parent):
    rate: Rate = 0.5


def test_type_bounds_and_description_stay_and_the_new_default_is_suggested():
    with pytest.raises(ConfigError) as error:
        check(Child, {"rate": -1}, source="mine.yaml")
    assert str(error.value).splitlines() == [
        "mine.yaml: rate: Input should be greater than 0.",
        "  found:    rate: -1",
        "  expected: above 0",
        "  write:",
        "    rate: 0.5",
    ]


class Described(Settings):
    share: float = Field(0.5, le=1)
    """share of the shots,
    at most 1"""


def test_the_text_under_a_setting_is_what_its_errors_expect():
    with pytest.raises(ConfigError) as error:
        check(Described, {"share": 3}, source="mine.yaml")
    assert "  expected: share of the shots, at most 1\n" in str(error.value)


@pytest.mark.parametrize("default", [-1, "fast", float("inf")])
def test_a_default_that_the_field_would_refuse_is_refused(default):
    class Wrong(Parent):
        rate: Rate = default

    with pytest.raises(ConfigError, match="rate"):
        check(Wrong, {}, source="mine.yaml")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), ".inf", "nan"])
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(ConfigError, match="(?s)rate: Input should be a .*number.*write"):
        check(Parent, {"rate": value}, source="mine.yaml")


def test_a_misfit_names_found_expected_and_what_to_write_as_yaml_and_no_file():
    error = misfit("words", "too many", found="a: b", expected="fewer", write="a")
    assert str(error).splitlines() == [
        "words: too many.", "  found:    words: 'a: b'", "  expected: fewer", "  write:",
        "    words: a",
    ]  # fmt: skip


class Inner(Settings):
    rate: float = Field(default=0.1, description="a share", examples=[0.1])


class Outer(Settings):
    names: dict[str, str] = Field(default={}, description="name -> text", examples=[{"n1": "cat"}])
    epochs: int | dict[int, int] = Field(default=1, description="epochs", examples=[{1: 50}])
    tried: dict[str, list[int]] = Field(default={}, examples=[{"rate": [1, 2]}])
    several: list[Inner] = Field(default=[], examples=[[{"rate": 0.1}]])
    file: PathText | None = Field(default=None, description="a file", examples=["a.pt"])
    rate: float = Field(default=0.1, examples=[0.1])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"names": {"n2": 5}}, ["names.n2", "found:    n2: 5", "    names: {n2: '5'}"]),
        ({"names": {"n2": None}}, ["names.n2", "found:    n2: null", "    names: {n2: cat}"]),
        ({"names": {7: "dog"}}, ["names.7: the key", "found:    7: dog", "    names: {'7': dog}"]),
        ({"names": {"rate": [1]}}, ["names.rate", "expected: name -> text", "{rate: cat}"]),
        ({"names": 5}, ["names", "found:    names: 5", "    names: {n1: cat}"]),
        ({"epochs": {3: "x"}}, ["epochs.3", "found:    3: x", "    epochs: {3: 50}"]),
        ({"epochs": "x"}, ["epochs: ", "integer", ", or a valid dict", "    epochs: {1: 50}"]),
        ({"tried": {"size": 3}}, ["tried.size", "found:    size: 3", "    tried: {size: [3]}"]),
        (
            {"several": [{}, {"rate": "x"}]},
            ["several.1.rate", "found:    rate: x", "    rate: 0.1"],
        ),
        ({"several": [3]}, ["several.0", "found:    several: [3]", "    several: [{rate: 0.1}]"]),
        ({"several": {"a": 1}}, ["several", "found:    several: {a: 1}", "several: [{rate: 0.1}]"]),
        ({3: 4}, ["3: ", "should be strings", "found:    3: 4"]),
    ],
)
def test_a_wrong_value_inside_a_mapping_is_named_by_the_users_key(values, said):
    with pytest.raises(ConfigError) as error:
        check(Outer, values, source="mine.yaml")
    message = str(error.value)
    assert message.count("mine.yaml: ") == 1, message
    for part in said:
        assert part in message


class Strict(Settings):
    internal = frozenset({"derived"})
    largest: int = Field(description="a number", examples=[4])
    derived: int = Field(default=1, description="set by the package")


def test_a_misspelt_key_has_one_error_that_lists_the_keys_that_a_user_writes():
    with pytest.raises(ConfigError) as error:
        check(Strict, {"larges": 3}, source="mine.yaml")
    message = str(error.value)
    assert message.count("mine.yaml: ") == 1, message
    assert "known: largest.\n" in message
    assert "    largest: 3" in message


@pytest.mark.parametrize("path", ["n" * 256, "a/" + "é" * 128, "a/" * 2500, "a\0b"])
def test_a_path_that_no_file_can_have_is_refused_by_its_key(path):
    with pytest.raises(ConfigError, match=r"(?s)file: no file can have this name.*write:"):
        check(Outer, {"file": path}, source="mine.yaml")
    assert check(Outer, {"file": "a/" * 20 + "n" * 255}, source="").file is not None


@pytest.mark.parametrize(
    ("path", "whole"),
    [("~/a.pt", "/home/me/a.pt"), ("$DATA/a.pt", "/data/a.pt"), ("x/${DATA}/a", "x//data/a")],
)
def test_a_path_for_a_shell_to_complete_is_refused_with_the_whole_path(monkeypatch, path, whole):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DATA", "/data")
    with pytest.raises(ConfigError, match=f"file: ~ and variables .* whole path, {whole}\\."):
        check(Outer, {"file": path}, source="mine.yaml")


@pytest.mark.parametrize("path", ["", " "])
def test_an_empty_path_is_refused(path):
    with pytest.raises(ConfigError, match="file: there is no name: leave the key out"):
        check(Outer, {"file": path}, source="mine.yaml")


def test_a_file_with_such_a_name_that_is_there_is_taken(tmp_path):
    file = tmp_path / "$x"
    file.touch()
    assert check(Outer, {"file": str(file)}, source="mine.yaml").file == str(file)


@pytest.mark.parametrize("value", [True, [True], {True: 1}, {1: False}])
def test_a_truth_value_is_no_number_as_a_key_either(value):
    class Numbers(Settings):
        epochs: int | list[int] | dict[int, int]

    with pytest.raises(ConfigError, match="YAML reads yes, no, on and off as true and false"):
        check(Numbers, {"epochs": value}, source="mine.yaml")


def test_a_whole_number_larger_than_a_machine_word_is_refused():
    with pytest.raises(ConfigError, match=r"needed: Input should be 9223372036854775807 at most"):
        check(Parent, {"needed": 10**30}, source="mine.yaml")


@pytest.mark.parametrize(
    "values", [{"rate": True}, {"epochs": {1: False}}, {"tried": {"rate": [1, True]}}]
)
def test_true_and_false_are_no_numbers(values):
    (key,) = values
    with pytest.raises(ConfigError, match=f"{key}: expected numbers: YAML reads yes"):
        check(Outer, values, source="mine.yaml")


def test_an_unknown_name_that_resembles_a_known_one_is_shown_apart():
    error = str(unknown("dataset", "cafe\u0301", ["pets", "caf\u00e9"], source="mine.yaml"))
    assert "Did you mean 'caf\u00e9'? (they differ from letter 4 on: U+0065 U+0301 in" in error

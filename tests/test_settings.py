"""A changed default is stated once, and only where it is changed."""

import json

import pytest
from pydantic import Field, ValidationError

from vtclip.settings import ConfigError, Settings, check, misfit


class Parent(Settings):
    rate: float | None = Field(default=0.1, gt=0, description="above 0", examples=[0.1])
    names: list[str] = Field(default=["a"], examples=[["a"], ["b"]])
    of: dict[str, int] = Field(default={"imagenet": 50}, examples=[{"imagenet": 50}])
    needed: int = Field(default=1, description="a number", examples=[1])


class Child(Parent, defaults={"rate": 0.5, "names": ["x", "y"], "of": {}}):
    own: int = 3


class Grandchild(Child, defaults={"rate": None}):
    pass


def test_the_parents_default_is_untouched_and_the_grandchild_has_the_childs():
    assert Parent().model_dump() == {
        "rate": 0.1, "names": ["a"], "of": {"imagenet": 50}, "needed": 1,
    }  # fmt: skip
    assert Child().model_dump() == {
        "rate": 0.5, "names": ["x", "y"], "of": {}, "needed": 1, "own": 3,
    }  # fmt: skip
    assert Grandchild().model_dump() == Child().model_dump() | {"rate": None}


def test_json_has_the_new_default_and_nobody_has_set_it():
    assert json.loads(Child().model_dump_json())["rate"] == 0.5
    assert Child.model_json_schema()["properties"]["rate"]["default"] == 0.5
    assert Child().model_fields_set == set()
    assert Child(rate=0.5).model_fields_set == {"rate"}


def test_a_default_that_can_change_is_not_shared_between_settings():
    Child().names.append("z")
    assert Child().names == ["x", "y"]


def test_type_bounds_and_description_stay_and_a_single_example_is_the_new_default():
    with pytest.raises(ConfigError) as error:
        check(Child, {"rate": -1}, source="mine.yaml")
    assert str(error.value).splitlines() == [
        "mine.yaml: rate: Input should be greater than 0.",
        "  found:    rate: -1",
        "  expected: above 0",
        "  write:",
        "    rate: 0.5",
    ]
    assert Parent.model_fields["rate"].examples == [0.1]
    assert Child.model_fields["names"].examples == [["a"], ["b"]]
    # Nothing is no example.
    assert Child.model_fields["of"].examples == [{"imagenet": 50}]
    assert Grandchild.model_fields["rate"].examples == [0.5]


def test_a_changed_default_of_no_field_is_refused_with_the_fields():
    with pytest.raises(TypeError, match="Wrong: no field 'rat'; known: names, needed, of, rate"):
        type("Wrong", (Parent,), {}, defaults={"rat": 1})


@pytest.mark.parametrize("rate", [-1, "fast", float("inf")])
def test_a_changed_default_that_the_field_would_refuse_is_refused(rate):
    with pytest.raises(ValidationError, match="rate"):
        type("Wrong", (Parent,), {}, defaults={"rate": rate})


def test_a_field_without_a_default_may_get_one_beside_one_that_stays_without():
    class Needs(Settings):
        first: int
        second: int = Field(ge=0)

    class Has(Needs, defaults={"second": 2}):
        pass

    assert Has(first=1).second == 2
    with pytest.raises(ValidationError):
        Has()
    with pytest.raises(ValidationError):
        type("Wrong", (Needs,), {}, defaults={"second": -2})


def test_an_unknown_keyword_of_the_class_is_refused():
    with pytest.raises(TypeError, match="keyword"):
        type("Wrong", (Parent,), {}, default={"rate": 1})


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

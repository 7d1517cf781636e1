"""A request that the data cannot meet is named before the first job."""

import json

import pytest

from tests.plan.conftest import planned
from vtclip.plan import shown


@pytest.fixture
def pets(here, own_dataset):
    """A folder with classes of 6 and 9 images: 3 and 4 of them to train on, 1 and 2 to validate."""
    for name, number in (("cat", 6), ("dog", 9)):
        (here / "pets" / name).mkdir(parents=True)
        for image in range(number):
            (here / "pets" / name / f"{image}.jpg").touch()
    own_dataset("pets", "digits", layout="folders", folder="pets", drawn=None, counts=None)


def unmet(config, **changes) -> str:
    return "\n".join(shown.list_unmet(planned(config, **changes)))


def test_an_experiment_that_gets_what_it_requests_has_no_notice(demo, paper):
    assert shown.list_unmet(planned(demo)) == []
    assert shown.list_unmet(planned(paper, "config/config.yaml")) == []


@pytest.mark.parametrize("shots", [[4], [1, 16], [10**9]])
def test_more_shots_than_a_class_of_a_folder_has_are_named_with_smallest_and_largest(
    demo, pets, shots
):
    said = unmet(demo, datasets=["pets"], shots=shots)
    assert f"pets: `shots:` requests {shots[-1]} images per class" in said
    assert "3 to 4 to train on" in said


def test_in_folds_a_class_with_fewer_images_gives_others_with_another_seed(demo, pets, own_dataset):
    assert "gives all of them, the same with every seed." in unmet(demo, datasets=["pets"])
    given = {"layout": "folders", "folder": "pets", "drawn": None, "counts": None}
    own_dataset("pets", "digits", **given, folds=3)
    assert "gives all of them." in unmet(demo, datasets=["pets"])


def test_as_many_shots_as_the_smallest_class_has_are_no_problem(demo, pets):
    assert unmet(demo, datasets=["pets"], shots=[1], methods={"vt_clip": None}) == ""
    assert "to train on" not in unmet(demo, datasets=["pets"], shots=[3])


def test_more_shots_than_the_counts_of_a_dataset_allow_are_named(demo):
    said = unmet(demo, datasets=["letters"], shots=[16, 64])
    assert "letters: `shots:` requests 64 images per class, and its classes have 24 on av" in said
    assert unmet(demo, methods={"zero_shot": None}, shots=[64]).count("shots") == 0


def test_a_split_file_that_is_there_is_counted_class_by_class(demo, here, own_dataset):
    own_dataset(
        "own", "digits", folder="own", drawn=None, split="split.json",
        counts={"train": 12, "val": 2, "test": 2, "classes": 2},
    )  # fmt: skip
    rows = {"train": [["a", 0, "cat"]] * 2 + [["b", 1, "dog"]] * 10}
    rows |= {split: [["a", 0, "cat"], ["b", 1, "dog"]] for split in ("val", "test")}
    (here / "own").mkdir()
    (here / "own" / "split.json").write_text(json.dumps(rows))
    assert "its classes have 2 to 10 to train on" in unmet(demo, datasets=["own"], shots=[4])


def test_fewer_validation_images_than_methods_choose_on_are_named(demo, pets):
    said = unmet(demo, datasets=["pets"], shots=[3])
    assert "pets: methods choose on 3 validation images per class at 3 shots" in said
    assert "and its classes have 1 to 2." in said


@pytest.mark.parametrize(
    ("methods", "changes", "said"),
    [
        (
            {"vt_clip": {"batch_size": 64}},
            {"shots": [2, 16]},
            "vt_clip: `batch_size: 64` is more than there are: digits at 2 shots (20), letters at "
            "2 shots (52).",
        ),
        (
            {"vt_clip": {"train_classes": 20}},
            {},
            "vt_clip: `train_classes: 20` is more than there are: digits (10).",
        ),
        ({"vt_clip": {"epochs": 3}}, {}, "has 5 views and as few as 3 epochs: some are not used"),
        ({"zero_shot": None}, {}, "`views: number: 4` is not used"),
        (
            {"tip_adapter": {"alpha": [1, 2]}},
            {"choose": "none"},
            "tip_adapter: `alpha: [1.0, 2.0]` cannot be chosen from with `choose: none`",
        ),
    ],
)
def test_a_setting_that_is_used_in_part_or_not_at_all_is_named_and_in_the_footnotes(
    demo, methods, changes, said
):
    plan = planned(demo, methods=methods, **changes)
    assert said in "\n".join(shown.list_unmet(plan))
    assert shown.list_unmet_settings(plan) == shown.list_unmet(plan)


def test_a_batch_that_the_user_does_not_set_is_not_named(demo):
    assert unmet(demo, shots=[1], methods={"vt_clip": None}) == ""


def test_class_names_of_one_text_are_named_for_folders_and_for_split_files(
    demo, here, pets, own_dataset
):
    (here / "pets" / "dog").rename(here / "pets" / "Cat")
    expected = "zero-shot gives them equal scores: 'Cat' and 'cat'"
    assert expected in unmet(demo, datasets=["pets"], shots=[1])
    own_dataset(
        "own", "digits", folder="own", drawn=None, split="split.json",
        counts={"train": 2, "val": 0, "test": 2, "classes": 2},
    )  # fmt: skip
    rows = {split: [["a", 0, "Cat"], ["b", 1, "cat"]] for split in ("train", "test")}
    (here / "own").mkdir()
    (here / "own" / "split.json").write_text(json.dumps(rows | {"val": []}))
    assert expected in unmet(demo, datasets=["own"], shots=[1], methods={"zero_shot": None})


def test_fractions_beside_split_folders_are_named_as_not_used(demo, here, own_dataset):
    for place in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (here / "photos" / place).mkdir(parents=True)
        (here / "photos" / place / "1.jpg").touch()
    keys = {"layout": "folders", "folder": "photos", "drawn": None, "counts": None}
    own_dataset("mine", "digits", **keys)
    experiment = {"datasets": ["mine"], "shots": [1], "methods": {"zero_shot": None}}
    assert "fractions" not in unmet(demo, **experiment)
    own_dataset("mine", "digits", **keys, fractions={"train": 0.8, "val": 0.1})
    assert "mine: `fractions` is not used: photos has train" in unmet(demo, **experiment)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"optimism": True, "methods": {"vt_clip": None}}, "no method of the experiment chooses"),
        ({"tests": "crossed", "datasets": ["digits"]}, "the experiment has one dataset"),
        ({"tests": {"digits": ["letters", "digits"]}}, "tested on digits in any case"),
        ({"tests": {"digits": []}}, "tests: digits: no test set is named"),
    ],
)
def test_a_key_that_adds_nothing_is_named(demo, changes, expected):
    assert expected in unmet(demo, **changes)


def test_a_backbone_that_is_named_again_is_said_to_be_used_once(demo):
    said = unmet(demo, backbones=[demo["backbone"], demo["backbone"]])
    assert said == "glyph-clip-glyphs: this backbone is named 3 times, and used once."


def test_keys_that_add_a_table_are_not_named(demo):
    assert unmet(demo, optimism=True, tests="crossed") == ""
    assert unmet(demo, tests={"digits": ["letters"]}) == ""

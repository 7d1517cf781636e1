"""Heads on other test sets than their own, and on halves of the classes."""

from pathlib import Path

import pytest
import yaml

from tests.data.conftest import mark_unavailable
from tests.plan.conftest import CONFIG, GLYPHS, job, planned, training
from tests.plan.test_jobs import files
from vtclip.config.dataset import read_dataset
from vtclip.paths import distinct
from vtclip.plan import shown
from vtclip.settings import ConfigError

SHIFT = {"digits": ["digits_printed", "digits_noise"]}
LEARNING_WORDS = {"coop", "cocoop", "kgcoop", "prograd"}
# Classes never seen.
NAMING = LEARNING_WORDS | {"zero_shot", "calip", "clip_adapter", "prolip", "vt_clip"}
METHODS = dict.fromkeys([*sorted(NAMING), "linear_probe", "tip_adapter"])
METHODS |= {"coop": {"context": 4}, "prograd": {"context": 4}}


def read_config(name):
    return yaml.safe_load((CONFIG / f"{name}.yaml").read_text())


def methods_by_test_set(plan):
    """(trained on, test set) -> the methods whose heads can be tested there."""
    found = {}
    for run in plan.test_runs:
        methods = found.setdefault((run.dataset, run.tested), set())
        methods |= set() if run.reason else {run.method}
    return found


# Which heads are tested on what.


def test_other_classes_are_for_methods_that_can_name_them(demo):
    plan = planned(demo, tests="crossed", methods=METHODS)
    assert methods_by_test_set(plan) == {
        ("digits", "digits"): set(METHODS), ("digits", "letters"): NAMING,
        ("letters", "letters"): set(METHODS), ("letters", "digits"): NAMING,
    }  # fmt: skip
    reasons = {run.reason for run in plan.test_runs} - {""}
    assert "Linear probe knows only the classes that it was trained on" in reasons


def test_every_method_is_tested_on_a_test_set_of_the_same_classes(demo):
    plan = planned(demo, datasets=["digits"], tests=SHIFT, methods=METHODS)
    tested = ["digits", *SHIFT["digits"]]
    assert methods_by_test_set(plan) == {("digits", name): set(METHODS) for name in tested}
    assert plan.drawn == tested


def test_new_classes_are_for_methods_that_can_name_them(demo):
    plan = planned(demo, datasets=["letters"], classes="base", methods=METHODS)
    assert methods_by_test_set(plan) == {
        ("letters@base", "letters@base"): set(METHODS), ("letters@base", "letters@new"): NAMING
    }  # fmt: skip
    assert shown.list_titles(plan)["letters@new"] == "Letters (synthetic), new classes"


def test_nothing_changes_where_nothing_else_is_tested(demo):
    plan = planned(demo)
    assert plan.test_runs == []
    assert not [target for target in plan.targets() if "tests" in target]


def test_all_that_is_tested_is_a_target_with_its_table_and_figure(demo):
    plan = planned(demo, tests="crossed", methods=METHODS)
    targets = plan.targets()
    assert {run.predictions for run in plan.test_runs if run.predictions} <= set(targets)
    assert len(targets) == len(set(targets))
    table, figure = "results/demo/tables/tests", "results/demo/figures/tests"
    made = {f"{table}.parquet", f"{table}.csv", f"{table}.md", f"{figure}.svg", f"{figure}.png"}
    assert made <= set(targets)
    assert f"results/demo/predictions/{GLYPHS}/digits/coop/letters.parquet" in targets


# What jobs read.


def test_halves_read_the_features_of_the_whole_dataset(demo):
    plan = planned(demo, classes="base")
    half = job(plan, "train_head", GLYPHS, "letters@base", "vt_clip", 4, 2)
    whole = job(planned(demo), "train_head", GLYPHS, "letters", "vt_clip", 4, 2)
    assert half.inputs == whole.inputs
    assert half.params == whole.params
    path = plan.head_of(GLYPHS, "letters@base", "vt_clip", 4, 2)
    assert path.endswith("/letters@base/vt_clip/4shot-seed2/head.safetensors")
    new = job(plan, "predict_test", GLYPHS, "letters@base", "vt_clip", "letters@new")
    assert new.inputs["features"] == [f"results/features/{GLYPHS}/letters/test.parquet"]
    assert (new.params["trained"], new.params["tower"]) == ("letters@base", None)


def test_a_head_on_another_test_set_reads_its_texts_and_those_of_its_own_classes(demo):
    plan = planned(demo, tests="crossed", methods=METHODS)
    read = job(plan, "predict_test", GLYPHS, "digits", "coop", "letters").inputs
    folder = f"results/features/{GLYPHS}"
    assert read["texts"] == f"{folder}/letters/texts.parquet"
    assert read["trained_texts"] == f"{folder}/digits/texts.parquet"
    assert read["manifest"] == "results/manifests/letters.parquet"
    assert read["trained_manifest"] == "results/manifests/digits.parquet"
    assert read["weights"] == f"resources/backbones/{GLYPHS}.safetensors"
    assert read["heads"][0].split("/")[4:6] == ["digits", "coop"]
    assert "weights" not in job(plan, "predict_test", GLYPHS, "digits", "vt_clip", "letters").inputs
    assert "weights" not in job(plan, "predict_test", GLYPHS, "digits", "coop", "digits").inputs


def test_a_method_that_learns_from_no_image_has_a_head_of_the_test_set_itself(demo):
    plan = planned(demo, tests="crossed", methods={"zero_shot": None})
    (run,) = (run for run in plan.test_runs if (run.dataset, run.tested) == ("digits", "letters"))
    assert run.predictions.endswith("/letters/zero_shot/letters.parquet")
    assert "/letters/zero_shot/" in run.head


@pytest.mark.parametrize(
    "name", ["demo-base-to-new", "demo-cross-dataset", "demo-domain-shift", "domain-shift"]
)
def test_no_training_or_tuning_job_reads_test_features_of_any_test_set(name, imagenet):
    plan = planned(read_config(name))
    backbone = plan.experiment.all_backbones[0].folder
    test = {
        f"results/features/{backbone}/{dataset}/{part}.parquet"
        for dataset in plan.datasets
        for part in plan.parts_of(dataset)
    }
    runs = [run for run in plan.test_runs if run.predictions]
    predicting = [
        job(plan, "predict_test", backbone, *Path(predictions).with_suffix("").parts[4:7])
        for predictions in distinct(runs, "predictions")
    ]
    assert test <= {file for each in predicting for file in files(each.inputs)}
    others = [training(plan, run) for run in runs]
    others += [job(plan, "extract_texts", backbone, dataset) for dataset in plan.datasets]
    others += [
        job(plan, "extract_shots", backbone, name, "", 16, 1) for name in plan.experiment.datasets
    ]
    others += [
        job(plan, "extract_test", backbone, name, part)
        for name in plan.datasets
        for part in plan.parts_of(name)
    ]
    read = {file for each in others for file in files(each.inputs)}
    assert not read & test
    assert not [file for file in read if "/features/" in file and "/test" in file]


# The experiments of the field.


def test_without_imagenet_the_domain_shift_keeps_its_rows_that_learn_from_no_image():
    plan = planned(read_config("domain-shift"))
    assert (list(plan.missing), plan.own_runs) == (["imagenet"], [])
    four = [f"imagenet_{name}" for name in ("v2", "sketch", "a", "r")]
    found = methods_by_test_set(plan)
    assert all(found["imagenet", name] == {"zero_shot", "calip"} for name in four)
    assert not [target for target in plan.targets() if "results.md" in target]
    reasons = {run.reason for run in plan.test_runs} - {""}
    assert reasons == {"imagenet is left out"}


def test_with_imagenet_every_method_is_tested_on_every_shifted_set(imagenet):
    plan = planned(read_config("domain-shift"))
    assert all(methods == set(plan.settings) for methods in methods_by_test_set(plan).values())
    backbone = plan.own_runs[0].backbone
    assert job(plan, "predict_test", backbone, "imagenet", "coop", "imagenet_a").runtime < 60


def test_the_published_form_of_cross_dataset_is_imagenet_on_the_ten_others(imagenet):
    plan = planned(read_config("cross-dataset"))
    assert len(methods_by_test_set(plan)) == 11 * 11
    assert len([key for key in methods_by_test_set(plan) if key[0] == "imagenet"]) == 1 + 10


# What is refused.


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"tests": {"dtd": ["letters"]}}, ["tests.dtd", "no head is trained on dtd", "digits"]),
        ({"tests": {"digits": ["leters"]}}, ["tests: Unknown dataset 'leters'", "'letters'?"]),
        ({"tests": {"digits": ["letters"] * 2}}, ["tests", "named twice"]),
        ({"tests": "all"}, ["tests", "found:    tests: all", "crossed", "write:"]),
        ({"tests": "crossed", "classes": "base"}, ["classes: base, and tests"]),
        ({"classes": "new"}, ["classes", "found:    classes: new", "write:"]),
        (
            {"datasets": ["digits_noise"]},
            ["no image to train on", "tests: {digits: [digits_noise]}"],
        ),
    ],
)
def test_test_sets_that_cannot_be_used_are_refused(demo, changes, parts):
    with pytest.raises(ConfigError) as error:
        planned(demo, "mine.yaml", **changes)
    for part in parts:
        assert part in str(error.value)


def test_halves_of_three_classes_are_refused(demo, own_dataset):
    own_dataset("mine", "digits", counts={"train": 9, "val": 9, "test": 9, "classes": 3})
    with pytest.raises(ConfigError, match=r"(?s)needs two classes.*mine, with 3 classes"):
        planned(demo, datasets=["mine"], classes="base")


@pytest.mark.parametrize("classes", [9, 11])
def test_a_test_set_of_another_number_of_classes_is_refused(demo, own_dataset, classes):
    counts = {"train": 0, "val": 0, "test": 9, "classes": classes}
    own_dataset("mine", "digits_noise", counts=counts)
    with pytest.raises(
        ConfigError, match=rf"(?s)mine\.yaml: classes_of: .*found:    {classes} classes"
    ):
        planned(demo, datasets=["digits"], tests={"digits": ["mine"]})


def test_classes_of_an_unknown_dataset_are_refused(demo, own_dataset):
    own_dataset("mine", "digits_noise", classes_of="digit")
    with pytest.raises(ConfigError, match=r"mine\.yaml: classes_of: Unknown dataset 'digit'"):
        planned(demo, datasets=["digits"], tests={"digits": ["mine"]})


def test_a_dataset_called_as_a_half_is_refused(demo, own_dataset):
    own_dataset("letters@base", "letters")
    with pytest.raises(ConfigError, match="cannot be called so"):
        planned(demo, datasets=["letters@base"])


def test_a_test_set_that_could_not_be_had_leaves_its_cells_empty(imagenet):
    mark_unavailable("imagenet_r", read_dataset("imagenet_r"))
    plan = planned(read_config("domain-shift"), "shift.yaml")
    assert "take 'imagenet_r' from `tests:` in shift.yaml" in plan.missing["imagenet_r"]
    reasons = {run.tested: run.reason for run in plan.test_runs if run.reason}
    assert reasons == {"imagenet_r": "imagenet_r is left out"}

"""Heads on other test sets than their own, and on halves of the classes: what is asked of whom."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.plan.conftest import ARCHITECTURE, CONFIG, GLYPHS, planned
from tests.plan.test_jobs import files
from vtclip.data.fetch import marker_of
from vtclip.data.inventory import archive_path
from vtclip.files import write_record
from vtclip.settings import ConfigError

SHIFT = {"digits": ["digits_printed", "digits_noise"]}
NAMING = {"zero_shot", "calip", "clip_adapter", "coop", "vt_clip"}  # classes that they never saw
METHODS = dict.fromkeys([*sorted(NAMING - {"coop"}), "linear_probe", "tip_adapter"])
METHODS |= {"coop": {"context": 4}}


def read(name):
    return yaml.safe_load((CONFIG / f"{name}.yaml").read_text())


def answers(plan):
    """(trained on, test set) -> the methods that can be asked."""
    found = {}
    for question in plan.elsewhere.questions:
        assert (question.predictions is None) == bool(question.reason)
        asked = found.setdefault((question.dataset, question.tested), set())
        asked |= {question.method} if question.predictions else set()
    return found


# What is asked of whom.


def test_other_classes_are_asked_only_of_methods_that_can_name_them(demo):
    plan = planned(demo, tests="crossed", methods=METHODS)
    assert answers(plan) == {
        ("digits", "digits"): set(METHODS), ("digits", "letters"): NAMING,
        ("letters", "letters"): set(METHODS), ("letters", "digits"): NAMING,
    }  # fmt: skip
    reasons = {question.reason for question in plan.elsewhere.questions} - {""}
    assert "Linear probe knows only the classes that it was trained on" in reasons


def test_a_test_set_of_the_same_classes_is_asked_of_every_method(demo):
    plan = planned(demo, datasets=["digits"], tests=SHIFT, methods=METHODS)
    tested = ["digits", *SHIFT["digits"]]
    assert answers(plan) == {("digits", name): set(METHODS) for name in tested}
    assert plan.drawn == tested


def test_new_classes_are_asked_only_of_methods_that_can_name_them(demo):
    plan = planned(demo, datasets=["letters"], classes="base", methods=METHODS)
    assert answers(plan) == {
        ("letters@base", "letters@base"): set(METHODS), ("letters@base", "letters@new"): NAMING
    }  # fmt: skip
    assert plan.titles["letters@new"] == "Letters (synthetic), new classes"


def test_nothing_changes_where_nothing_else_is_tested(demo):
    plan = planned(demo)
    assert (plan.elsewhere.questions, plan.elsewhere.targets()) == ([], [])


def test_all_that_is_asked_is_a_target_with_its_table_and_figure(demo):
    plan = planned(demo, tests="crossed", methods=METHODS)
    targets = plan.targets()
    assert set(plan.elsewhere.predictions) <= set(targets)
    assert len(targets) == len(set(targets))
    table, figure = "results/demo/tables/tests", "results/demo/figures/tests"
    made = {f"{table}.parquet", f"{table}.csv", f"{table}.md", f"{figure}.svg", f"{figure}.png"}
    assert made <= set(targets)
    assert f"results/demo/predictions/{GLYPHS}/digits/coop/letters.parquet" in targets


# What jobs read.


def test_halves_read_the_features_of_the_whole_dataset(demo):
    plan = planned(demo, classes="base")
    job = plan.train_head(GLYPHS, "letters@base", "vt_clip", 4, 2)
    assert job.head.endswith("/letters@base/vt_clip/4shot-seed2/head.safetensors")
    whole = planned(demo).train_head(GLYPHS, "letters", "vt_clip", 4, 2)
    assert job.large_inputs == whole.large_inputs
    assert (job.size(4).classes, whole.size(4).classes) == (13, 26)
    new = plan.predict_test(GLYPHS, "letters@base", "vt_clip", "letters@new")
    assert new.large_inputs["features"] == [f"results/features/{GLYPHS}/letters/test.parquet"]
    assert new.told == {"tested": "letters@new", "trained": "letters@base", "tower": None}


def test_a_head_elsewhere_reads_the_texts_of_the_test_set_and_those_it_knows(demo):
    plan = planned(demo, tests="crossed", methods=METHODS)
    job = plan.predict_test(GLYPHS, "digits", "coop", "letters")
    read, folder = job.large_inputs, f"results/features/{GLYPHS}"
    assert read["texts"] == f"{folder}/letters/texts.parquet"
    assert read["known_texts"] == f"{folder}/digits/texts.parquet"
    assert read["manifest"] == "results/manifests/letters.parquet"
    assert read["known_manifest"] == "results/manifests/digits.parquet"
    assert read["weights"] == plan.weights[0]
    assert job.heads[0].split("/")[4:6] == ["digits", "coop"]
    assert "weights" not in plan.predict_test(GLYPHS, "digits", "vt_clip", "letters").large_inputs
    assert "weights" not in plan.predict_test(GLYPHS, "digits", "coop", "digits").large_inputs


def test_a_method_that_learns_from_no_image_has_a_head_of_the_test_set_itself(demo):
    plan = planned(demo, tests="crossed", methods={"zero_shot": None})
    cell = next(
        q for q in plan.elsewhere.questions if (q.dataset, q.tested) == ("digits", "letters")
    )
    assert cell.predictions.endswith("/letters/zero_shot/letters.parquet")


@pytest.mark.parametrize(
    "name", ["demo-base-to-new", "demo-cross-dataset", "demo-domain-shift", "domain-shift"]
)
def test_no_training_or_tuning_job_reads_test_features_of_any_test_set(name, imagenet):
    plan = planned(read(name))
    backbone = plan.experiment.all_backbones[0].folder
    test = {
        f"results/features/{backbone}/{dataset}/{part}.parquet"
        for dataset in plan.datasets
        for part in plan.parts_of(dataset)
    }
    predicting, training = set(), list(plan.trainings())
    for question in plan.elsewhere.questions:
        if question.predictions:
            trained, method, tested = Path(question.predictions).with_suffix("").parts[-3:]
            job = plan.predict_test(backbone, trained, method, tested)
            predicting |= set(files(job.large_inputs))
            training += [plan.train_head(backbone, trained, method, *run) for run in job.runs]
    assert test <= predicting
    others = [plan.extract_texts(backbone, dataset) for dataset in plan.datasets]
    others += [plan.extract_shots(backbone, name, "", 16, 1) for name in plan.experiment.datasets]
    others += [
        plan.extract_test(backbone, name, part)
        for name in plan.datasets
        for part in plan.parts_of(name)
    ]
    read_by_others = {
        file for job in [*training, *others] for file in files({**job.inputs, **job.large_inputs})
    }
    assert not read_by_others & test
    assert not [file for file in read_by_others if "/features/" in file and "/test" in file]


# The experiments of the field.


def test_without_imagenet_the_domain_shift_keeps_its_rows_that_learn_from_no_image():
    plan = planned(read("domain-shift"))
    assert (list(plan.missing), plan.keys, plan.trainings()) == (["imagenet"], [], [])
    four = [f"imagenet_{name}" for name in ("v2", "sketch", "a", "r")]
    found = answers(plan)
    assert all(found["imagenet", name] == {"zero_shot", "calip"} for name in four)
    assert not [target for target in plan.targets() if "results.md" in target]
    reasons = {question.reason for question in plan.elsewhere.questions} - {""}
    assert reasons == {"imagenet is left out"}


def test_with_imagenet_every_method_is_asked_about_every_shifted_set(imagenet):
    plan = planned(read("domain-shift"))
    assert all(methods == set(plan.settings) for methods in answers(plan).values())
    assert (
        plan.predict_test(plan.keys[0].backbone, "imagenet", "coop", "imagenet_a").minutes(1) < 60
    )


def test_the_published_form_of_cross_dataset_is_imagenet_on_the_ten_others(imagenet):
    plan = planned(read("cross-dataset"))
    assert len(answers(plan)) == 11 * 11
    assert len([key for key in answers(plan) if key[0] == "imagenet"]) == 1 + 10


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
def test_test_sets_that_cannot_be(demo, changes, parts):
    with pytest.raises(ConfigError) as error:
        planned(demo, "mine.yaml", **changes)
    for part in parts:
        assert part in str(error.value)


def test_halves_of_three_classes_are_too_few(demo, own_dataset):
    own_dataset("mine", "digits", counts={"train": 9, "val": 9, "test": 9, "classes": 3})
    with pytest.raises(ConfigError, match=r"(?s)needs two classes.*mine, with 3 classes"):
        planned(demo, datasets=["mine"], classes="base")


@pytest.mark.parametrize("classes", [9, 11])
def test_a_test_set_of_another_number_of_classes_is_not_of_the_same(demo, own_dataset, classes):
    counts = {"train": 0, "val": 0, "test": 9, "classes": classes}
    own_dataset("mine", "digits_noise", counts=counts)
    with pytest.raises(
        ConfigError, match=rf"(?s)mine\.yaml: classes_of: .*found:    {classes} classes"
    ):
        planned(demo, datasets=["digits"], tests={"digits": ["mine"]})


def test_classes_of_a_dataset_that_nobody_knows(demo, own_dataset):
    own_dataset("mine", "digits_noise", classes_of="digit")
    with pytest.raises(ConfigError, match=r"mine\.yaml: classes_of: Unknown dataset 'digit'"):
        planned(demo, datasets=["digits"], tests={"digits": ["mine"]})


def test_a_dataset_called_as_a_half_is_refused(demo, own_dataset):
    own_dataset("letters@base", "letters")
    with pytest.raises(ConfigError, match="cannot be called so"):
        planned(demo, datasets=["letters@base"])


RECORD = {
    "method": "vt_clip", "dataset": "digits", "classes": 10, "shots": 4, "seed": 2,
    "features": {"backbone": "glyph-clip", "spatial": "projected", "precision": "float32"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "recorded"),
    [
        ({"architecture": "mine.json"}, "mine"),  # the model is called as its file is
        ({"name": "ViT-B/32-quickgelu", "pretrained": "openai"}, "ViT-B-32-quickgelu"),
    ],
)
def test_a_head_is_known_by_the_name_that_its_features_record(demo, here, changes, recorded):
    shutil.copy(ARCHITECTURE, here / "mine.json")
    backbone = {**demo["backbone"], **changes}
    if "architecture" not in changes:
        del backbone["architecture"]
    plan = planned(demo, backbone=backbone)
    (folder,) = plan.backbones
    record = Path(plan.train_head(folder, "digits", "vt_clip", 4, 2).head).with_name("run.json")
    record.parent.mkdir(parents=True)
    features = {**RECORD["features"], "backbone": recorded}
    write_record(record, RECORD | {"features": features})
    plan.index()
    write_record(record, RECORD | {"features": {**features, "backbone": "RN50"}})
    with pytest.raises(ConfigError, match=f"expected: backbone {recorded}"):
        plan.index()


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({}, []),
        ({"dataset": "letters"}, ["found:    dataset letters", "expected: dataset digits"]),
        ({"classes": 26}, ["found:    number of classes 26", "expected: number of classes 10"]),
        ({"method": "clip_adapter"}, ["found:    method clip_adapter"]),
        ({"seed": 3}, ["found:    seed 3", "expected: seed 2"]),
        ({"features": {"backbone": "RN50"}}, ["found:    backbone RN50", "backbone glyph-clip"]),
        ({"features": {"spatial": "raw"}}, ["found:    spatial features raw"]),
    ],
)
def test_a_head_that_belongs_elsewhere_is_told_before_any_job(demo, change, parts):
    plan = planned(demo)
    head = Path(plan.train_head(GLYPHS, "digits", "vt_clip", 4, 2).head)
    head.parent.mkdir(parents=True)
    write_record(head.with_name("run.json"), RECORD | change)
    if not parts:
        plan.index()
        return
    with pytest.raises(ConfigError) as error:
        plan.index()
    for part in [str(head), "Delete its folder", *parts]:
        assert part in str(error.value)


def test_a_test_set_that_could_not_be_had_leaves_its_cells_empty(imagenet):
    archive = archive_path("imagenet_r", "imagenet-r.tar")
    archive.parent.mkdir(parents=True)
    marker_of(archive).touch()
    plan = planned(read("domain-shift"), "shift.yaml")
    assert "take 'imagenet_r' from `tests:` in shift.yaml" in plan.missing["imagenet_r"]
    reasons = {q.tested: q.reason for q in plan.elsewhere.questions if q.reason}
    assert reasons == {"imagenet_r": "imagenet_r is left out"}

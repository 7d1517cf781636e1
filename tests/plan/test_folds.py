"""A dataset in folds: each image is predicted by heads that have not seen it."""

from pathlib import Path

import pytest
import yaml

from tests.plan.conftest import GLYPHS, job, planned
from vtclip.cli.status import estimate_bytes
from vtclip.config.dataset import ClassSplit
from vtclip.paths import ALL
from vtclip.plan import shown
from vtclip.settings import ConfigError

FOLDS = 3


@pytest.fixture
def config(here, demo):
    """An experiment on six images of each of two classes, in three folds."""
    for name in ("heron", "stork"):
        (here / "photographs" / name).mkdir(parents=True)
        for number in range(6):
            (here / "photographs" / name / f"{number}.jpg").write_bytes(b"")
    write_dataset(folds=FOLDS)
    return demo | {"datasets": ["birds"], "shots": [1, "all"], "seeds": [1, 2]}


def write_dataset(**changes):
    described = {"title": "birds", "layout": "folders", "folder": "photographs"} | changes
    Path("config/datasets").mkdir(parents=True, exist_ok=True)
    Path("config/datasets/birds.yaml").write_text(yaml.safe_dump(described))


def test_a_head_is_not_given_the_file_of_the_fold_that_it_predicts(config):
    plan = planned(config)
    tested = job(plan, "predict_test", GLYPHS, "birds", "vt_clip", "birds")
    files = tested.inputs["features"]
    assert len(set(files)) == FOLDS
    runs = tested.params["runs"]
    assert len(runs) == len(set(runs)) == 2 * 2 * FOLDS
    for (shots, seed, fold), head in zip(runs, tested.inputs["heads"], strict=True):
        dataset = str(ClassSplit("birds", fold=fold))
        assert f"/{dataset}/" in head
        trained = job(
            plan, "train_head", GLYPHS, dataset, "vt_clip", "all" if shots == ALL else shots, seed
        )
        (unseen,) = set(files) - set(trained.inputs["features"])
        assert f"fold-{fold[4:]}of3" in unseen
        assert trained.inputs["shots"].startswith(f"results/shots/{dataset}/")


def test_the_tables_count_the_images_of_the_heads_that_they_are_of(config):
    plan = planned(config)
    samples = {sample.path for sample in plan.samples_of(plan.own_runs)}
    folds = [str(ClassSplit("birds", fold=f"fold{number}")) for number in (1, 2, 3)]
    assert {Path(path).parent.name for path in samples} == set(folds)


def test_the_head_to_use_learns_from_all_folds_and_predicts_none_of_them(config):
    plan = planned(config)
    tested = job(plan, "predict_test", GLYPHS, "birds", "vt_clip", "birds")
    heads = {run.head for run in plan.own_runs if run.method == "vt_clip"}
    assert heads
    assert not heads & set(tested.inputs["heads"])
    trained = job(plan, "train_head", GLYPHS, "birds", "vt_clip", "all", 1)
    assert trained.inputs["features"] == tested.inputs["features"]


def test_heads_of_all_images_learn_from_the_validation_images_too(config):
    plan = planned(config)
    trained = {
        (dataset, shots): job(plan, "train_head", GLYPHS, dataset, "vt_clip", shots, 1)
        for dataset in ("birds", "birds@fold1")
        for shots in (1, "all")
    }
    on_all = {place for place, found in trained.items() if found.params["on_all"]}
    assert on_all == {("birds", "all"), ("birds@fold1", "all")}


def test_a_method_that_learns_from_no_image_has_one_head_for_all_folds(config):
    tested = job(planned(config), "predict_test", GLYPHS, "birds", "zero_shot", "birds")
    assert tested.params["runs"] == [(0, 0)]
    assert len(tested.inputs["features"]) == FOLDS


def test_the_images_that_folds_leave_to_learn_from_are_counted(config):
    assert shown.count_images(planned(config))["birds"] == {
        "train": [3, 3],
        "val": [1, 1],
        "test": [6, 6],
    }


def test_all_images_count_in_the_minutes_of_a_dataset_in_folds(config):
    divided = {"train": 2000, "val": 1000, "test": 3000, "classes": 2}
    write_dataset(folds=FOLDS, counts=divided)
    counts = planned(config).counts("birds")
    assert (counts.train, counts.test) == (6000, 6000)


def test_folds_go_neither_with_fractions_nor_with_halves_of_the_classes(config):
    with pytest.raises(ConfigError, match="not into halves"):
        planned(config, classes="base")
    write_dataset(folds=3, fractions={"train": 0.4})
    with pytest.raises(ConfigError, match="'folds' or 'fractions', not both"):
        planned(config)


@pytest.mark.parametrize("key", [{"choose": "all"}, {"optimism": True}])
def test_folds_have_no_whole_split_to_choose_on(config, key):
    with pytest.raises(ConfigError, match="birds has no validation split"):
        planned(config | key | {"methods": {"tip_adapter": None}})


def test_a_tower_method_learns_from_no_image_of_the_fold_that_it_predicts(config):
    plan = planned(config | {"methods": {"clip_lora": None}})
    for dataset in ("birds@fold1", "birds"):
        head = job(plan, "train_head", GLYPHS, dataset, "clip_lora", "all", 1)
        assert head.inputs["shots"] == f"results/shots/{dataset}/allshot-seed1.parquet"


def test_all_shots_of_a_tower_method_are_as_many_as_a_class_has(config):
    plan = planned(config | {"methods": {"clip_lora": None}})
    few, every = (
        job(plan, "train_head", GLYPHS, "birds@fold1", "clip_lora", k, 1) for k in (1, ALL)
    )
    assert few.runtime <= every.runtime < 7 * 24 * 60


def test_the_features_of_folds_that_are_still_to_be_written_are_those_of_their_files(config):
    plan = planned(config)
    assert estimate_bytes(plan)["features"]
    for file in plan.test_features(GLYPHS, "birds"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    assert "features" not in estimate_bytes(plan)


def test_a_footnote_says_that_every_image_is_a_test_image(config):
    note = "birds: every image is a test image, of the heads of a fold that have not seen it."
    assert note in shown.list_notes(planned(config))


def test_a_list_of_picks_for_a_dataset_in_folds_is_refused(config):
    with pytest.raises(ConfigError, match="the images of birds are drawn out of its folds"):
        planned(config | {"picks": "lists"})

"""The optimism table: other choices and oracles, beside a main table that they cannot change."""

from pathlib import Path

import pytest

from tests.plan.conftest import GLYPHS, job, planned
from vtclip.plan import head_jobs, shown
from vtclip.settings import ConfigError

PLACE = f"{GLYPHS}/digits/tip_adapter_f"


@pytest.fixture
def plans(demo):
    """The embedded experiment without the optimism table, and with it."""
    return planned(demo), planned(demo, optimism=True)


def files(job):
    return [
        file
        for given in job.inputs.values()
        for file in ([given] if isinstance(given, str) else given)
    ]


def test_the_main_tables_are_made_of_the_same_heads_and_notes_with_it_and_without(plans):
    plain, more = plans
    assert plain.index() == more.index()
    for show in (shown.list_notes, shown.list_unmet, shown.list_titles):
        assert show(plain) == show(more)
    for run in plain.own_runs[::7]:
        where = (*run.head.split("/")[3:6], run.shots, run.seed)
        assert job(plain, "train_head", *where) == job(more, "train_head", *where)
    new = set(more.targets()) - set(plain.targets())
    assert new == {f"results/demo/tables/optimism.{suffix}" for suffix in ("parquet", "csv", "md")}


def test_methods_that_choose_are_trained_under_each_choice_that_they_have(plans):
    _, plan = plans
    assert list(plan.optimistic) == ["linear_probe", "tip_adapter_f"]
    choices = head_jobs.list_choices(plan, "tip_adapter_f")
    assert choices["validation"] == "tip_adapter_f"
    assert choices["all"] == "tip_adapter_f@choose=all"
    head = job(plan, "train_head", GLYPHS, "digits", "tip_adapter_f@choose=all", 4, 1)
    assert head.inputs["validation"] == f"results/features/{GLYPHS}/digits/val.parquet"
    assert head.params["validation"]
    none = job(plan, "train_head", GLYPHS, "digits", "tip_adapter_f@choose=none", 4, 1)
    assert not none.params["validation"]
    assert "validation" not in none.inputs


def test_an_oracle_alone_reads_test_features_and_writes_into_a_folder_that_no_job_reads(plans):
    _, plan = plans
    where = {"backbone": GLYPHS, "dataset": "digits", "method": "tip_adapter_f"}
    made = head_jobs.train_oracle(plan, **where, shots="4", seed="1")
    assert made.inputs["test"] == [f"results/features/{GLYPHS}/digits/test.parquet"]
    fair = job(plan, "train_head", GLYPHS, "digits", "tip_adapter_f", 4, 1)
    assert made.mem_mb > fair.mem_mb  # with the test features
    assert len(made.inputs["heads"]) == len(made.inputs["predictions"]) == 3
    assert plan.paths.oracle.startswith("results/demo/oracle/")
    runs = [*plan.own_runs, *head_jobs.list_fair_runs(plan)]
    for run in runs:
        place = run.head.split("/")[3:6]
        training = job(plan, "train_head", *place, run.shots, run.seed)
        predicting = job(plan, "predict_test", *place, run.tested)
        assert not [file for file in files(training) if "/test" in file]
        assert not [file for file in files(training) + files(predicting) if "/oracle/" in file]
    assert not [file for file in plan.targets() if "/oracle/" in file]


@pytest.mark.parametrize("choose", ["oracle", "test"])
def test_no_experiment_can_choose_on_the_test_images(demo, choose):
    with pytest.raises(ConfigError, match="choose"):
        planned(demo, choose=choose)


@pytest.mark.parametrize("link", [False, True])
def test_an_oracles_head_cannot_be_named_in_another_experiment(demo, here, link):
    folder = here / "results/demo/oracle" / PLACE / "4shot-seed1"
    folder.mkdir(parents=True)
    file = folder / "oracle.safetensors"
    file.touch()
    given = str(file.relative_to(here))
    if link:
        Path("mine.safetensors").symlink_to(file)
        given = "mine.safetensors"
    backbone = {"name": "RN50-quickgelu", "pretrained": given}
    with pytest.raises(ConfigError, match="an oracle's files are no input"):
        planned(demo, backbone=backbone, name="other")


@pytest.mark.parametrize("key", [{"choose": "all"}, {"optimism": True}])
def test_a_method_that_reads_images_cannot_choose_on_a_whole_split(demo, key):
    methods = {"zero_shot": None, "clip_lora": {"select": "val"}}
    message = "clip_lora reads images, and can choose on the validation shots of a run alone"
    with pytest.raises(ConfigError, match=message):
        planned(demo, methods=methods, **key)
    planned(demo, methods=methods)
    planned(demo, methods={"clip_lora": None, "tip_adapter": None}, **key)


def test_a_dataset_needs_a_validation_split(demo, own_dataset):
    counts = {"train": 200, "val": 0, "test": 100, "classes": 10}
    own_dataset("noval", "digits", counts=counts)
    with pytest.raises(ConfigError, match="optimism: noval has no validation split"):
        planned(demo, optimism=True, datasets=["noval"])

"""Picks: lists of images that stand in place of a draw."""

import json
import os
import pickle  # noqa: TID251
from itertools import product
from pathlib import Path

import pytest

from tests.plan.conftest import GLYPHS, job, planned
from vtclip.plan import shown
from vtclip.settings import ConfigError

PICKS = "lists/{dataset}/shot_{shots}-seed_{seed}.json"
RECORDS = [{"impath": "images/a.png", "label": 0}]
LIST = json.dumps({"train": RECORDS, "val": RECORDS})


@pytest.fixture
def lists(here, demo):
    """A list for each run of the embedded experiment, and a function that writes one again."""

    def write(dataset, shots, seed, content=LIST):
        file = Path(PICKS.format(dataset=dataset, shots=shots, seed=seed))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    for run in product(demo["datasets"], demo["shots"], demo["seeds"]):
        write(*run)
    return write


def refused(config, **changes) -> str:
    with pytest.raises(ConfigError) as error:
        planned(config, **changes)
    return str(error.value)


@pytest.mark.parametrize("picks", ["lists", PICKS])
def test_images_features_and_heads_of_picks_never_replace_those_of_a_draw(demo, lists, picks):
    drawn, picked = planned(demo), planned(demo, picks=picks)
    run = picked.own_runs[-1]
    assert "16shot-seed3-picks-" in run.head
    assert not {run.head for run in drawn.own_runs} & {run.head for run in picked.own_runs}
    assert not set(drawn.picks.values()) & set(picked.picks.values())
    features = job(picked, "train_head", GLYPHS, "digits", "vt_clip", 4, 2).inputs["features"]
    assert features == picked.paths.shot_features.format(
        backbone=GLYPHS, dataset="digits", views="4crops-0.8-1.0", shots=4, seed=2
    )
    assert "/4shot-seed2-picks-" in features
    assert picked.picks_of("digits", 4, 2) == PICKS.format(dataset="digits", shots=4, seed=2)


@pytest.mark.parametrize("draw", [{"picks": "lists"}, {"shots": {"min": 1, "max": 4, "seed": 7}}])
def test_the_lists_of_any_experiment_can_be_the_picks_of_another(demo, lists, draw):
    plan = planned(demo, **draw)
    for name in plan.picks:
        file = Path(plan.paths.folder, "picks", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            "".join(f"{json.dumps(RECORDS[0] | {'split': s})}\n" for s in ("train", "val"))
        )
    again = {"picks": f"{plan.paths.folder}/picks", "shots": [*plan.experiment.shots]}
    assert planned(demo, **again, name="again").picks.keys() == plan.picks.keys()


def test_how_many_images_a_class_has_is_no_matter_of_picks(demo, lists):
    given = {"datasets": ["digits"], "shots": [64], "seeds": [1]}
    lists("digits", 64, 1)
    assert "`shots:` requests 64 images" in "".join(shown.list_unmet(planned(demo, **given)))
    assert shown.list_unmet(planned(demo, **given, picks="lists")) == []


def test_the_images_that_picks_choose_on_are_those_of_the_lists(demo, lists):
    plan = planned(demo, picks="lists", methods={"gda": None})
    images = "the validation images of the lists of picks"
    assert shown.list_notes(plan)[0] == f"Chosen on {images}: GDA: alpha."
    assert shown.explain_choices(plan) == {"GDA": f"alpha, on {images}"}


def test_two_places_of_picks_have_two_names(demo, lists):
    names = {planned(demo, picks=picks).experiment.draw for picks in ("lists", PICKS, "./lists")}
    assert len(names) == 3


def test_a_run_without_a_list_is_named(demo, lists):
    lists("letters", 8, 2).unlink()
    message = refused(demo, picks="lists")
    assert "picks: there is no list of letters, 8 shots, seed 2" in message
    assert "letters/shot_8-seed_2" in message


def test_one_list_cannot_be_that_of_several_runs(demo, lists):
    one = PICKS.format(dataset="digits", shots=1, seed=1)
    assert "one list cannot be that of 30 runs" in refused(demo, picks=one)
    plan = planned(demo, picks=one, datasets=["digits"], shots=[1], seeds=[1])
    assert plan.picks_of("digits", 1, 1) == one


def test_a_pickle_with_code_is_refused_before_the_first_job(demo, lists, here):
    class Harmful:
        def __reduce__(self):
            return os.system, (f"touch {here / 'ran'}",)

    lists("digits", 1, 1).unlink()
    file = Path("lists/digits/shot_1-seed_1.pkl")
    file.write_bytes(pickle.dumps({"train": [Harmful()]}))
    message = refused(demo, picks="lists")
    assert f"{file}: expected a pickle of plain data and Datum records, found" in message
    assert "system" in message
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    ("image", "problem"),
    [("missing.png", "not in the dataset's split"), ("t.png", "of the dataset's test split"),
     ("b.png", "with another label than the dataset's")],
)  # fmt: skip
def test_a_wrong_image_is_named_before_the_first_job_where_the_split_is_there(
    demo, lists, image, problem
):
    rows = {
        "train": [["images/a.png", 0, "zero"], ["images/b.png", 1, "one"]],
        "val": [["images/v.png", 0, "zero"]],
        "test": [["images/t.png", 0, "zero"]],
    }
    split = Path("resources/images/digits/split.json")
    split.parent.mkdir(parents=True)
    split.write_text(json.dumps(rows))
    one = {"datasets": ["digits"], "shots": [1], "seeds": [1], "picks": "lists"}
    listed = {
        name: [{"impath": f"data/images/{file}", "label": 0}]
        for name, file in (("train", "a.png"), ("val", "v.png"))
    }
    lists("digits", 1, 1, json.dumps(listed))
    planned(demo, **one)
    listed["train"].append({"impath": f"data/images/{image}", "label": 0})
    lists("digits", 1, 1, json.dumps(listed))
    message = refused(demo, **one)
    assert "lists/digits/shot_1-seed_1.json: the list does not match the dataset." in message
    assert f"1 image {problem}: data/images/{image}" in message


def test_methods_cannot_choose_on_a_list_without_validation_images(demo, lists):
    lists("letters", 2, 1, json.dumps({"train": RECORDS}))
    message = refused(demo, picks="lists")
    assert "chooses on validation images, and the list has none" in message
    assert "letters/shot_2-seed_1.json" in message
    planned(demo, picks="lists", choose="none")


def test_picks_cannot_lie_where_the_experiment_writes(demo, lists):
    Path("results/demo").mkdir(parents=True)
    Path("lists").rename("results/demo/picks")
    assert "the workflow itself writes there" in refused(demo, picks="results/demo/picks")
    planned(demo, picks="results/demo/picks", name="other")

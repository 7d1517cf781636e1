"""Numbers of shots that differ from class to class."""

import pytest

from tests.plan.conftest import GLYPHS, job, planned
from vtclip.settings import ConfigError


def refused(demo, **changes) -> str:
    with pytest.raises(ConfigError) as error:
        planned(demo, **changes)
    return str(error.value)


def test_uneven_runs_have_names_of_their_own(demo):
    even = planned(demo, shots=[16])
    uneven = planned(demo, shots={"min": 1, "max": 16, "seed": 7})
    assert uneven.experiment.shots == [16]
    assert uneven.sample_of("digits", 16, 1).endswith("/16shot-seed1-uneven-from1-seed7.parquet")
    by_class = planned(demo, shots={"max": 16, "seed": 7, "classes": {"seven": 3}})
    heads = [{run.head for run in plan.own_runs} for plan in (even, uneven, by_class)]
    few_shot = [{head for head in found if "/0shot" not in head} for found in heads]
    assert not few_shot[0] & few_shot[1]
    assert not few_shot[1] & few_shot[2]
    features = job(uneven, "train_head", GLYPHS, "digits", "vt_clip", 16, 1).inputs["features"]
    assert "16shot-seed1-uneven" in features


@pytest.mark.parametrize(
    ("shots", "key"),
    [
        ({"min": 1}, "shots: max"),
        ({"min": 0, "max": 4}, "shots: min"),
        ({"max": 4, "classes": {"seven": 9}}, "min <= each number <= max"),
        ({"max": 4, "sede": 1}, "shots: sede"),
        ({"min": 5, "max": 4}, "shots: max: expected min <= max, found min: 5"),
    ],
)
def test_wrong_numbers_are_refused_by_their_key(demo, shots, key):
    assert key in refused(demo, shots=shots)


def test_uneven_numbers_are_written_under_shots_and_not_beside_picks(demo):
    assert "expected: shots: {min, max, seed}" in refused(demo, uneven={"max": 4})
    assert "picks: null" in refused(demo, shots={"max": 4}, picks="lists")


def test_a_class_that_a_users_dataset_does_not_have_is_refused_before_the_first_job(demo, here):
    for name in ("cat", "dog"):
        (here / "pets" / name).mkdir(parents=True)
        for image in range(12):
            (here / "pets" / name / f"{image}.jpg").touch()
    file = here / "config" / "datasets" / "pets.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("title: Pets\nlayout: folders\nfolder: pets\n")
    message = refused(demo, datasets=["pets"], shots={"max": 4, "classes": {"dgo": 2}})
    assert "shots: classes: pets has no class 'dgo'" in message
    assert "Did you mean 'dog'?" in message
    planned(demo, datasets=["pets"], shots={"max": 4, "classes": {"dog": 2}})

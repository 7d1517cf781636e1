"""`shots: all`: every training image of a class."""

import re

import pytest

from tests.plan.conftest import GLYPHS, job, planned, training
from vtclip.paths import ALL
from vtclip.settings import ConfigError

OWN = {"methods": {"zero_shot": None, "linear_probe": None, "taskres": None}, "datasets": ["mine"]}


@pytest.fixture
def mine(here, own_dataset):
    """Makes a user's dataset of some folders."""

    def make(*folders: str) -> None:
        for folder in folders:
            for label in ("cat", "dog"):
                path = here / "photos" / folder / label
                path.mkdir(parents=True)
                for number in range(6):
                    (path / f"{number}.png").touch()
        own_dataset("mine", "digits", layout="folders", folder="photos", drawn=None, counts=None)

    return make


def test_files_of_all_shots_are_called_so(demo):
    plan = planned(demo, shots=[4, "all"], seeds=[2])
    assert plan.runs_of("vt_clip") == [(4, 2), (ALL, 2)]
    run = plan.own_runs[2]
    assert run.head.endswith("/digits/linear_probe/allshot-seed2/head.safetensors")
    features = training(plan, run).inputs["features"]
    assert features.endswith("/digits/4crops-0.8-1.0/allshot-seed2.parquet")
    assert re.fullmatch(plan.wildcards["shots"], "all")
    assert not re.fullmatch(plan.wildcards["shots"], str(ALL))
    assert not [target for target in plan.targets() if str(ALL) in target]


def test_all_shots_request_as_much_as_the_largest_number_of_shots(demo):
    plan = planned(demo, shots=["all"])
    counts = plan.datasets["digits"].counts
    most = counts.train // counts.classes
    for rule, wildcards in [
        ("train_head", (GLYPHS, "digits", "vt_clip")), ("extract_shots", (GLYPHS, "digits", "")),
    ]:  # fmt: skip
        requested, expected = (job(plan, rule, *wildcards, shots, 1) for shots in ("all", most))
        assert (requested.mem_mb, requested.runtime) == (expected.mem_mb, expected.runtime)


def test_an_ablation_may_be_of_all_shots(demo):
    ablation = {"one_at_a_time": {"heads": [1]}, "shots": ["all"], "seeds": [1]}
    plan = planned(demo, shots=[1, "all"], ablation=ablation)
    assert {run.shots for run in plan.ablation_runs} == {ALL}
    with pytest.raises(ConfigError, match=r"has no all(.|\n)*some of 1, 2"):
        planned(demo, shots=[1, 2], ablation=ablation)


@pytest.mark.parametrize("folders", [[""], ["train", "val", "test"]])
def test_a_users_folder_takes_all_its_images(demo, mine, folders):
    mine(*folders)
    assert len(planned(demo, shots="all", seeds=[1], **OWN).own_runs) == 3


def test_choosing_without_images_to_choose_on_is_refused_with_what_to_write(demo, mine):
    mine("train", "test")
    with pytest.raises(ConfigError) as error:
        planned(demo, "my.yaml", shots=[1, "all"], **OWN)
    message = str(error.value)
    assert message.startswith("my.yaml: shots: all: linear_probe chooses on validation images, and")
    for part in ("found:    shots: all", "validation split of mine", "write:\n    choose: none"):
        assert part in message
    assert "taskres" in planned(demo, shots="all", choose="none", **OWN).settings
    assert planned(demo, shots=[1, 4], **OWN).left_out == {}
    with pytest.raises(ConfigError, match=r"shots: 6: linear_probe chooses .*(.|\n)*choose: none"):
        planned(demo, shots=[1, 6], **OWN)
    chooses_nothing = OWN | {"methods": {"vt_clip": None}}
    assert planned(demo, shots="all", **chooses_nothing)


def test_imagenet_has_no_image_to_choose_on_beside_all_shots(paper, imagenet):
    with pytest.raises(ConfigError, match="shots: all: .* and imagenet has none"):
        planned(paper, shots=["all"])

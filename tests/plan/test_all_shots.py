"""`shots: all`: every training image of a class."""

import re

import pytest

from tests.plan.conftest import GLYPHS, planned
from vtclip.paths import ALL
from vtclip.settings import ConfigError

OWN = {"methods": {"zero_shot": None, "linear_probe": None, "taskres": None}, "datasets": ["mine"]}


@pytest.fixture
def mine(here, own_dataset):
    """Makes a dataset of one's own of some folders."""

    def make(*folders: str) -> None:
        for folder in folders:
            for label in ("cat", "dog"):
                path = here / "photos" / folder / label / "1.png"
                path.parent.mkdir(parents=True)
                path.touch()
        own_dataset("mine", "digits", layout="folders", folder="photos", drawn=None, counts=None)

    return make


def test_files_of_all_shots_are_called_so(demo):
    plan = planned(demo, shots=[4, "all"], seeds=[2])
    assert plan.runs_of("vt_clip") == [(4, 2), (ALL, 2)]
    run = plan.trainings()[2]
    assert run.head.endswith("/digits/linear_probe/allshot-seed2/head.safetensors")
    assert run.large_inputs["features"].endswith("/digits/4crops-0.8-1.0/allshot-seed2.parquet")
    assert run == plan.train_head(GLYPHS, "digits", "linear_probe", ALL, 2)
    assert plan.train_head(GLYPHS, "digits", "linear_probe", "all", "2").head == run.head
    shots = plan.extract_shots(GLYPHS, "digits", "4crops-0.8-1.0", "all", "2")
    assert shots.inputs == {"shots": "results/shots/digits/allshot-seed2.parquet"}
    assert re.fullmatch(plan.wildcards["shots"], "all")
    assert not re.fullmatch(plan.wildcards["shots"], str(ALL))
    assert not [target for target in plan.targets() if str(ALL) in target]


def test_all_shots_ask_for_as_much_as_the_dataset_has(demo):
    plan = planned(demo, shots=["all"])
    run = plan.train_head(GLYPHS, "digits", "vt_clip", ALL, 1)
    counts = plan.datasets["digits"].counts
    assert run.size(ALL).images == counts.train
    assert run.size(ALL).val_images == 4 * counts.classes
    views = 1 + plan.experiment.views.number
    assert plan.extract_shots(GLYPHS, "digits", "", "all", 1).number == views * counts.train


def test_an_ablation_may_be_of_all_shots(demo):
    ablation = {"one_at_a_time": {"heads": [1]}, "shots": ["all"], "seeds": [1]}
    plan = planned(demo, shots=[1, "all"], ablation=ablation)
    assert {run.shots for run in plan.ablation_trainings()} == {ALL}
    with pytest.raises(ConfigError, match=r"has no all(.|\n)*some of 1, 2"):
        planned(demo, shots=[1, 2], ablation=ablation)


@pytest.mark.parametrize("folders", [[""], ["train", "val", "test"]])
def test_a_folder_of_ones_own_takes_all_its_images(demo, mine, folders):
    mine(*folders)
    assert len(planned(demo, shots="all", seeds=[1], **OWN).trainings()) == 3


def test_choosing_without_images_to_choose_on_is_refused_with_the_cure(demo, mine):
    mine("train", "test")
    with pytest.raises(ConfigError) as error:
        planned(demo, "my.yaml", shots=[1, "all"], **OWN)
    message = str(error.value)
    assert message.startswith("my.yaml: shots: all: linear_probe chooses on validation images, and")
    for part in ("found:    shots: all", "validation split of mine", "write:\n    choose: none"):
        assert part in message
    assert "taskres" in planned(demo, shots="all", choose="none", **OWN).settings
    assert planned(demo, shots=[1, 4], **OWN).left_out == {}
    chooses_nothing = OWN | {"methods": {"vt_clip": None}}
    assert planned(demo, shots="all", **chooses_nothing)


def test_imagenet_has_no_image_to_choose_on_beside_all_shots(paper, imagenet):
    with pytest.raises(ConfigError, match="shots: all: .* and imagenet has none"):
        planned(paper, shots=["all"])

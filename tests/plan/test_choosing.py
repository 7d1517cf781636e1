"""Choices on the validation shots, and the constants where nothing may be chosen."""

import pytest

from tests.methods.test_folder import add_method  # noqa: F401  (a fixture)
from tests.plan.conftest import GLYPHS, job, planned, training
from vtclip.methods import METHODS
from vtclip.plan import head_jobs, shown
from vtclip.plan.variants import constant_settings
from vtclip.settings import ConfigError

METHODS_HERE = {"zero_shot": None, "weighted": None, "linear_probe": None, "taskres": None}


@pytest.fixture(autouse=True)
def weighted(add_method, monkeypatch):  # noqa: F811
    """A method that chooses a weight, and has a constant for each number of shots."""
    monkeypatch.setattr(head_jobs, "method_code", lambda script, method: "of code in no file")
    add_method(
        "weighted",
        "from pydantic import Field\n"
        "from vtclip.methods.base import Method\n"
        "from vtclip.settings import Settings\n"
        "class WeightedSettings(Settings):\n"
        "    sum_weight: list[float] = Field(default=[0.5, 1.0], description='weights')\n"
        "    other: list[float] = Field(default=[7.0], description='one value')\n"
        "class Weighted(Method):\n"
        "    settings_type = WeightedSettings\n"
        "    tunes = True\n"
        "    def settings_without_choice(self, shots):\n"
        "        return self.settings.model_copy(update={'sum_weight': [float(shots)]})\n",
    )


def without(demo, **changes):
    """The plan of the embedded experiment without validation, with four methods."""
    return planned(demo, **({"methods": METHODS_HERE, "choose": "none"} | changes))


def refused(demo, **changes) -> str:
    with pytest.raises(ConfigError) as error:
        without(demo, **changes)
    return str(error.value)


def test_methods_choose_on_the_validation_shots_where_nothing_else_is_said(demo):
    plan = planned(demo, methods=METHODS_HERE)
    assert list(plan.settings) == [*METHODS_HERE]
    assert plan.left_out == {}
    head = job(plan, "train_head", GLYPHS, "digits", "weighted", 4, 1)
    assert head.params["settings"]["sum_weight"] == [0.5, 1.0]
    assert head.params["validation"]


def test_without_validation_each_method_takes_the_constants_of_its_shots(demo):
    plan = without(demo)
    for shots in (1, 16):
        params = job(plan, "train_head", GLYPHS, "digits", "weighted", shots, 1).params
        assert params["settings"]["sum_weight"] == [shots]
        assert not params["validation"]


def test_no_training_is_given_validation_shots_then(demo):
    plan = without(demo)
    assert not any(training(plan, run).params["validation"] for run in plan.own_runs)


def test_a_method_without_constants_is_left_out_by_name(demo):
    plan = without(demo)
    assert list(plan.settings) == ["zero_shot", "weighted", "taskres"]
    assert plan.left_out == {
        "linear_probe": "config/demo.yaml: linear_probe is left out: with `choose: none` it has no "
        "constants to take."
    }
    assert "linear_probe" not in {run.method for run in plan.own_runs}
    assert not [target for target in plan.targets() if "linear_probe" in target]
    (note,) = shown.list_notes(plan)
    assert note.startswith("Nothing was chosen on any image")
    assert note.endswith("Left out, for they have none: Linear probe.")


def test_the_footnote_names_what_each_method_has_chosen_and_on_how_many_images(demo):
    settings = METHODS_HERE | {"vt_clip": {"select": "val"}}
    assert shown.list_notes(planned(demo, methods=settings)) == [
        "Chosen on the validation shots, min(shots, 4) images per class: Zero-shot CLIP, TaskRes: "
        "nothing; Weighted: sum weight; Linear probe: inverse regularisation; VT-CLIP: when to "
        "stop.",
        "Settings other than the default ones: VT-CLIP: select.",
    ]


def test_the_footnote_of_an_ablation_names_it_of_each_variant(demo):
    plan = planned(demo, ablation={"one_at_a_time": {"select": ["val"]}})
    (note,) = shown.list_ablation_notes(plan)
    assert note.endswith("as configured: nothing; select: val: when to stop.")


def test_the_footnote_of_an_ablation_without_a_choice_names_the_values_that_are_not_used(demo):
    varied = {"method": "gda", "one_at_a_time": {"alpha": [[0.5, 1.0]]}}
    plan = planned(demo, methods={"gda": None}, choose="none", ablation=varied)
    assert "`alpha: [0.5, 1.0]` cannot be chosen from" in shown.list_ablation_notes(plan)[-1]


def test_the_footnote_names_the_settings_that_are_not_the_published_ones(demo):
    settings = {"coop": {"context": 4, "last_batch": "keep"}, "zs_lp": None}
    assert shown.list_notes(planned(demo, methods=settings))[1:] == [
        "Settings other than the default ones: CoOp: last_batch, context."
    ]


def test_without_a_choice_a_list_that_is_not_used_is_no_setting_in_the_footnote(demo):
    methods = {"gda": {"alpha": [0.5, 1.0]}}
    assert len(shown.list_notes(planned(demo, methods=methods))) == 2
    assert len(shown.list_notes(planned(demo, methods=methods, choose="none"))) == 1


def test_a_single_value_that_the_configuration_names_stays():
    kind = METHODS["weighted"]
    for given, taken in (([0.25], [0.25]), ([0.25, 0.5], [4.0])):
        method = kind(kind.settings_type(sum_weight=given))
        assert constant_settings(method, 4).sum_weight == taken
    assert constant_settings(kind(kind.settings_type()), 4).other == [7.0]


@pytest.mark.parametrize("name", ["zero_shot", "calip", "clip_adapter", "coop", "vt_clip", "clap"])
def test_a_method_that_tunes_nothing_keeps_its_own_settings(name):
    method = METHODS[name](METHODS[name].settings_type())
    assert constant_settings(method, 16) == method.settings


def test_every_methods_constants_leave_nothing_to_choose():
    for name, kind in METHODS.items():
        for shots in (1, 4, 16, 100):
            settings = kind(kind.settings_type()).settings_without_choice(shots)
            if settings is not None:
                assert kind(settings).choices() == [], name


@pytest.mark.parametrize(
    "changes",
    [
        {"methods": {"vt_clip": {"select": "val"}}},
        {"methods": {"vt_clip": None}, "ablation": {"one_at_a_time": {"select": ["val"]}}},
    ],
)
def test_choosing_the_epoch_is_refused_with_what_to_write(demo, changes):
    message = refused(demo, **changes)
    assert message.startswith("config/demo.yaml: ")
    for part in ("select", "found:    select: val, and choose: none", "write:\n    select: last"):
        assert part in message


def test_an_experiment_of_which_no_method_is_left_is_refused(demo):
    message = refused(demo, methods={"linear_probe": None})
    assert "linear_probe is left out" in message
    assert message.endswith("No method is left.\n  write:\n    choose: validation")


def test_an_ablation_of_a_method_that_is_left_out_is_refused(demo):
    ablation = {"method": "linear_probe", "one_at_a_time": {"iterations": [5]}}
    message = refused(demo, ablation=ablation)
    assert "ablation: method: linear_probe" in message


def test_another_word_is_refused_with_the_known_ones(demo):
    message = refused(demo, choose="test")
    for part in ("choose", "'validation', 'all' or 'none'", "write:\n    choose: validation"):
        assert part in message


def test_with_and_without_a_choice_no_head_is_shared_that_may_differ(demo):
    """In two folders the paths differ, and in one the params of the jobs."""
    chosen, plain = planned(demo, methods=METHODS_HERE), without(demo)
    for run in plain.own_runs:
        assert training(plain, run).params != training(chosen, run).params
    other = without(demo, name="demo-without")
    assert not {run.head for run in other.own_runs} & {run.head for run in chosen.own_runs}


def test_all_chooses_on_the_whole_validation_split_in_a_file_that_runs_share(demo):
    plan = planned(demo, methods=METHODS_HERE, choose="all")
    heads = [job(plan, "train_head", GLYPHS, "digits", "weighted", k, 1) for k in (1, 16)]
    for head in heads:
        assert head.params["validation"]
        assert head.params["settings"]["sum_weight"] == [0.5, 1.0]
        assert "/4crops-" in head.inputs["features"]
        assert head.inputs["validation"] == f"results/features/{GLYPHS}/digits/val.parquet"
    shots = job(
        planned(demo, methods=METHODS_HERE), "train_head", GLYPHS, "digits", "weighted", 16, 1
    )
    assert heads[-1].mem_mb >= shots.mem_mb
    assert shown.list_notes(plan)[0].startswith("Chosen on the whole validation split: ")
    assert any("on the whole validation split" in e for e in shown.explain_choices(plan).values())
    zero_shot = job(plan, "train_head", GLYPHS, "digits", "zero_shot", 0, 0)
    assert "features" not in zero_shot.inputs
    nothing = job(plan, "train_head", GLYPHS, "digits", "taskres", 16, 1)
    assert "validation" not in nothing.inputs  # it chooses nothing


def test_a_dataset_without_a_validation_split_cannot_be_chosen_on_as_a_whole(demo, own_dataset):
    counts = {"train": 200, "val": 0, "test": 100, "classes": 10}
    own_dataset("noval", "digits", counts=counts)
    with pytest.raises(ConfigError, match="noval has no validation split"):
        planned(demo, methods=METHODS_HERE, choose="all", datasets=["noval"])
    planned(demo, methods=METHODS_HERE, choose="validation", datasets=["noval"])

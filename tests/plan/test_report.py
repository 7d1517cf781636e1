from tests.plan.conftest import planned
from vtclip.methods.vt_clip import VTClipSettings
from vtclip.plan.variants import explain_choice


def test_all_that_the_report_reads_is_made_by_the_experiment_or_comes_with_the_project(demo):
    plan = planned(demo)
    job = plan.report
    inputs = [
        file
        for found in job.inputs.values()
        for file in ([found] if isinstance(found, str) else found)
    ]
    made = {*plan.targets(), *plan.records, *(plan.images_receipt(name) for name in plan.datasets)}
    assert [file for file in inputs if file not in made] == [job.inputs["template"]]
    assert job.page in plan.targets()
    assert len(job.told["shown"]) == len(job.predictions) == len(job.texts) == 2


def test_of_a_half_of_the_classes_the_images_are_shown_and_no_attention(demo):
    plan = planned(demo, classes="base")
    shown = [key.dataset for key in plan.report.shown]
    assert shown == ["digits@base", "letters@base"]
    assert plan.report.inputs["images"] == [
        plan.images_receipt(name) for name in ("digits", "letters")
    ]
    assert all("@" not in file for file in plan.report.texts)
    assert plan.report.inputs["attention"] == []
    assert set(shown) <= set(plan.report.told["titles"])


def test_without_vt_clip_another_method_is_shown_and_no_attention(demo):
    plan = planned(demo, methods={"zero_shot": None, "linear_probe": None})
    assert {key.method for key in plan.report.shown} == {"linear_probe"}
    assert plan.report.inputs["attention"] == []


def test_what_each_method_chooses_is_said(demo):
    choices = planned(demo).report.told["choices"]
    assert choices["Zero-shot CLIP"] == "Nothing: it learns from no image."
    assert "best on the run's validation shots" in choices["Linear probe"]
    assert choices["VT-CLIP"] == "Nothing: the last epoch is kept."
    chosen = explain_choice("vt_clip", VTClipSettings(select="val"))
    assert chosen == "The epoch: best on the run's validation shots."

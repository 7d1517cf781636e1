from tests.plan.conftest import planned
from vtclip.methods.vt_clip import VTClipSettings
from vtclip.plan.variants import explain_choice


def test_the_report_shows_an_example_of_each_dataset_from_files_that_are_made(demo):
    plan = planned(demo)
    assert [example.dataset for example in plan.examples] == ["digits", "letters"]
    for example in plan.examples:
        assert {example.predictions, example.attention} <= set(plan.targets())
        assert example.receipt == plan.images_receipt(example.dataset)


def test_of_a_half_of_the_classes_the_images_are_shown_and_no_attention(demo):
    plan = planned(demo, classes="base")
    examples = plan.examples
    assert [example.dataset for example in examples] == ["digits@base", "letters@base"]
    receipts = [plan.images_receipt(name) for name in ("digits", "letters")]
    assert [example.receipt for example in examples] == receipts
    assert all("@" not in example.texts and not example.attention for example in examples)
    assert {example.dataset for example in examples} <= set(plan.titles)


def test_without_vt_clip_another_method_is_shown_and_no_attention(demo):
    plan = planned(demo, methods={"zero_shot": None, "linear_probe": None})
    assert plan.reference == "linear_probe"
    assert all("/linear_probe/" in example.predictions for example in plan.examples)
    assert not any(example.attention for example in plan.examples)


def test_what_each_method_chooses_is_said(demo):
    choices = planned(demo).choices
    assert choices["Zero-shot CLIP"] == "Nothing: it learns from no image."
    assert "best on the run's validation shots" in choices["Linear probe"]
    assert choices["VT-CLIP"] == "Nothing: the last epoch is kept."
    chosen = explain_choice("vt_clip", VTClipSettings(select="val"))
    assert chosen == "The epoch: best on the run's validation shots."

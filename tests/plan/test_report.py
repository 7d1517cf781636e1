from tests.plan.conftest import GLYPHS, job, planned
from vtclip.plan import shown


def test_the_report_shows_an_example_of_each_dataset_from_files_that_are_made(demo):
    plan = planned(demo)
    assert [example.dataset for example in shown.list_examples(plan)] == ["digits", "letters"]
    for example in shown.list_examples(plan):
        assert example.attention in plan.targets()
        assert example.receipt == plan.images_receipt(example.dataset)


def test_test_images_are_compared_with_the_images_of_all_runs(demo):
    plan = planned(demo, shots=[1, 4], seeds=[1, 2])
    found = job(plan, "find_test_copies", "digits").inputs
    runs = [(shots, seed) for shots in (1, 4) for seed in (1, 2)]
    assert found["shots"] == [plan.sample_of("digits", *run) for run in runs]
    assert found["learned"] == [plan.shot_features_of(GLYPHS, "digits", *run) for run in runs]
    assert found["test"] == plan.test_features(GLYPHS, "digits")
    assert {"results/demo/tables/copies/digits.parquet", shown.list_examples(plan)[0].copies} <= {
        *plan.targets()
    }


def test_features_of_uneven_shots_are_the_reports_too(demo):
    plan = planned(demo, shots={"min": 1, "max": 16, "seed": 7})
    for example in shown.list_examples(plan):
        assert all("-uneven-" in file for file in [*example.learned, example.others])


def test_without_shots_no_test_image_is_compared(demo):
    assert not shown.list_examples(planned(demo, methods={"zero_shot": None}))[0].copies


def test_of_a_half_of_the_classes_the_images_are_shown_and_no_attention(demo):
    plan = planned(demo, classes="base")
    examples = shown.list_examples(plan)
    assert [example.dataset for example in examples] == ["digits@base", "letters@base"]
    receipts = [plan.images_receipt(name) for name in ("digits", "letters")]
    assert [example.receipt for example in examples] == receipts
    assert all("@" not in example.texts and not example.attention for example in examples)
    assert {example.dataset for example in examples} <= set(shown.list_titles(plan))


def test_without_vt_clip_another_method_is_shown_and_no_attention(demo):
    plan = planned(demo, methods={"zero_shot": None, "linear_probe": None})
    assert plan.reference == "linear_probe"
    assert not any(example.attention for example in shown.list_examples(plan))


def test_what_each_method_chooses_is_what_the_tables_say(demo):
    choices = shown.explain_choices(planned(demo))
    assert choices["Zero-shot CLIP"] == choices["VT-CLIP"] == "nothing"
    shots = "the validation shots, min(shots, 4) images per class"
    assert choices["Linear probe"] == f"inverse regularisation, on {shots}"
    one = {"tip_adapter": {"alpha": [0.5], "beta": [1.0]}, "vt_clip": {"select": "val"}}
    choices = shown.explain_choices(planned(demo, methods=one))
    assert choices == {"Tip-Adapter": "nothing", "VT-CLIP": f"when to stop, on {shots}"}
    constants = shown.explain_choices(planned(demo, choose="none"))
    assert set(constants.values()) == {"nothing"}

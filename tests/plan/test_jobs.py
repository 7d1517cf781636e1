"""What each job reads, is told and asks for."""

import pytest

from tests.plan.conftest import ARCHITECTURE, GLYPHS, RN50, planned
from vtclip.methods import METHODS


def files(inputs) -> list[str]:
    """All files of named inputs, some of which are lists."""
    groups = ([group] if isinstance(group, str) else group for group in inputs.values())
    return [file for group in groups for file in group]


# What lies where, and what each job reads.


def test_files_lie_where_the_design_says(demo):
    plan = planned(demo)
    head = plan.train_head(GLYPHS, "digits", "vt_clip", 4, 2)
    assert head.head == f"results/demo/heads/{GLYPHS}/digits/vt_clip/4shot-seed2/head.safetensors"
    assert head.large_inputs == {
        "texts": f"results/features/{GLYPHS}/digits/texts.parquet",
        "features": f"results/features/{GLYPHS}/digits/4crops-0.8-1.0/4shot-seed2.parquet",
    }
    shots = plan.extract_shots(GLYPHS, "digits", "4crops-0.8-1.0", "4", "2")
    assert shots.inputs == {"shots": "results/shots/digits/4shot-seed2.parquet"}
    assert shots.large_inputs == {"weights": f"resources/backbones/{GLYPHS}.safetensors"}
    assert shots.images == "resources/images/digits"
    test = plan.extract_test(GLYPHS, "digits", "test")
    assert test.large_inputs == {
        "weights": f"resources/backbones/{GLYPHS}.safetensors",
        "manifest": "results/manifests/digits.parquet",
    }
    assert plan.extract_texts(GLYPHS, "digits").large_inputs == test.large_inputs
    predict = plan.predict_test(GLYPHS, "digits", "vt_clip", "digits")
    assert predict.predictions == f"results/demo/predictions/{GLYPHS}/digits/vt_clip/digits.parquet"
    assert predict.large_inputs["texts"] == head.large_inputs["texts"]
    assert predict.large_inputs["features"] == [f"results/features/{GLYPHS}/digits/test.parquet"]
    assert predict.heads[0] == head.head.replace("4shot-seed2", "1shot-seed1")
    assert len(predict.heads) == len(predict.runs) == 15
    assert plan.receipts_of("digits") == []
    assert plan.images_receipt("digits") == "resources/images/digits.json"


def test_a_method_that_learns_from_no_image_reads_texts_alone(demo):
    head = planned(demo).train_head(GLYPHS, "digits", "zero_shot", 0, 0)
    assert list(head.large_inputs) == ["texts"]


def test_no_job_but_a_prediction_reads_test_features(paper, imagenet):
    ablation = {"one_at_a_time": {"heads": [4]}, "shots": [1], "seeds": [1]}
    plan = planned(paper, ablation=ablation, methods=dict.fromkeys(METHODS))
    test = {
        f"results/features/{RN50}/{dataset}/{part}.parquet"
        for dataset in plan.datasets
        for part in plan.parts_of(dataset)
    }
    predicting = {
        file
        for key in plan.keys
        for file in files(plan.predict_test(*key, tested=key.dataset).large_inputs)
    }
    assert test <= predicting
    others = [*plan.trainings(), *plan.ablation_trainings()]
    for dataset in plan.datasets:
        others += [plan.extract_texts(RN50, dataset), plan.plot_attention(RN50, dataset)]
        others += [plan.extract_test(RN50, dataset, part) for part in plan.parts_of(dataset)]
        others += [plan.extract_shots(RN50, dataset, "", k, 1) for k in (1, 16)]
    read = {file for job in others for file in files({**job.inputs, **job.large_inputs})}
    assert not read & test
    assert not [file for file in read if "/features/" in file and "/test" in file]


def test_only_a_method_that_reads_the_text_tower_is_given_the_weights(demo):
    coop = {"coop": {"context": 4}}
    plan = planned(demo, methods=demo["methods"] | coop)
    for method in plan.settings:
        head = plan.train_head(GLYPHS, "digits", method, 1, 1)
        assert ("weights" in head.large_inputs) == (method == "coop")
        assert (head.told["tower"] is None) == (method != "coop")
        assert ("vtclip.backbones.prompts" in head.modules) == (method == "coop")
    tower = plan.train_head(GLYPHS, "digits", "coop", 1, 1).told["tower"]
    assert tower == {
        "name": "glyph-clip", "spatial": "projected", "precision": "float32",
        "architecture": str(ARCHITECTURE),
    }  # fmt: skip


def test_attention_is_drawn_with_a_head_of_the_most_shots(demo):
    job = planned(demo, shots=[4, 16, 2], seeds=[3, 1]).plot_attention(GLYPHS, "digits")
    assert job.run == (16, 3)
    assert job.large_inputs["head"].endswith("/vt_clip/16shot-seed3/head.safetensors")
    assert job.inputs == {"images": "resources/images/digits.json"}


def test_a_large_test_set_is_extracted_in_shards(paper, imagenet):
    plan = planned(paper)
    assert plan.parts_of("imagenet") == [f"test-{shard}of5" for shard in (1, 2, 3, 4, 5)]
    assert plan.parts_of("dtd") == ["test"]
    assert plan.extract_test(RN50, "imagenet", "test-2of5").shard == (2, 5)
    assert plan.extract_test(RN50, "dtd", "test").shard == (1, 1)
    read = plan.predict_test(RN50, "imagenet", "zero_shot", "imagenet").large_inputs["features"]
    assert read[1] == f"results/features/{RN50}/imagenet/test-2of5.parquet"


@pytest.mark.parametrize(
    ("views", "folder"),
    [
        ({"number": 4, "scale": [0.5, 1.0], "flip": True}, "4crops-0.5-1.0-flip"),
        ({"number": 4, "scale": [0.8, 1], "flip": False}, "4crops-0.8-1.0"),
        ({"number": 0}, "0crops-0.5-1.0-flip"),
        ({}, "4crops-0.5-1.0-flip"),
    ],
)
def test_other_views_have_another_folder_in_words(demo, views, folder):
    plan = planned(demo, views=views)
    head = plan.train_head(GLYPHS, "digits", "vt_clip", 1, 1)
    assert head.large_inputs["features"].split("/")[4] == folder
    assert head.size(1).views == 1 + plan.experiment.views.number


# What jobs are told.


def test_imagenet_has_coops_fifty_epochs_unless_the_user_names_some(paper, imagenet):
    def epochs(dataset, **settings):
        plan = planned(paper, methods={"vt_clip": settings})
        return plan.train_head(RN50, dataset, "vt_clip", 1, 1).settings["epochs"]

    assert epochs("imagenet") == 50
    assert epochs("dtd") == {"1": 50, "2": 100, "8": 200}
    assert epochs("imagenet", epochs=5) == epochs("dtd", epochs=5) == 5
    assert epochs("imagenet", epochs=5, epochs_of={"imagenet": 7}) == 7
    assert epochs("dtd", epochs_of={"dtd": 9}) == 9


def test_a_jobs_code_is_its_own_methods_and_no_others(paper):
    plan = planned(paper, methods=dict.fromkeys(METHODS))
    heads = {method: plan.train_head(RN50, "dtd", method, 1, 1) for method in plan.settings}
    for method, job in heads.items():
        assert job.modules[0] == f"vtclip.methods.{method}"
        assert len(job.modules) == 1 + (method == "coop")
        assert job.modules == plan.predict_test(RN50, "dtd", method, "dtd").modules
    assert len({job.code for job in heads.values()}) == len(heads) == len(METHODS)
    assert len({plan.predict_test(RN50, "dtd", m, "dtd").code for m in heads}) == len(heads)


# What jobs ask for.


def test_no_job_asks_for_a_gpu_on_a_cpu(demo):
    assert (planned(demo, device="cpu").gpus, planned(demo).gpus) == (0, 1)
    for device, gpus in [("cpu", 0), ("cuda", 1), ("auto", 1)]:
        plan = planned(demo, device=device)
        asked = {job.method: job.gpus for job in plan.trainings()}
        assert asked == dict.fromkeys(plan.settings, gpus) | {"linear_probe": 0}


def test_every_training_of_the_paper_asks_for_what_a_node_has(paper, imagenet):
    for job in planned(paper).trainings():
        assert 1 <= job.threads <= 4
        assert 2000 <= job.memory(job.threads) <= 32_000
        assert 2 <= job.minutes(job.threads) <= 24 * 60
        assert job.gpus == (job.method != "linear_probe")


def test_every_other_job_of_the_paper_asks_for_what_a_node_has(paper, imagenet):
    plan = planned(paper)
    for dataset in plan.datasets:
        assert 10 <= plan.unpacking_minutes(dataset) <= 24 * 60
        texts = plan.extract_texts(RN50, dataset)
        jobs = [plan.extract_test(RN50, dataset, part) for part in plan.parts_of(dataset)]
        jobs += [plan.extract_shots(RN50, dataset, "", shots, 1) for shots in (1, 16)]
        for job in jobs:
            assert 1 <= job.threads <= 8
            assert 4000 <= job.memory(job.threads) <= 16_000
            assert 10 <= job.minutes(job.threads) <= 120
        assert 10 <= texts.minutes(1) <= 60
        assert texts.memory(1) == plan.plot_attention(RN50, dataset).memory(1) <= 8000
    for key in plan.keys:
        predicting = plan.predict_test(*key, tested=key.dataset)
        assert 2000 <= predicting.memory(1) <= 16_000
        assert 10 <= predicting.minutes(1) <= 60


def test_more_shots_ask_for_no_less(paper, imagenet):
    plan = planned(paper)
    few, many = (plan.train_head(RN50, "imagenet", "vt_clip", shots, 1) for shots in (1, 16))
    assert few.memory(1) < many.memory(1)
    assert few.minutes(1) < many.minutes(1)
    few, many = (plan.extract_shots(RN50, "imagenet", "", shots, 1) for shots in (1, 16))
    assert few.threads < many.threads
    assert few.minutes(1) < many.minutes(1)


def test_short_trainings_share_a_submission_and_long_ones_have_their_own(paper, imagenet):
    plan = planned(paper)
    groups = {
        (dataset, method): (job.group, job.turn)
        for dataset in ("imagenet", "dtd")
        for method in ("vt_clip", "linear_probe", "zero_shot")
        for job in [plan.train_head(RN50, dataset, method, 16, 1)]
    }
    assert groups == {
        ("imagenet", "vt_clip"): (None, 0),
        ("imagenet", "linear_probe"): (None, 0),
        ("imagenet", "zero_shot"): ("training", 1),
        ("dtd", "vt_clip"): ("training", 1),
        ("dtd", "linear_probe"): ("training_on_cores", 1),
        ("dtd", "zero_shot"): ("training", 1),
    }
    assert plan.train_head(RN50, "imagenet", "linear_probe", 16, 1).threads == 4
    assert plan.train_head(RN50, "dtd", "linear_probe", 16, 1).threads == 1

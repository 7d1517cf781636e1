"""The inputs, params and resources of each rule's jobs."""

import pytest

from tests.methods.short import OF_FEATURES
from tests.plan.conftest import ARCHITECTURE, GLYPHS, RN50, job, planned, training
from vtclip import cost
from vtclip.methods import METHODS
from vtclip.settings import ConfigError


def files(inputs) -> list[str]:
    """All files of named inputs, some of which are lists."""
    groups = ([group] if isinstance(group, str) else group for group in inputs.values())
    return [file for group in groups for file in group]


# What lies where, and what each job reads.


def test_files_lie_where_the_design_says(demo):
    plan = planned(demo)
    head = job(plan, "train_head", GLYPHS, "digits", "vt_clip", 4, 2)
    path = plan.head_of(GLYPHS, "digits", "vt_clip", 4, 2)
    assert path == f"results/demo/heads/{GLYPHS}/digits/vt_clip/4shot-seed2/head.safetensors"
    assert head.inputs == {
        "texts": f"results/features/{GLYPHS}/digits/texts.parquet",
        "features": f"results/features/{GLYPHS}/digits/4crops-0.8-1.0/4shot-seed2.parquet",
    }
    shots = job(plan, "extract_shots", GLYPHS, "digits", "4crops-0.8-1.0", "4", "2")
    assert shots.inputs == {"weights": f"resources/backbones/{GLYPHS}.safetensors"}
    assert shots.params["images"] == "resources/images/digits"
    test = job(plan, "extract_test", GLYPHS, "digits", "test")
    assert test.inputs == {
        "weights": f"resources/backbones/{GLYPHS}.safetensors",
        "manifest": "results/manifests/digits.parquet",
    }
    assert job(plan, "extract_texts", GLYPHS, "digits").inputs == test.inputs
    predict = job(plan, "predict_test", GLYPHS, "digits", "vt_clip", "digits")
    assert predict.inputs["texts"] == head.inputs["texts"]
    assert predict.inputs["features"] == [f"results/features/{GLYPHS}/digits/test.parquet"]
    heads = predict.inputs["heads"]
    assert heads[0] == path.replace("4shot-seed2", "1shot-seed1")
    assert len(heads) == len(predict.params["runs"]) == 15
    assert head.receipts == [file.replace(".parquet", ".json") for file in head.inputs.values()]
    assert plan.images_receipt("digits") == "resources/images/digits.json"


def test_a_method_that_learns_from_no_image_reads_texts_alone(demo):
    head = job(planned(demo), "train_head", GLYPHS, "digits", "zero_shot", 0, 0)
    assert list(head.inputs) == ["texts"]


def test_no_job_but_a_prediction_reads_test_features(paper, imagenet):
    ablation = {"one_at_a_time": {"heads": [4]}, "shots": [1], "seeds": [1]}
    plan = planned(paper, ablation=ablation, methods=dict.fromkeys(OF_FEATURES))
    test = {
        f"results/features/{RN50}/{dataset}/{part}.parquet"
        for dataset in plan.datasets
        for part in plan.parts_of(dataset)
    }
    predicting = {
        file
        for run in plan.own_runs
        for file in files(job(plan, "predict_test", *run[:2], run.method, run.tested).inputs)
    }
    assert test <= predicting
    others = [training(plan, run) for run in (*plan.own_runs, *plan.ablation_runs)]
    for dataset in plan.datasets:
        others += [
            job(plan, "extract_texts", RN50, dataset),
            job(plan, "plot_attention", RN50, dataset),
        ]
        others += [
            job(plan, "extract_test", RN50, dataset, part) for part in plan.parts_of(dataset)
        ]
        others += [job(plan, "extract_shots", RN50, dataset, "", k, 1) for k in (1, 16)]
    read = {file for each in others for file in files(each.inputs)}
    assert not read & test
    assert not [file for file in read if "/features/" in file and "/test" in file]


def test_only_a_method_that_reads_the_text_tower_is_given_the_weights(demo):
    coop = {"coop": {"context": 4}}
    plan = planned(demo, methods=demo["methods"] | coop)
    for method in plan.settings:
        head = job(plan, "train_head", GLYPHS, "digits", method, 1, 1)
        assert ("weights" in head.inputs) == (method == "coop")
        assert (head.params["tower"] is None) == (method != "coop")
    tower = job(plan, "train_head", GLYPHS, "digits", "coop", 1, 1).params["tower"]
    assert tower["module"] == "vtclip.backbones.prompts"
    assert tower["backbone"] == {
        "name": "glyph-clip", "spatial": "projected", "precision": "float32",
        "architecture": str(ARCHITECTURE),
    }  # fmt: skip


def test_only_a_method_that_predicts_with_the_text_tower_is_given_it_for_its_own_test_set(
    demo, monkeypatch
):
    def predict():
        plan = planned(demo, methods={"coop": {"context": 4}})
        return plan.shapes[GLYPHS], job(plan, "predict_test", GLYPHS, "digits", "coop", "digits")

    _, without = predict()
    monkeypatch.setattr(METHODS["coop"], "predicts_with_tower", True)
    shape, given = predict()
    assert "weights" not in without.inputs
    assert given.inputs["weights"] == f"resources/backbones/{GLYPHS}.safetensors"
    assert given.params["tower"]["backbone"]["name"] == "glyph-clip"
    assert given.mem_mb == without.mem_mb + cost.backbone_memory(shape)


def test_attention_is_drawn_with_a_head_of_the_most_shots(demo):
    drawn = job(planned(demo, shots=[4, 16, 2], seeds=[3, 1]), "plot_attention", GLYPHS, "digits")
    assert drawn.params["run"] == (16, 3)
    assert drawn.inputs["head"].endswith("/vt_clip/16shot-seed3/head.safetensors")


def test_a_large_test_set_is_extracted_in_shards(paper, imagenet):
    plan = planned(paper)
    assert plan.parts_of("imagenet") == [f"test-{shard}of5" for shard in (1, 2, 3, 4, 5)]
    assert plan.parts_of("dtd") == ["test"]
    assert job(plan, "extract_test", RN50, "imagenet", "test-2of5").params["shard"] == (2, 5)
    assert job(plan, "extract_test", RN50, "dtd", "test").params["shard"] == (1, 1)
    read = job(plan, "predict_test", RN50, "imagenet", "zero_shot", "imagenet").inputs["features"]
    assert read[1] == f"results/features/{RN50}/imagenet/test-2of5.parquet"


@pytest.mark.parametrize(
    ("views", "folder"),
    [
        ({"number": 4, "scale": [0.5, 1.0], "flip": True}, "4crops-0.5-1.0-flip"),
        ({"number": 4, "scale": [0.8, 1], "flip": False}, "4crops-0.8-1.0"),
        ({"number": 0}, "0crops-0.5-1.0-flip"),
        ({"made_on": "cpu"}, "4crops-0.5-1.0-flip"),
        ({"made_on": "device"}, "4crops-0.5-1.0-flip-device"),
        ({}, "4crops-0.5-1.0-flip"),
    ],
)
def test_other_views_have_another_folder_in_words(demo, views, folder):
    plan = planned(demo, views=views)
    head = job(plan, "train_head", GLYPHS, "digits", "vt_clip", 1, 1)
    assert head.inputs["features"].split("/")[4] == folder


# Params.


def test_imagenet_has_coops_fifty_epochs_unless_the_user_names_some(paper, imagenet):
    def epochs(dataset, **settings):
        plan = planned(paper, methods={"vt_clip": settings})
        return job(plan, "train_head", RN50, dataset, "vt_clip", 1, 1).params["settings"]["epochs"]

    assert epochs("imagenet") == 50
    assert epochs("dtd") == {"1": 50, "2": 100, "8": 200}
    assert epochs("imagenet", epochs=5) == epochs("dtd", epochs=5) == 5
    assert epochs("imagenet", epochs=5, epochs_of={"imagenet": 7}) == 7
    assert epochs("dtd", epochs_of={"dtd": 9}) == 9


def test_a_jobs_code_is_its_own_methods_and_no_others(paper):
    plan = planned(paper, methods=dict.fromkeys(OF_FEATURES))
    heads = {method: job(plan, "train_head", RN50, "dtd", method, 1, 1) for method in plan.settings}
    assert len({head.code for head in heads.values()}) == len(heads) == len(OF_FEATURES)
    assert len({job(plan, "predict_test", RN50, "dtd", m, "dtd").code for m in heads}) == len(heads)


# Resources.


def test_no_job_requests_a_gpu_on_a_cpu(demo):
    assert (planned(demo, device="cpu").gpus, planned(demo).gpus) == (0, 1)
    for device, gpus in [("cpu", 0), ("cuda", 1), ("auto", 1)]:
        plan = planned(demo, device=device)
        requested = {run.method: training(plan, run).gpus for run in plan.own_runs}
        assert requested == dict.fromkeys(plan.settings, gpus) | {"linear_probe": 0}


def test_every_training_of_the_paper_requests_what_a_node_has(paper, imagenet):
    plan = planned(paper)
    for run in plan.own_runs:
        each = training(plan, run)
        assert 1 <= each.threads <= 4
        assert 2000 <= each.mem_mb <= 32_000
        assert 2 <= each.runtime <= 24 * 60
        assert each.gpus == (run.method != "linear_probe")


def test_every_other_job_of_the_paper_requests_what_a_node_has(paper, imagenet):
    plan = planned(paper)
    for dataset in plan.datasets:
        assert 10 <= job(plan, "unpack_archives", dataset).runtime <= 24 * 60
        texts = job(plan, "extract_texts", RN50, dataset)
        jobs = [job(plan, "extract_test", RN50, dataset, part) for part in plan.parts_of(dataset)]
        jobs += [job(plan, "extract_shots", RN50, dataset, "", shots, 1) for shots in (1, 16)]
        for each in jobs:
            assert 1 <= each.threads <= 16
            assert 4000 <= each.mem_mb <= 16_000
            assert 10 <= each.runtime <= 120
        assert 10 <= texts.runtime <= 60
        assert texts.mem_mb == job(plan, "plot_attention", RN50, dataset).mem_mb <= 8000
    for run in plan.own_runs[::15]:
        predicting = job(plan, "predict_test", *run[:2], run.method, run.tested)
        assert 2000 <= predicting.mem_mb <= 16_000
        assert 10 <= predicting.runtime <= 60


def test_more_shots_request_no_less(paper, imagenet):
    plan = planned(paper)
    few, many = (
        job(plan, "train_head", RN50, "imagenet", "vt_clip", shots, 1) for shots in (1, 16)
    )
    assert few.mem_mb < many.mem_mb
    assert few.runtime < many.runtime
    few, many = (job(plan, "extract_shots", RN50, "imagenet", "", shots, 1) for shots in (1, 16))
    assert few.threads < many.threads
    assert few.runtime < many.runtime


def test_short_trainings_share_a_submission_and_long_ones_have_their_own(paper, imagenet):
    plan = planned(paper)
    groups = {
        (dataset, method): (each.group, each.turn)
        for dataset in ("imagenet", "dtd")
        for method in ("vt_clip", "linear_probe", "zero_shot")
        for each in [job(plan, "train_head", RN50, dataset, method, 16, 1)]
    }
    assert groups == {
        ("imagenet", "vt_clip"): (None, 0),
        ("imagenet", "linear_probe"): (None, 0),
        ("imagenet", "zero_shot"): ("training", 1),
        ("dtd", "vt_clip"): ("training", 1),
        ("dtd", "linear_probe"): ("training_on_cores", 1),
        ("dtd", "zero_shot"): ("training", 1),
    }
    assert job(plan, "train_head", RN50, "imagenet", "linear_probe", 16, 1).threads == 4
    assert job(plan, "train_head", RN50, "dtd", "linear_probe", 16, 1).threads == 1


# Methods that read images.


def test_the_images_of_a_test_set_are_an_input_of_predict_test_alone(demo):
    plan = planned(demo, methods={"clip_lora": None, "vt_clip": None})
    head = job(plan, "train_head", GLYPHS, "digits", "clip_lora", 1, 1)
    assert head.inputs["shots"] == "results/shots/digits/1shot-seed1.parquet"
    assert set(head.inputs) == {"texts", "weights", "shots"}
    predicting = job(plan, "predict_test", GLYPHS, "digits", "clip_lora", "digits")
    assert predicting.inputs["images"] == plan.images_receipt("digits")
    assert "features" not in predicting.inputs
    assert predicting.inputs["manifest"] == "results/manifests/digits.parquet"
    assert head.params["images"] == predicting.params["images"] == plan.images_of("digits")
    other = job(plan, "train_head", GLYPHS, "digits", "vt_clip", 1, 1)
    assert other.params["images"] is None
    assert set(other.inputs) == {"texts", "features"}


def test_a_resnet_is_refused_for_methods_that_train_the_towers(paper):
    for name, title in (("clip_lora", "CLIP-LoRA"), ("two_stage", "2SFS")):
        with pytest.raises(ConfigError) as error:
            planned(paper, methods={name: None})
        assert f"methods.{name}: backbone.name: {title} trains the blocks of attention" in str(
            error.value
        )
        assert "0 blocks in the image tower" in str(error.value)
        assert "ViT-B-16-quickgelu" in str(error.value)


def test_a_training_of_the_towers_requests_the_memory_of_a_batch_and_hours_without_a_gpu(paper):
    backbone = {"name": "ViT-B-16-quickgelu", "pretrained": "openai"}
    methods = {"clip_lora": None}
    on_gpu = planned(paper, backbone=backbone, methods=methods)
    without = planned(paper, backbone=backbone, methods=methods, device="cpu")
    for shots, hours in ((1, 3), (16, 40)):
        found = [
            job(plan, "train_head", *plan.backbones, "dtd", "clip_lora", shots, 1)
            for plan in (on_gpu, without)
        ]
        assert 5000 < found[0].mem_mb < 16_000
        assert found[0].runtime < 90
        assert found[1].runtime > 60 * hours

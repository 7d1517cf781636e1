"""Archives, images and backbones of an experiment, and their jobs."""

import json

import pytest

from tests.plan.conftest import ARCHITECTURE, GLYPHS, RN50, job, planned, weights
from vtclip.settings import ConfigError

# Archives and images.


UNPACKED_SAME = {
    "leave_out": ["images/beagle_116.jpg"],
    "counts": {"train": 1, "val": 1, "test": 1, "classes": 2},
    "templates": ["a {}."],
    "title": "Pets",
    "licence": "mine",
}  # fmt: skip


@pytest.mark.parametrize("key", [*UNPACKED_SAME, "urls", "bytes", "sha256"])
def test_what_is_unpacked_does_not_depend_on(paper, own_dataset, key):
    plan = planned(paper, datasets=["oxford_pets"])
    archives = [a.model_dump() for a in plan.datasets["oxford_pets"].archives]
    changed = {"urls": [], "bytes": None, "sha256": None, "md5": None}
    other = {"archives": [a | {key: changed.get(key)} for a in archives]}
    own_dataset("mine", "oxford_pets", **(other if key in changed else {key: UNPACKED_SAME[key]}))
    # Without addresses it must be put there by hand or come from a mirror.
    mine = planned(paper, datasets=["mine"], mirror="https://archives.org")
    unpacking = [job(mine, "unpack_archives", "mine"), job(plan, "unpack_archives", "oxford_pets")]
    assert unpacking[0].params == unpacking[1].params
    same = key not in ("leave_out", "counts")
    layouts = [
        job(made, "prepare_manifest", name).params["dataset"]
        for made, name in ((mine, "mine"), (plan, "oxford_pets"))
    ]
    assert (layouts[0] == layouts[1]) == same


@pytest.mark.parametrize("change", [{"split": "other.json"}, {"images": "other"}])
def test_what_is_unpacked_depends_on_where_it_goes(paper, own_dataset, change):
    own_dataset("mine", "oxford_pets", **change)
    plan = planned(paper, datasets=["oxford_pets", "mine"])
    for rule in ("unpack_archives", "prepare_manifest"):
        mine, pets = (job(plan, rule, name).params["dataset"] for name in ("mine", "oxford_pets"))
        assert mine != pets


def test_archives_are_expected_as_the_datasets_file_says(paper):
    plan = planned(paper, datasets=["oxford_pets"])
    described = plan.datasets["oxford_pets"].archives
    assert plan.archives == job(plan, "unpack_archives", "oxford_pets").inputs["receipts"]
    assert plan.unpacked == ["oxford_pets"]
    for archive, receipt in zip(described, plan.archives, strict=True):
        assert receipt == f"resources/archives/oxford_pets/{archive.file}.json"
        params = job(plan, "fetch_archive", "oxford_pets", archive.file).params
        assert params["destination"] == receipt.removesuffix(".json")
        expected = {"bytes": archive.bytes, "sha256": archive.sha256, "md5": archive.md5}
        assert params["expected"] == expected


def test_a_users_folder_has_no_receipt_and_counts_by_its_contents(demo, here, own_dataset):
    folder = here / "photos" / "cats"
    for name in ("cats", "dogs"):
        (here / "photos" / name).mkdir(parents=True)
    keys = {"layout": "folders", "folder": "photos", "drawn": None, "counts": None}
    own_dataset("mine", "digits", **keys)
    plan = planned(demo, datasets=["mine", "digits"])
    assert (plan.images_of("mine"), plan.images_receipt("mine")) == ("photos", None)
    assert plan.drawn == ["digits"]
    before = [job(plan, "prepare_manifest", name).params["contents"] for name in plan.datasets]
    (folder / "a.jpg").write_text("a")
    plan = planned(demo, datasets=["mine", "digits"])
    after = [job(plan, "prepare_manifest", name).params["contents"] for name in plan.datasets]
    assert before[0] != after[0]
    assert before[1] is after[1] is None
    assert plan.parts_of("mine") == ["test"]
    head = job(plan, "train_head", GLYPHS, "mine", "vt_clip", 1, 1)  # its size is a guess
    assert 1000 < head.mem_mb < 100_000


@pytest.mark.parametrize(("test", "parts"), [(10_000, 1), (10_001, 2), (20_000, 2), (20_001, 3)])
def test_a_shard_has_ten_thousand_images_at_most(demo, own_dataset, test, parts):
    counts = {"train": 10, "val": 5, "test": test, "classes": 10}
    own_dataset("mine", "digits", counts=counts)
    assert len(planned(demo, datasets=["mine"]).parts_of("mine")) == parts


# Backbones.


def test_another_kind_or_precision_has_another_folder_and_the_same_weights(demo):
    for change, folder in [
        ({"spatial": "raw"}, f"{GLYPHS}-raw"),
        ({"precision": "float16"}, f"{GLYPHS}-float16"),
        ({"spatial": "raw", "precision": "bfloat16"}, f"{GLYPHS}-raw-bfloat16"),
    ]:
        plan = planned(demo, backbone=demo["backbone"] | change)
        assert list(plan.backbones) == [folder]
        assert weights(plan) == weights(planned(demo)) == [GLYPHS]
        test = job(plan, "extract_test", folder, "digits", "test")
        assert test.inputs["weights"] == f"resources/backbones/{GLYPHS}.safetensors"
        assert test.params["backbone"].items() >= change.items()
        assert {run.head.split("/")[3] for run in plan.own_runs} == {folder}


def test_raw_features_have_a_shape_of_their_own(paper):
    raw = planned(paper, methods={"vt_clip": None}, backbone=paper["backbone"] | {"spatial": "raw"})
    assert planned(paper).shapes[RN50][:3] == (50, 1024, 1024)
    assert raw.shapes[f"{RN50}-raw"][:3] == (49, 2048, 1024)


def test_two_backbones_have_rows_of_their_own(demo, paper):
    plan = planned(demo, backbones=[paper["backbone"]])
    assert len(plan.own_runs) == 2 * 92
    assert list(dict.fromkeys(run.backbone for run in plan.own_runs)) == [GLYPHS, RN50]
    assert (plan.made_weights, plan.fetched_weights) == ([GLYPHS], [RN50])
    params = job(plan, "fetch_backbone", RN50).params
    assert params["file"] is params["architecture"] is None
    assert len([target for target in plan.targets() if "/attention/" in target]) == 2 * 2 * 2


def test_weights_are_fetched_with_the_memory_that_reading_them_takes(paper):
    plan = planned(paper, backbones=[{"name": "ViT-H-14-quickgelu", "pretrained": "dfn5b"}])
    memory = {name: job(plan, "fetch_backbone", name).mem_mb for name in plan.fetched_weights}
    assert memory["ViT-H-14-quickgelu-dfn5b"] > 2 * 4 * 986  # MB of its 986 million, read twice
    assert memory[RN50] < 4000


def test_a_backbone_that_is_named_twice_is_planned_once(demo):
    plan = planned(demo, backbones=[demo["backbone"], demo["backbone"]])
    assert len(plan.own_runs) == 92


def test_a_file_of_weights_is_used_whatever_the_backbone_is_called(demo, here):
    (here / "my.pt").write_text("weights")
    plan = planned(demo, backbone=demo["backbone"] | {"pretrained": "my.pt"})
    assert (plan.made_weights, plan.fetched_weights) == ([], ["glyph-clip-my"])
    assert job(plan, "fetch_backbone", "glyph-clip-my").inputs == {"weights_file": "my.pt"}
    test = job(plan, "extract_test", "glyph-clip-my", "digits", "test")
    assert test.inputs["weights"] == "resources/backbones/glyph-clip-my.safetensors"


def test_the_parts_of_weights_are_inputs_and_a_key_chooses_among_several(demo, here):
    index = {"weight_map": {"a": "m-1-of-2.safetensors", "b": "m-2-of-2.safetensors"}}
    (here / "m.safetensors.index.json").write_text(json.dumps(index))
    chosen = {"pretrained": "m.safetensors.index.json", "weights_key": "ema"}
    config = {"backbone": demo["backbone"] | chosen}
    (here / "m-1-of-2.safetensors").touch()
    with pytest.raises(ConfigError, match=r"there is no such file: m-2-of-2\.safetensors"):
        planned(demo, **config)
    (here / "m-2-of-2.safetensors").touch()
    fetch = job(planned(demo, **config), "fetch_backbone", "glyph-clip-m-ema")
    parts = index["weight_map"].values()
    assert fetch.inputs["weights_file"] == ["m.safetensors.index.json", *parts]
    assert fetch.params["weights_key"] == "ema"
    with pytest.raises(ConfigError, match=r"weights_key.*needs a file"):
        planned(demo, backbone=demo["backbone"] | {"weights_key": "ema"})


def test_features_of_a_custom_architecture_depend_on_its_content(demo, here):
    content = json.loads(ARCHITECTURE.read_text())
    (here / "mine.json").write_text(json.dumps(content))
    backbone = demo["backbone"] | {"architecture": "mine.json"}
    seen = []
    for layers in (2, 3):
        content["text_cfg"]["layers"] = layers
        (here / "mine.json").write_text(json.dumps(content))
        plan = planned(demo, backbone=backbone)
        shots = job(plan, "extract_shots", GLYPHS, "digits", "", 1, 1).params
        fetched = job(plan, "fetch_backbone", GLYPHS).params
        assert shots["backbone"]["architecture"] == fetched["file"] == "mine.json"
        assert shots["architecture"] == fetched["architecture"] == content
        seen.append((json.dumps(shots["architecture"]), plan.shapes[GLYPHS].text_weights))
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] < seen[1][1]

"""What an experiment is made from: archives, images and weights."""

import json

import pytest

from tests.plan.conftest import ARCHITECTURE, GLYPHS, RN50, planned

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
    mine = planned(paper, datasets=["mine"], mirror="/data")
    assert mine.unpacking("mine") == plan.unpacking("oxford_pets")
    same = key not in ("leave_out", "counts")
    assert (mine.layout("mine") == plan.layout("oxford_pets")) == same


@pytest.mark.parametrize("change", [{"split": "other.json"}, {"images": "elsewhere"}])
def test_what_is_unpacked_depends_on_where_it_goes(paper, own_dataset, change):
    own_dataset("mine", "oxford_pets", **change)
    plan = planned(paper, datasets=["oxford_pets", "mine"])
    assert plan.unpacking("mine") != plan.unpacking("oxford_pets")
    assert plan.layout("mine") != plan.layout("oxford_pets")


def test_archives_are_expected_as_the_datasets_file_says(paper):
    plan = planned(paper, datasets=["oxford_pets"])
    described = plan.datasets["oxford_pets"].archives
    assert plan.archives == plan.receipts_of("oxford_pets")
    assert plan.unpacked == ["oxford_pets"]
    for archive, receipt in zip(described, plan.archives, strict=True):
        assert receipt == f"resources/archives/oxford_pets/{archive.file}.json"
        assert plan.archive_path("oxford_pets", archive.file) == receipt.removesuffix(".json")
        told = plan.expected("oxford_pets", archive.file)
        assert told == {"bytes": archive.bytes, "sha256": archive.sha256, "md5": archive.md5}


def test_a_folder_of_ones_own_has_no_receipt_and_counts_by_what_lies_in_it(demo, here, own_dataset):
    folder = here / "photos" / "cats"
    for name in ("cats", "dogs"):
        (here / "photos" / name).mkdir(parents=True)
    keys = {"layout": "folders", "folder": "photos", "drawn": None, "counts": None}
    own_dataset("mine", "digits", **keys)
    plan = planned(demo, datasets=["mine", "digits"])
    assert (plan.images_of("mine"), plan.images_receipt("mine")) == ("photos", None)
    assert plan.drawn == ["digits"]
    assert plan.contents("digits") is None
    before = plan.contents("mine")
    (folder / "a.jpg").write_text("a")
    assert plan.contents("mine") != before
    assert plan.parts_of("mine") == ["test"]
    job = plan.train_head(GLYPHS, "mine", "vt_clip", 1, 1)  # its size is a guess
    assert 1000 < job.memory(1) < 100_000


@pytest.mark.parametrize(("test", "parts"), [(10_000, 1), (10_001, 2), (20_000, 2), (20_001, 3)])
def test_a_shard_holds_ten_thousand_images_at_most(demo, own_dataset, test, parts):
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
        assert (
            plan.weights == planned(demo).weights == [f"resources/backbones/{GLYPHS}.safetensors"]
        )
        job = plan.extract_test(folder, "digits", "test")
        assert job.weights == f"resources/backbones/{GLYPHS}.safetensors"
        assert job.building.items() >= change.items()
        assert plan.train_head(folder, "digits", "vt_clip", 1, 1).head.split("/")[3] == folder


def test_raw_features_have_a_shape_of_their_own(paper):
    raw = planned(paper, methods={"vt_clip": None}, backbone=paper["backbone"] | {"spatial": "raw"})
    assert planned(paper).shapes[RN50][:3] == (50, 1024, 1024)
    assert raw.shapes[f"{RN50}-raw"][:3] == (49, 2048, 1024)


def test_two_backbones_have_rows_of_their_own(demo, paper):
    plan = planned(demo, backbones=[paper["backbone"]])
    assert len(plan.trainings()) == 2 * 92
    assert list(dict.fromkeys(key.backbone for key in plan.keys)) == [GLYPHS, RN50]
    assert (plan.drawn_weights, plan.fetched_weights) == ([GLYPHS], [RN50])
    assert plan.architecture_file(RN50) is None
    assert plan.architecture(RN50) is None
    assert len([target for target in plan.targets() if "/attention/" in target]) == 2 * 2 * 2


def test_weights_are_fetched_with_the_memory_that_reading_them_takes(paper):
    plan = planned(paper, backbones=[{"name": "ViT-H-14-quickgelu", "pretrained": "dfn5b"}])
    weights = {words: plan.fetching_memory(words) for words in plan.fetched_weights}
    assert weights["ViT-H-14-quickgelu-dfn5b"] > 2 * 4 * 986  # MB of its 986 million, read twice
    assert weights[RN50] < 4000


def test_a_backbone_that_is_named_twice_is_planned_once(demo):
    plan = planned(demo, backbones=[demo["backbone"], demo["backbone"]])
    assert len(plan.trainings()) == 92


def test_a_file_of_weights_is_used_whatever_the_backbone_is_called(demo, here):
    (here / "my.pt").write_text("weights")
    plan = planned(demo, backbone=demo["backbone"] | {"pretrained": "my.pt"})
    assert (plan.drawn_weights, plan.fetched_weights) == ([], ["glyph-clip-my"])
    assert plan.weights == ["resources/backbones/glyph-clip-my.safetensors"]
    assert plan.backbone_of("glyph-clip-my").weights_file == "my.pt"
    assert plan.extract_test("glyph-clip-my", "digits", "test").weights == plan.weights[0]


def test_what_is_made_with_an_architecture_of_ones_own_follows_its_content(demo, here):
    content = json.loads(ARCHITECTURE.read_text())
    (here / "mine.json").write_text(json.dumps(content))
    backbone = demo["backbone"] | {"architecture": "mine.json"}
    seen = []
    for layers in (2, 3):
        content["text_cfg"]["layers"] = layers
        (here / "mine.json").write_text(json.dumps(content))
        plan = planned(demo, backbone=backbone)
        job = plan.extract_shots(GLYPHS, "digits", "", 1, 1)
        assert job.building["architecture"] == plan.architecture_file(GLYPHS) == "mine.json"
        assert job.architecture == plan.architecture(GLYPHS) == content
        seen.append((json.dumps(job.architecture), plan.shapes[GLYPHS].text_weights))
    assert seen[0][0] != seen[1][0]
    assert seen[0][1] < seen[1][1]

"""Every backbone is planned, and what it does not give is refused before the first job."""

import json

import pytest

from tests.methods.short import OF_FEATURES
from tests.plan.conftest import ARCHITECTURE, job, planned
from tests.plan.test_checks import assert_says, refused
from vtclip.backbones import shapes as architecture
from vtclip.backbones.known import list_names, read_content
from vtclip.backbones.shapes import read_architecture, read_shape
from vtclip.config.backbone_config import BackboneConfig
from vtclip.methods import METHODS

GLYPH_CLIP = json.loads(ARCHITECTURE.read_text())
TIMM = {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear"}


@pytest.fixture
def transformers(monkeypatch):
    """As if Hugging Face's library were installed."""
    monkeypatch.setattr(architecture, "find_spec", lambda name: name)


@pytest.fixture
def no_transformers(monkeypatch):
    monkeypatch.setattr(architecture, "find_spec", lambda name: None)


@pytest.fixture
def weights(here) -> str:
    (here / "my.pt").touch()
    return "my.pt"


@pytest.fixture
def own(here, weights):
    """Saves the glyph CLIP with other keys of its image tower, as a custom backbone."""

    def save(**vision):
        content = GLYPH_CLIP | {"vision_cfg": vision}
        (here / "mine.json").write_text(json.dumps(content))
        return {"name": "mine", "architecture": "mine.json", "pretrained": weights}

    return save


def all_methods() -> dict:
    """Each method, with settings that any backbone of open_clip takes."""
    anywhere = [name for name in METHODS if not METHODS[name].reads_projection]
    return {name: {"context": 12} if name in ("coop", "prograd") else None for name in anywhere}


@pytest.mark.parametrize("name", list_names())
def test_every_configuration_of_open_clip_is_planned(demo, weights, transformers, name):
    backbone = {"name": name, "pretrained": weights}
    towers = read_shape(BackboneConfig(**backbone))
    methods = {
        method: settings
        for method, settings in all_methods().items()
        if method in OF_FEATURES or (towers.image_blocks and towers.text_blocks)
    }
    plan = planned(demo, backbone=backbone, methods=methods, shots=[1], seeds=[1])
    (shape,) = plan.shapes.values()
    content = read_content(BackboneConfig(**backbone))
    assert shape.dim == shape.width == content["embed_dim"]
    (folder,) = plan.backbones
    texts, test = (
        job(plan, "extract_texts", folder, "digits"),
        job(plan, "extract_test", folder, "digits", "test"),
    )
    # Both towers, twice while they are read, and the process.
    assert texts.mem_mb > 2 * 4 * (shape.image_weights + shape.text_weights) / 1e6
    assert test.mem_mb > texts.mem_mb
    assert test.runtime > 0


def test_a_larger_backbone_requests_more(demo, weights, transformers):
    names = [
        "MobileCLIP2-S0",
        "ViT-B-16-SigLIP2",
        "ViT-SO400M-16-SigLIP2-512",
        "PE-Core-bigG-14-448",
    ]
    requested = []
    for name in names:
        plan = planned(demo, backbone={"name": name, "pretrained": weights}, device="cpu")
        test = job(plan, "extract_test", *plan.backbones, "digits", "test")
        requested.append((test.mem_mb, test.runtime))
    assert requested == sorted(requested)
    assert requested[-1][0] > 4 * requested[0][0]


def test_a_small_tower_of_timms_takes_the_place_of_the_glyph_clips(demo, own):
    """A few hundred thousand weights, on images of the embedded experiment's size."""
    backbone = own(image_size=32, **TIMM)
    for pretrained in ("glyphs", "my.pt"):
        plan = planned(demo, backbone=backbone | {"pretrained": pretrained}, methods=all_methods())
        (shape,) = plan.shapes.values()
        assert shape[:3] == (5, 64, 64)
        assert shape.image_weights < 400_000
        assert {run.method for run in plan.own_runs} == set(all_methods())
    raw = planned(demo, backbone=backbone | {"spatial": "raw"})
    assert next(iter(raw.shapes.values()))[:3] == (4, 64, 64)


def test_a_folder_in_the_hubs_form_is_planned_and_what_is_made_with_it_follows_it(demo, here):
    folder = here / "my-clip"
    folder.mkdir()
    config = {"model_cfg": GLYPH_CLIP, "preprocess_cfg": {"interpolation": "bicubic"}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "open_clip_model.safetensors").touch()
    plan = planned(demo, backbone={"name": "local-dir:my-clip", "pretrained": "own"})
    assert plan.shapes["local-dir-my-clip-own"][:3] == (17, 64, 64)
    assert job(plan, "fetch_backbone", "local-dir-my-clip-own").params["architecture"] == config


@pytest.mark.parametrize(
    ("wrong", "parts"),
    [
        ({"stdd": [0.5, 0.5, 0.5]}, ["stdd: there is no such key"]),
        ({"std": [0, 0.5, 0.5]}, ["std.0", "greater than 0"]),
        ({"mean": [0.5, 0.5]}, ["mean.2"]),
        ({"resize_mode": "sqash"}, ["'shortest', 'longest' or 'squash'"]),
        ({"size": 64}, ["size: 64", "image_size of vision_cfg, 32"]),
    ],
)
def test_a_test_transform_that_open_clip_would_take_in_part_is_refused(
    demo, here, weights, wrong, parts
):
    content = {"model_cfg": GLYPH_CLIP, "preprocess_cfg": wrong}
    (here / "mine.json").write_text(json.dumps(content))
    backbone = {"name": "mine", "architecture": "mine.json", "pretrained": weights}
    assert_says(refused(demo, backbone=backbone), "preprocess_cfg", *parts)


def test_a_folder_in_the_hubs_form_must_not_lie_where_the_workflow_writes(demo, here):
    folder = here / "results" / "features" / "my-clip"
    folder.mkdir(parents=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": GLYPH_CLIP}))
    (folder / "open_clip_model.safetensors").touch()
    backbone = {"name": "local-dir:results/features/my-clip", "pretrained": "own"}
    assert_says(refused(demo, backbone=backbone), "backbone.", "the workflow itself writes there")


# What a backbone does not give.


NEEDY = [
    name
    for name in list_names()
    if read_architecture(BackboneConfig(name=name, pretrained="x")).text_cfg.needs_transformers
]


def test_towers_and_tokenizers_of_hugging_face_are_needed_by_few_names():
    assert {"ViT-B-16-SigLIP2", "roberta-ViT-B-32", "ViT-L-14-CLIPA"} <= set(NEEDY)
    assert not {"coca_ViT-B-32", "PE-Core-B-16", "EVA02-B-16", "convnext_base"} & set(NEEDY)


@pytest.mark.parametrize("name", ["roberta-ViT-B-32", "ViT-B-16-SigLIP2", "ViT-L-14-CLIPA"])
def test_a_backbone_that_needs_a_package_is_refused_with_the_line_that_installs_it(
    demo, weights, no_transformers, name
):
    message = refused(demo, backbone={"name": name, "pretrained": weights})
    assert_says(
        message,
        "mine.yaml: backbone.name: the t",
        f"of '{name}' needs Hugging Face's library",
        "found:    no package transformers",
        "pip install 'vtclip[transformers]'",
        "ViT-B-32-quickgelu",
    )


def test_a_custom_architecture_that_needs_a_package(demo, here, weights, no_transformers):
    text = GLYPH_CLIP["text_cfg"] | {"hf_tokenizer_name": "t5"}
    (here / "mine.json").write_text(json.dumps(GLYPH_CLIP | {"text_cfg": text}))
    backbone = {"name": "mine", "architecture": "mine.json", "pretrained": weights}
    message = refused(demo, backbone=backbone)
    assert_says(message, "mine.yaml: backbone.architecture: the tokenizer t5", "transformers")
    assert "ViT-B-32" not in message, "the name is the user's own: another would not help"


def test_a_text_tower_that_gives_no_feature_of_a_text_is_refused(demo, here, weights):
    text = GLYPH_CLIP["text_cfg"] | {"pool_type": "none"}
    (here / "mine.json").write_text(json.dumps(GLYPH_CLIP | {"text_cfg": text}))
    backbone = {"name": "mine", "architecture": "mine.json", "pretrained": weights}
    message = refused(demo, backbone=backbone)
    assert_says(message, "towers of 'mine' cannot be built", "pool_type none, of argmax")


def test_projected_features_of_a_tower_that_has_none_are_refused_with_raw(demo, own):
    backbone = own(image_size=32, timm_model_name="test_resnet", timm_pool="max")
    message = refused(demo, backbone=backbone, methods={"zero_shot": None})
    assert_says(
        message,
        "mine.yaml: backbone.spatial: the image tower of 'mine'",
        "found:    spatial: projected",
        "expected: raw\n",
        "write:\n    spatial: raw",
    )
    planned(demo, backbone=backbone | {"spatial": "raw"})


@pytest.mark.parametrize("spatial", ["projected", "raw"])
def test_methods_that_need_projected_features_are_named_with_a_tower_that_has_none(
    demo, own, spatial
):
    backbone = own(image_size=32, timm_model_name="test_resnet", timm_pool="max")
    methods = {"zero_shot": None, "calip": None}
    message = refused(demo, backbone=backbone | {"spatial": spatial}, methods=methods)
    assert_says(message, f"found:    spatial: {spatial}", "raw, and `methods:` without calip")


def test_a_variant_with_projected_features_of_a_tower_that_has_none_is_refused(demo, own):
    backbone = own(image_size=32, timm_model_name="test_resnet", timm_pool="max")
    ablation = {"one_at_a_time": {"spatial": ["projected"]}}
    message = refused(demo, backbone=backbone | {"spatial": "raw"}, ablation=ablation)
    assert_says(message, "mine.yaml: ablation.one_at_a_time: backbone.spatial", "expected: raw")


@pytest.mark.parametrize(
    ("vision", "parts"),
    [
        (
            {**TIMM, "timm_model_name": "test_vitt", "image_size": 32},
            ["no test_vitt in timm", "(did you mean test_vit", "timm.list_models()"],
        ),
        (
            {**TIMM, "timm_model_name": "test_vit3", "timm_pool": "map", "image_size": 32},
            ["height (32)", "(160)"],
        ),
        (
            {"image_size": 32, "patch_size": 8, "pool_type": "none"},
            ["the image tower gives many vectors and no pooled one"],
        ),
    ],
)
def test_a_tower_that_cannot_be_built_is_refused(demo, own, vision, parts):
    message = refused(demo, backbone=own(**vision))
    assert_says(
        message, "mine.yaml: backbone.architecture: the towers of 'mine' cannot be built",
        "found:", *parts,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("platform", "is_refused"), [("linux", True), ("win32", True), ("darwin", False)]
)
def test_apples_gpu_is_refused_on_another_machine(demo, monkeypatch, platform, is_refused):
    monkeypatch.setattr("vtclip.plan.checks.sys.platform", platform)
    if not is_refused:
        assert planned(demo, device="mps").gpus == 1
        return
    message = refused(demo, device="mps")
    assert_says(
        message, "mine.yaml: device: only Macs", f"found:    device: mps, on {platform}",
        "write:\n    device: auto",
    )  # fmt: skip

"""What the plan knows of image towers is what they are once they are built."""

import runpy
from pathlib import Path

import open_clip
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vtclip.backbones.image_shape import TOWERS, Vision, find_fault, read_rows, read_tower

SCRIPT = Path(__file__).parents[2] / "docs" / "measure_towers.py"

OWN = {
    "resnet": {"layers": [1, 2, 1, 1], "width": 64, "image_size": 96},
    "vit": {"layers": 2, "width": 128, "patch_size": 16, "image_size": 64, "mlp_ratio": 3.0},
    "average": {"layers": 2, "width": 128, "pool_type": "avg", "final_ln_after_pool": True},
    "attention_pool": {"layers": 2, "width": 128, "attentional_pool": True},
}


@pytest.mark.parametrize("kind", OWN)
def test_a_tower_of_open_clips_own_has_the_weights_and_the_work_that_are_reckoned(kind):
    described = Vision(**OWN[kind])
    with torch.device("meta"):
        config = open_clip.CLIPVisionCfg(**OWN[kind])
        built = open_clip.model._build_vision_tower(256, config).eval().requires_grad_(False)
    flops = FlopCounterMode(display=False)
    size = described.image_size
    with flops:
        map_ = built(torch.zeros(1, 3, size, size, device="meta"))
    tower = read_tower(described, dim=256)
    assert tower.kind == kind
    assert map_.shape == (1, 256)
    weights = sum(weight.numel() for weight in built.parameters())
    assert tower.weights == pytest.approx(weights, rel=0.02)  # but for biases and norms
    assert tower.flops == pytest.approx(flops.get_total_flops(), rel=0.001)


def test_tokens_are_those_of_the_kind():
    vision = {"layers": 2, "patch_size": 16, "image_size": 64}
    for keys, projected in [({}, 17), ({"pool_type": "avg"}, 16), ({"attentional_pool": True}, 16)]:
        tower = read_tower(Vision(**vision, **keys), dim=64)
        assert tower.count_tokens("projected") == projected
        assert tower.count_tokens("raw") == 16
        assert tower.kinds == ("projected", "raw")


def test_the_table_of_timms_towers_has_those_of_open_clip_and_is_what_timm_says_now():
    script = runpy.run_path(str(SCRIPT))
    rows = read_rows()
    assert [*rows] == script["list_towers"](), f"run: python {SCRIPT.name}"
    small = ["test_vit", "test_vit3", "test_resnet", "test_convnext", "fastvit_mci0"]
    measured = [script["measure_tower"](name) for name in small]
    assert measured == [rows[name] for name in small], f"run: python {SCRIPT.name}"
    table = script["render_table"](iter(rows.values()))
    assert TOWERS.read_text(encoding="utf-8") == table


def timm(name, size, **keys) -> Vision:
    return Vision(timm_model_name=name, image_size=size, **keys)


@pytest.mark.parametrize(
    ("vision", "kind", "places", "width"),
    [
        (timm("vit_base_patch16_siglip_224", 224, timm_pool="map"), "attention_pool", 196, 768),
        (timm("convnext_base", 320, timm_pool=""), "average", 100, 1024),
        (timm("fastvit_mci0", 256), "average", 64, 1024),
        (timm("eva_giant_patch14_224", 224, timm_pool="token"), "vit", 256, 1408),
        (timm("test_vit.r160_in1k", 32, timm_pool=""), "vit", 4, 64),
        (timm("test_resnet", 32, timm_pool="max"), "other", 1, 96),
        (timm("resnet50", 224, timm_pool=""), "other", 256, 1024),  # not in the table
        (timm("resnet50", 224, timm_pool="avg"), "average", 256, 1024),
    ],
)
def test_a_tower_of_timms_pools_as_it_is_told_or_else_as_it_does_by_itself(
    vision, kind, places, width
):
    assert find_fault(vision) is None
    tower = read_tower(vision, dim=512)
    assert (tower.kind, tower.places, tower.width) == (kind, places, width)


def test_work_grows_with_the_area_of_the_image():
    small, large = (read_tower(timm("convnext_base", size), 512) for size in (224, 448))
    assert large.flops == pytest.approx(4 * small.flops)
    assert large.weights == small.weights


@pytest.mark.parametrize(
    ("vision", "found", "expected"),
    [
        (timm("vit_base_patch16_siglip_224", 256), "image_size 256", "image_size 224"),
        (timm("convnext_bas", 224), "no convnext_bas in timm (did you mean convnext_bas", "timm"),
        (timm("convnext_base", 224, timm_pool="", timm_proj=None), "no timm_pool", "avg"),
        (Vision(patch_size=None), "no patch_size", "patch_size"),
        (Vision(pool_type="none"), "pool_type none", "tok or avg"),
        (Vision(attentional_pool="cascade"), "attentional_pool cascade", "true or false"),
    ],
)
def test_a_tower_that_cannot_be_built_is_told(vision, found, expected):
    fault = find_fault(vision)
    assert fault is not None
    assert found in fault[0]
    assert expected in fault[1]

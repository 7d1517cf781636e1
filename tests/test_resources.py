import json
from pathlib import Path

import pytest
import torch

from vtclip.experiment import Backbone
from vtclip.features.backbone import load_backbone
from vtclip.resources import (
    PROCESS,
    Shape,
    Work,
    backbone_memory,
    extraction_memory,
    extraction_minutes,
    is_short,
    prediction_minutes,
    read_shape,
    text_minutes,
    training_memory,
    training_minutes,
    training_threads,
)
from vtclip.settings import ConfigError

ROOT = Path(__file__).parents[1]
RN50 = Shape(50, 1024, 1024)


@pytest.mark.parametrize("spatial", ["projected", "raw"])
@pytest.mark.parametrize(
    ("name", "architecture"),
    [("RN50-quickgelu", None), ("glyph-clip", str(ROOT / "config/backbones/glyph-clip.json"))],
)
def test_the_shape_is_what_the_backbone_really_gives(tmp_path, name, architecture, spatial):
    if architecture is None:  # a small one of the same kind: the real one takes a minute
        found = {
            "embed_dim": 64,
            "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
            "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2,
                         "layers": 1},
        }  # fmt: skip
        architecture = tmp_path / "small-resnet.json"
        architecture.write_text(json.dumps(found))
    backbone = load_backbone(name, pretrained=None, architecture=architecture, spatial=spatial)
    pixels = backbone.image_size
    pooled, tokens = backbone.encode_images(torch.zeros(1, 3, pixels, pixels))
    settings = Backbone(name=name, pretrained="", architecture=str(architecture))
    found = read_shape(settings, spatial)
    assert found[:3] == (*tokens.shape[1:], pooled.shape[1])


def test_the_papers_backbone_has_its_known_shape():
    found = read_shape(Backbone(name="RN50-quickgelu", pretrained="openai"), "projected")
    assert found[:3] == RN50[:3]


def test_an_unknown_backbone_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match="Unknown backbone 'RN51'.*Did you mean 'RN50'"):
        read_shape(Backbone(name="RN51", pretrained="openai"), "projected")


def test_more_classes_images_and_steps_ask_for_more():
    work = Work(classes=100, images=1600, views=5, batch=32, steps=1000, spatial=True)
    large = work._replace(classes=1000, images=16_000, steps=25_000)
    assert training_memory(RN50, work) < training_memory(RN50, large)
    assert training_minutes(RN50, work) < training_minutes(RN50, large)
    assert extraction_minutes(1000) < extraction_minutes(50_000)


def test_a_method_that_reads_no_spatial_features_asks_for_little():
    little = Work(classes=1000, images=16_000, views=5, batch=256, steps=1260)
    assert training_memory(RN50, little) < 4000
    assert training_minutes(RN50, little) <= 10
    assert prediction_minutes(RN50, classes=1000, images=50_000, heads=15, spatial=False) <= 10


def test_coop_on_imagenet_gets_hours():
    shape = read_shape(Backbone(name="RN50-quickgelu", pretrained="openai"), "projected")
    coop = Work(classes=1000, images=16_000, views=5, batch=32, steps=25_000, text_tower=True)
    assert 8 * 60 < training_minutes(shape, coop) < 4 * 24 * 60


def test_a_linear_probe_on_imagenet_gets_more_time_than_on_digits():
    digits = Work(classes=10, images=160, views=1, batch=160, steps=0, fits=8)
    imagenet = digits._replace(classes=1000, images=16_000)
    assert training_minutes(RN50, digits) <= 11
    assert training_minutes(RN50, imagenet) > 60


def test_a_long_linear_probe_gets_four_cores_and_what_its_fits_take_and_others_one():
    digits = Work(classes=10, images=160, views=1, batch=160, steps=0, fits=8)
    imagenet = digits._replace(classes=1000, images=16_000)
    assert training_threads(RN50, imagenet) == 4
    assert training_minutes(RN50, imagenet, 4) < training_minutes(RN50, imagenet) / 3
    # A fit at this size was seen to take 500 MB.
    assert training_memory(RN50, imagenet, 4) > training_memory(RN50, imagenet, 1) + 3 * 500
    assert training_threads(RN50, digits) == 1
    vt_clip = Work(classes=1000, images=16_000, views=5, batch=32, steps=25_000, spatial=True)
    assert training_threads(RN50, vt_clip) == 1


def test_a_larger_backbone_asks_for_more_memory_and_time_for_its_texts():
    small, large = (
        read_shape(Backbone(name=name, pretrained="openai"), "projected")
        for name in ("RN50-quickgelu", "ViT-L-14-quickgelu")
    )
    assert backbone_memory(small) < backbone_memory(large)
    assert extraction_memory(small, 1) < extraction_memory(large, 1)
    assert text_minutes(small, 7000) < text_minutes(large, 7000)
    # Both towers of ViT-L-14 hold 428 M weights of 4 bytes, and a process takes its own.
    assert backbone_memory(large) > PROCESS + 2 * 4 * 428


def test_fifteen_short_trainings_ask_for_little_more_than_half_an_hour():
    shots = Work(classes=100, images=1600, views=5, batch=32, steps=1000)
    assert is_short(RN50, shots)
    assert 15 * training_minutes(RN50, shots) < 40


def test_without_a_gpu_a_training_and_a_prediction_get_a_cores_time():
    work = Work(classes=100, images=1600, views=5, batch=32, steps=1000, spatial=True)
    without = work._replace(on_gpu=False)
    assert is_short(RN50, work)
    assert not is_short(RN50, without)
    assert training_minutes(RN50, work) < 5
    assert training_minutes(RN50, without) > 150
    test = {"classes": 100, "images": 2465, "heads": 15, "spatial": True}
    assert prediction_minutes(RN50, **test, on_gpu=False) > prediction_minutes(RN50, **test)


def test_imagenets_largest_training_gets_what_its_features_take():
    features = 16_000 * 5 * 50 * 1024 * 2 / 1e6
    work = Work(classes=1000, images=16_000, views=5, batch=32, steps=25_000, spatial=True)
    assert 2 * features < training_memory(RN50, work) < 4 * features

import json
from pathlib import Path

import pytest
import torch

from vtclip.experiment import Backbone
from vtclip.features.backbone import load_backbone
from vtclip.resources import (
    Shape,
    extraction_minutes,
    prediction_minutes,
    read_shape,
    training_memory,
    training_minutes,
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
    assert read_shape(settings, spatial) == Shape(*tokens.shape[1:], pooled.shape[1])


def test_the_papers_backbone_has_its_known_shape():
    assert read_shape(Backbone(name="RN50-quickgelu", pretrained="openai"), "projected") == RN50


def test_an_unknown_backbone_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match="Unknown backbone 'RN51'.*Did you mean 'RN50'"):
        read_shape(Backbone(name="RN51", pretrained="openai"), "projected")


def test_more_classes_images_and_steps_ask_for_more():
    def memory(classes, images):
        return training_memory(
            RN50, classes=classes, images=images, views=5, batch=32, spatial=True
        )

    def minutes(classes, steps):
        return training_minutes(RN50, classes=classes, steps=steps, batch=32, spatial=True)

    assert memory(100, 1600) < memory(1000, 1600) < memory(1000, 16_000)
    assert minutes(10, 1000) < minutes(1000, 5000) < minutes(1000, 25_000)
    assert extraction_minutes(1000) < extraction_minutes(50_000)


def test_a_method_that_reads_no_spatial_features_asks_for_little():
    little = training_memory(RN50, classes=1000, images=16_000, views=5, batch=256, spatial=False)
    assert little < 4000
    assert prediction_minutes(RN50, classes=1000, images=50_000, heads=15, spatial=False) <= 10


def test_imagenets_largest_training_gets_what_its_features_take():
    features = 16_000 * 5 * 50 * 1024 * 2 / 1e6
    asked = training_memory(RN50, classes=1000, images=16_000, views=5, batch=32, spatial=True)
    assert 2 * features < asked < 4 * features

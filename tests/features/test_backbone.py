import json

import open_clip
import pytest
import torch
import torch.nn.functional as F

from vtclip.features.backbone import BackboneError, load_backbone

SMALL_RESNET = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 128, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=["vit", "resnet"])
def small(request, tmp_path_factory):
    """A small ViT and a small ResNet with random weights."""
    if request.param == "vit":
        config = json.loads(
            open_clip.factory._MODEL_CONFIG_PATHS[0].joinpath("ViT-B-32.json").read_text()
        )
        config["vision_cfg"] |= {"layers": 2, "width": 128, "image_size": 64, "patch_size": 16}
        config["text_cfg"] |= {"layers": 1}
    else:
        config = SMALL_RESNET
    path = tmp_path_factory.mktemp("models") / f"small-{request.param}.json"
    path.write_text(json.dumps(config))
    torch.manual_seed(0)
    return load_backbone(path.stem, pretrained=None, architecture=path)


@pytest.fixture
def pixels(small):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 3, small.image_size, small.image_size, generator=generator)


def test_pooled_equals_open_clips_encode_image(small, pixels):
    pooled, _ = small.encode_images(pixels)
    torch.testing.assert_close(pooled, small.model.encode_image(pixels), rtol=1e-5, atol=1e-5)


def test_the_first_spatial_token_is_the_pooled_feature(small, pixels):
    pooled, spatial = small.encode_images(pixels)
    assert spatial.shape == (3, 17, pooled.shape[1])
    torch.testing.assert_close(spatial[:, 0], pooled, rtol=1e-5, atol=1e-5)


def test_raw_spatial_features_are_the_map_before_pooling(small, pixels):
    small.spatial = "raw"
    try:
        pooled, spatial = small.encode_images(pixels)
    finally:
        small.spatial = "projected"
    assert spatial.shape[:2] == (3, 16)
    torch.testing.assert_close(pooled, small.model.encode_image(pixels), rtol=1e-5, atol=1e-5)


def test_class_texts_equal_open_clips_zero_shot_classifier(small):
    names, templates = ["cat", "sea or lake"], ["a photo of a {}.", "art of the {}.", "{} texture."]
    expected = open_clip.build_zero_shot_classifier(
        small.model, open_clip.get_tokenizer(small.name), names, templates
    ).T
    texts = small.encode_classes(names, templates)
    torch.testing.assert_close(texts, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(2))


def test_underscores_in_class_names_are_read_as_spaces(small):
    texts = small.encode_classes(["sea_or_lake", "sea or lake"], ["a {}"])
    assert torch.equal(texts[0], texts[1])


def test_openai_weights_in_a_gelu_model_are_refused_and_the_twin_is_named():
    with pytest.raises(BackboneError, match="name: RN50-quickgelu"):
        load_backbone("RN50", pretrained="openai")


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(BackboneError, match=r"Unknown backbone 'RN51'; known: .*RN50"):
        load_backbone("RN51", pretrained=None)


def test_weights_come_back_from_a_file_with_their_checksum(small, pixels, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    save_file(small.model.state_dict(), path)
    architecture = next(p for p in open_clip.factory._MODEL_CONFIG_PATHS if p.stem == small.name)
    loaded = load_backbone(small.name, pretrained=str(path), architecture=architecture)
    assert torch.equal(loaded.encode_images(pixels)[1], small.encode_images(pixels)[1])
    assert len(loaded.weights_sha256) == 64
    assert F.cosine_similarity(loaded.encode_texts(["a"]), small.encode_texts(["a"])) > 0.999

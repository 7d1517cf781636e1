"""Parity with open_clip, on random weights and random batch statistics."""

import json
import re
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.transforms import Compose

from vtclip.backbones.backbone import Backbone, BackboneError, fetch_backbone, load_backbone
from vtclip.backbones.text_towers import PromptError, count_tokens
from vtclip.features.extract import describe
from vtclip.runtime.devices import half_precision
from vtclip.settings import ConfigError

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
SMALL = {
    "small-vit": {"image_size": 64, "layers": 2, "width": 128, "patch_size": 16},
    "small-resnet": {"image_size": 128, "layers": [1, 2, 1, 1], "width": 16, "patch_size": None},
}
REAL = ("RN50", "RN101", "ViT-B-32", "ViT-B-16")


def build(name: str, folder: Path) -> tuple[nn.Module, Path, Path | None]:
    """open_clip's model with random weights, their file, and the architecture's file if small."""
    architecture = None
    if name in SMALL:
        architecture = folder / f"{name}.json"
        config = {"embed_dim": 64, "vision_cfg": SMALL[name], "text_cfg": TEXT}
        architecture.write_text(json.dumps(config))
        open_clip.add_model_config(architecture)
    torch.manual_seed(0)
    model = open_clip.create_model(name, load_weights=False).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # open_clip's own start is no test of these
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    weights = folder / f"{name}-weights.safetensors"
    save_file(model.state_dict(), weights)
    return model, weights, architecture


def load_custom(folder: Path, config: dict, **options) -> Backbone:
    """A model of a custom architecture, with random weights."""
    path = folder / "mine.json"
    path.write_text(json.dumps(config))
    torch.manual_seed(0)
    return load_backbone("mine", pretrained=None, architecture=path, **options)


@pytest.fixture(scope="module", params=SMALL)
def small(request, tmp_path_factory):
    """A small ViT and a small ResNet: ours and open_clip's with the same weights."""
    folder = tmp_path_factory.mktemp(request.param)
    reference, weights, architecture = build(request.param, folder)
    ours = load_backbone(request.param, pretrained=str(weights), architecture=architecture)
    return ours, reference, weights, architecture


def random_pixels(backbone: Backbone) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, backbone.image_size, backbone.image_size, generator=generator)


def assert_as_open_clip(ours: Backbone, reference: nn.Module) -> None:
    pixels = random_pixels(ours)
    with torch.inference_mode():
        expected = reference.encode_image(pixels)
    pooled, spatial = ours.encode_images(pixels)
    size = expected.abs().max().item()
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-5 * size)
    torch.testing.assert_close(spatial[:, 0], pooled, rtol=1e-5, atol=1e-5 * size)
    names, templates = ["cat", "sea or lake"], ["a photo of a {}.", "art of the {}.", "{} texture."]
    classifier = open_clip.build_zero_shot_classifier(
        reference, open_clip.get_tokenizer(ours.name), names, templates
    ).T
    texts = ours.encode_classes(names, templates)
    torch.testing.assert_close(texts, classifier, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(2))


def test_the_package_exports_what_others_may_call():
    from vtclip import backbones

    assert backbones.load_backbone is load_backbone
    assert {backbones.Backbone.__name__, backbones.TextTower.__name__} < set(backbones.__all__)
    with pytest.raises(AttributeError, match="load_backbones"):
        backbones.load_backbones  # noqa: B018


def test_small_backbones_give_what_open_clip_gives(small):
    assert_as_open_clip(*small[:2])


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_backbones_of_the_real_size_give_what_open_clip_gives(name, tmp_path):
    reference, weights, _ = build(name, tmp_path)
    ours = load_backbone(name, pretrained=str(weights))
    weights.unlink()
    assert_as_open_clip(ours, reference)
    _, spatial = ours.encode_images(random_pixels(ours)[:1])
    tokens = {"RN50": 50, "RN101": 50, "ViT-B-32": 50, "ViT-B-16": 197}[name]
    dim = {"RN50": 1024}.get(name, 512)
    assert spatial.shape == (1, tokens, dim)


def test_raw_spatial_features_are_the_map_before_pooling(small):
    ours, reference, weights, architecture = small
    raw = load_backbone(
        ours.name, pretrained=str(weights), architecture=architecture, spatial="raw"
    )
    pixels = random_pixels(ours)
    pooled, spatial = raw.encode_images(pixels)
    assert spatial.shape[:2] == (2, 16)
    assert torch.equal(pooled, ours.encode_images(pixels)[0]) or torch.allclose(
        pooled, reference.encode_image(pixels), rtol=1e-4, atol=1e-4
    )


def test_the_preprocessing_is_open_clips_test_transform(small):
    ours, reference, *_ = small
    picture = Image.effect_noise((90, 70), 50).convert("RGB")
    config = open_clip.transform.PreprocessCfg(**open_clip.get_model_preprocess_cfg(reference))
    transform = open_clip.transform.image_transform_v2(config, is_train=False)
    assert torch.equal(ours.preprocess(picture), transform(picture))


def test_tf32_is_for_encoding_images_alone(backbone, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "vtclip.backbones.backbone.encode_images",
        lambda *_: seen.append(torch.get_float32_matmul_precision()),
    )
    pixels = torch.zeros(1, 3, backbone.image_size, backbone.image_size)
    backbone.encode_images(pixels)
    monkeypatch.setattr(backbone, "device", torch.device("cuda"))
    backbone.encode_images(pixels)
    assert seen == ["highest", "high"]
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("size", [(65_000, 1), (1, 5000), (300, 7)])
def test_of_a_very_long_picture_the_middle_alone_is_enlarged(backbone, monkeypatch, size):
    picture = Image.linear_gradient("L").rotate(90).convert("RGB").resize(size)
    enlarged, resize = [], Image.Image.resize

    def note(picture, size, *given, **named):
        enlarged.append(size[0] * size[1])
        return resize(picture, size, *given, **named)

    monkeypatch.setattr(Image.Image, "resize", note)
    pixels = backbone.preprocess(picture)
    assert max(enlarged) <= 33 * backbone.image_size**2
    if size == (300, 7):  # all of which is small enough to be enlarged
        whole = Compose(backbone.preprocess.transforms[1:])
        torch.testing.assert_close(pixels, whole(picture), atol=0.05, rtol=0)


def test_underscores_in_class_names_are_read_as_spaces(small):
    texts = small[0].encode_classes(["sea_or_lake", "sea or lake"], ["a {}"])
    # Rows of one batch may differ in their last bits.
    torch.testing.assert_close(texts[0], texts[1], rtol=1e-5, atol=1e-5)


def test_the_prompts_of_a_class_are_its_texts_in_each_template(small):
    names, templates = ["cat", "sea_or_lake"], ["a {}", "the {}", "{}"]
    prompts = small[0].encode_prompts(names, templates)
    for name, texts in zip(names, prompts, strict=True):
        raw = small[0].encode_texts([t.format(name.replace("_", " ")) for t in templates])
        torch.testing.assert_close(texts, raw, rtol=1e-4, atol=1e-4)
    assert (prompts.norm(dim=2) - 1).abs().min() > 0.01, "raw texts are of no unit length"


def test_prompts_that_the_text_tower_would_cut_are_refused_with_class_and_lengths(small):
    ours, longest = small[0], "very " * 74 + "long"  # 75 tokens, and those of start and end
    ours.encode_classes(["cat", longest], ["{}"])
    with pytest.raises(PromptError) as error:
        ours.encode_classes(["cat", longest, f"very_{longest}"], ["{}", "the {}"])
    for name, length in ((longest, 78), (f"very_{longest}", 79)):
        assert f"class '{name}': 'the " in str(error.value)
        assert f"has {length} tokens, and the text tower of {ours.name} reads 77." in str(
            error.value
        )
    assert "class 'cat'" not in str(error.value)
    assert "`class_names:`" in str(error.value)


def test_a_text_that_the_text_tower_would_cut_is_refused(small):
    with pytest.raises(PromptError, match="has 102 tokens, .* reads 77"):
        small[0].encode_texts(["short", "word " * 100])


def test_lengths_are_what_the_tokenizer_makes(small):
    tokenizer = small[0].tokenizer
    for text in ("", "a", "Sea & lake's café!", "日本", "don't &amp; won't  x"):
        assert count_tokens(tokenizer, text) == int((tokenizer([text]) != 0).sum()), text


def test_fetched_weights_give_the_same_features_and_remember_where_they_came_from(small, tmp_path):
    ours, _, weights, architecture = small
    path = tmp_path / "fetched.safetensors"
    fetch_backbone(ours.name, str(weights), path, architecture=architecture)
    loaded = load_backbone(ours.name, pretrained=str(path), architecture=architecture)
    pixels = random_pixels(ours)
    assert torch.equal(loaded.encode_images(pixels)[1], ours.encode_images(pixels)[1])
    assert loaded.pretrained == str(weights)
    assert len(loaded.weights_sha256) == 64


def test_weights_of_another_backbone_are_refused_with_both_names(small, tmp_path):
    ours, _, weights, architecture = small
    path = tmp_path / "fetched.safetensors"
    fetch_backbone(ours.name, str(weights), path, architecture=architecture)
    with pytest.raises(BackboneError, match=f"expected weights of RN50, found .* {ours.name}"):
        load_backbone("RN50", pretrained=str(path))
    with pytest.raises(BackboneError, match=f"expected weights of RN50, found .* {ours.name}"):
        fetch_backbone("RN50", str(path), tmp_path / "again.safetensors")


def test_fetched_weights_that_are_fetched_again_keep_their_transform(small, tmp_path):
    ours, _, weights, architecture = small
    once, again = tmp_path / "once.safetensors", tmp_path / "again.safetensors"
    transform = {"mean": [0.5, 0.5, 0.5], "interpolation": "bilinear"}
    metadata = {"backbone": ours.name, "preprocess": json.dumps(transform)}
    save_file(load_file(weights), once, metadata=metadata)
    fetch_backbone(ours.name, str(once), again, architecture=architecture)
    loaded = load_backbone(ours.name, pretrained=str(again), architecture=architecture)
    found = open_clip.get_model_preprocess_cfg(loaded.model)
    assert (tuple(found["mean"]), found["interpolation"]) == ((0.5, 0.5, 0.5), "bilinear")


def test_openai_weights_in_a_gelu_model_are_refused_and_the_twin_is_named():
    with pytest.raises(ConfigError, match="name: RN50-quickgelu"):
        load_backbone("RN50", pretrained="openai")


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(BackboneError, match=r"Unknown backbone 'RN51'; known: .*RN50"):
        load_backbone("RN51", pretrained=None)


def test_an_unknown_tag_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(BackboneError, match=r"one of the tags .*openai.*, found 'open-ai'"):
        fetch_backbone("RN50-quickgelu", "open-ai", tmp_path / "weights.safetensors")


@pytest.mark.parametrize(("precision", "bound"), [("float16", 1e-2), ("bfloat16", 1e-1)])
def test_another_precision_is_used_and_named_in_what_is_made_with_it(backbone, precision, bound):
    other = Backbone(backbone.model, backbone.name, None, "projected", precision)
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact, rounded = (each.encode_images(pixels)[0].float() for each in (backbone, other))
    difference = (exact - rounded).abs().max() / exact.abs().max()
    assert 0 < difference < bound
    assert describe(other)["precision"] == precision
    assert torch.equal(backbone.encode_texts(["a digit"]), other.encode_texts(["a digit"]))


def test_nothing_is_asked_of_cuda_for_a_backbone_on_the_cpu(backbone, monkeypatch):
    def fail(*_):
        raise AssertionError("CUDA was asked, and a context opened on a GPU that nobody leased")

    for name in ("is_bf16_supported", "get_device_capability", "is_available"):
        monkeypatch.setattr(torch.cuda, name, fail)
    backbone.encode_images(torch.zeros(1, 3, 32, 32))
    half_precision(torch.device("cpu"))


@pytest.mark.parametrize(
    ("content", "found"),
    [("{", "JSONDecodeError"), ("[1]", "[1]"), ("{}", "vision_cfg"), ('{"model_cfg": 3}', "3")],
)
def test_an_architecture_that_is_no_json_object_is_refused_by_name(tmp_path, content, found):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(f"{path}: ")) as error:
        load_backbone("mine", pretrained=None, architecture=path)
    assert found in str(error.value)

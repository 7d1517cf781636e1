"""The smallest of open_clip's backbones of each kind, at its real size and with random weights."""

import open_clip
import pytest
import torch

from tests.backbones.test_backbone import build, random_pixels
from tests.backbones.test_image_towers import assert_close
from vtclip.backbones.backbone import Backbone, load_backbone
from vtclip.backbones.image_towers import find_kind
from vtclip.backbones.text_towers import encode_tokens

pytestmark = pytest.mark.backbones

# name: the kind of its image tower, its places, their width, and whether the mean of the projected
# ones is the pooled feature
TOWERS = {
    "RN50": ("resnet", 49, 2048, False),
    "ViT-S-32": ("vit", 49, 384, False),
    "ViT-L-14-CLIPA": ("average", 256, 1024, False),
    "coca_ViT-B-32": ("attention_pool", 49, 768, False),
    "ViT-B-16-SigLIP": ("attention_pool", 196, 768, False),
    "ViT-B-32-SigLIP2-256": ("attention_pool", 64, 768, False),
    "PE-Core-T-16-384": ("attention_pool", 576, 192, False),
    "EVA02-B-16": ("vit", 196, 768, False),
    "MobileCLIP2-B": ("vit", 196, 768, False),
    "MobileCLIP2-S0": ("average", 64, 1024, True),
    "convnext_tiny": ("average", 49, 768, False),
    "ViTamin-S": ("average", 196, 384, False),
    "swin_base_patch4_window7_224": ("average", 49, 1024, True),
    "vit_medium_patch16_gap_256": ("average", 256, 512, True),
    "vit_relpos_medium_patch16_cls_224": ("vit", 196, 512, False),
}


@pytest.mark.parametrize("name", TOWERS)
def test_a_backbone_of_each_kind_gives_what_open_clip_gives(name, tmp_path):
    kind, places, width, is_mean = TOWERS[name]
    reference, weights, _ = build(name, tmp_path)
    ours = load_backbone(name, pretrained=str(weights))
    weights.unlink()
    assert find_kind(ours.model.visual) == kind
    pixels = random_pixels(ours)
    with torch.inference_mode():
        expected = reference.encode_image(pixels, normalize=False)
    pooled, spatial = ours.encode_images(pixels)
    assert_close(pooled, expected)
    first = int(kind in ("resnet", "vit"))
    assert spatial.shape == (2, first + places, pooled.shape[1])
    if first:
        assert_close(spatial[:, 0], pooled)
    if is_mean:
        assert_close(spatial.mean(dim=1), pooled)
    raw = Backbone(ours.model, name, None, "raw", "float32").encode_images(pixels)
    assert_close(raw[0], pooled)
    assert raw[1].shape == (2, places, width)
    assert_texts_are_open_clips(ours, reference)


def assert_texts_are_open_clips(ours: Backbone, reference) -> None:
    text = open_clip.get_model_config(ours.name)["text_cfg"]
    if "hf_tokenizer_name" in text:  # it is on the hub; tokens do as well
        generator = torch.Generator().manual_seed(0)
        shape = (2, text["context_length"])
        tokens = torch.randint(2, text["vocab_size"], shape, generator=generator)
        with torch.inference_mode():
            found = encode_tokens(ours.model, tokens)
    else:
        texts = ["a photo of a cat", "the sea"]
        tokens = open_clip.get_tokenizer(ours.name)(texts)
        found = ours.encode_texts(texts)
    with torch.inference_mode():
        assert_close(found, reference.encode_text(tokens, normalize=False))

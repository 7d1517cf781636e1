"""Backbones from folders in the hub's form, with tokenizers and text towers of Hugging Face's."""

import json
import shutil

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.backbones import standin
from vtclip.backbones.backbone import BackboneError, fetch_backbone, load_backbone
from vtclip.backbones.build import _download, _find_usual_transform, find_blueprint
from vtclip.backbones.prompts import TextTower
from vtclip.backbones.text_towers import PromptError
from vtclip.features.extract import describe
from vtclip.settings import ConfigError

VISION = {"image_size": 32, "layers": 1, "width": 48, "head_width": 16, "patch_size": 16}
SIGLIP = {
    "context_length": 8, "vocab_size": len(standin.WORDS), "width": 32, "heads": 2, "layers": 1,
    "no_causal_mask": True, "pool_type": "last", "proj_bias": True,
    "hf_tokenizer_name": "nowhere/tokenizer", "tokenizer_kwargs": {"clean": "canonicalize"},
}  # fmt: skip
MULTILINGUAL = {
    "hf_model_name": "nowhere/tower", "hf_tokenizer_name": "nowhere/tokenizer",
    "hf_proj_type": "linear", "context_length": 8,
}  # fmt: skip
TEXTS = {"SigLIP": SIGLIP, "multilingual": MULTILINGUAL}
SCALE, BIAS = 4.7, -16.5
TRANSFORM = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "squash"}
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=TEXTS)
def folder(request, tmp_path, monkeypatch):
    """A model in the hub's form, with weights, a tokenizer and a configuration of its own."""
    standin.install(monkeypatch)
    made = tmp_path / "hub"
    standin.write_files(made, start=request.param == "multilingual")
    config = {
        "embed_dim": 32, "vision_cfg": VISION, "text_cfg": TEXTS[request.param],
        "custom_text": True, "init_logit_bias": BIAS, "init_logit_scale": SCALE,
    }  # fmt: skip
    content = {"model_cfg": config, "preprocess_cfg": TRANSFORM}
    (made / "open_clip_config.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    backbone = load_backbone(f"local-dir:{made}", pretrained=None)
    weights = {key: tensor.contiguous() for key, tensor in backbone.model.state_dict().items()}
    save_file(weights, made / "open_clip_model.safetensors")
    return made


@pytest.fixture
def own(folder):
    """The backbone of the folder, its tokenizer read."""
    backbone = load_backbone(f"local-dir:{folder}", pretrained="own")
    assert backbone.tokenizer.context_length == 8
    return backbone


@pytest.fixture
def fetched(folder, tmp_path):
    """Its name and its fetched file; the folder is gone."""
    fetch_backbone(f"local-dir:{folder}", "own", tmp_path / "fetched.safetensors")
    shutil.rmtree(folder)
    return f"local-dir:{folder}", str(tmp_path / "fetched.safetensors")


def without_library(monkeypatch):
    monkeypatch.setitem(standin.sys.modules, "transformers", None)


def test_a_folder_gives_what_open_clip_makes_of_it(own, folder, monkeypatch):
    text = own.model.text
    if hasattr(text, "transformer") and hasattr(text.transformer, "embeddings"):
        reference = own.model
    else:
        reference = open_clip.create_model(f"local-dir:{folder}").eval()
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["a cat", "the sea"])
    with torch.inference_mode():
        images, texts = reference.encode_image(PIXELS), reference.encode_text(tokens)
    torch.testing.assert_close(own.encode_images(PIXELS)[0], images, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(own.encode_texts(["a cat", "the sea"]), texts, rtol=1e-5, atol=1e-5)
    picture = Image.effect_noise((90, 70), 50).convert("RGB")
    config = open_clip.transform.PreprocessCfg(**TRANSFORM, size=(32, 32))
    expected = open_clip.transform.image_transform_v2(config, is_train=False)(picture)
    assert torch.equal(own.preprocess(picture), expected)


def test_scale_and_bias_are_the_models_own(own):
    assert own.logit_scale == pytest.approx(torch.tensor(SCALE).exp().item())
    assert own.logit_bias == pytest.approx(BIAS)
    metadata = describe(own)
    assert (metadata["logit_scale"], metadata["logit_bias"]) == (own.logit_scale, own.logit_bias)


def test_a_fetched_file_needs_no_hub_and_no_folder(own, fetched):
    name, path = fetched
    loaded = load_backbone(name, pretrained=path)
    assert torch.equal(loaded.encode_images(PIXELS)[0], own.encode_images(PIXELS)[0])
    assert torch.equal(loaded.encode_texts(["a cat"]), own.encode_texts(["a cat"]))
    assert loaded.pretrained == "own"
    picture = Image.effect_noise((90, 70), 50).convert("RGB")
    assert torch.equal(loaded.preprocess(picture), own.preprocess(picture))


def test_a_fetched_file_that_is_fetched_again_keeps_its_files(own, fetched, tmp_path):
    name, path = fetched
    fetch_backbone(name, path, tmp_path / "again.safetensors")
    loaded = load_backbone(name, pretrained=str(tmp_path / "again.safetensors"))
    assert torch.equal(loaded.encode_texts(["a cat"]), own.encode_texts(["a cat"]))


def test_a_custom_architecture_may_name_a_folder_with_the_tokenizer(own, folder, tmp_path):
    content = json.loads((folder / "open_clip_config.json").read_text())
    for key in ("hf_tokenizer_name", "hf_model_name"):
        if key in content["model_cfg"]["text_cfg"]:
            content["model_cfg"]["text_cfg"][key] = str(folder)
    (tmp_path / "mine.json").write_text(json.dumps(content["model_cfg"]))
    weights = {"pretrained": str(folder / "open_clip_model.safetensors")}
    loaded = load_backbone("mine", **weights, architecture=tmp_path / "mine.json")
    assert torch.equal(loaded.encode_texts(["a cat"]), own.encode_texts(["a cat"]))


def test_images_are_encoded_without_a_tokenizer(fetched, monkeypatch):
    name, path = fetched
    if "text.token_embedding.weight" in load_file(path):
        without_library(monkeypatch)  # open_clip's own text tower needs nothing either
    monkeypatch.setattr(standin.AutoTokenizer, "from_pretrained", None)
    load_backbone(name, pretrained=path).encode_images(PIXELS)


def test_what_hugging_faces_library_is_needed_for_says_how_to_install_it(folder, monkeypatch):
    without_library(monkeypatch)
    with pytest.raises(BackboneError, match=r"pip install 'vtclip\[transformers\]'") as error:
        fetch_backbone(f"local-dir:{folder}", "own", folder / "fetched.safetensors")
    assert len(str(error.value).splitlines()) == 1
    assert not (folder / "fetched.safetensors").exists()


def test_files_that_the_hub_does_not_have_are_named_in_the_error(folder, tmp_path):
    content = json.loads((folder / "open_clip_config.json").read_text())
    (tmp_path / "mine.json").write_text(json.dumps(content["model_cfg"]))
    weights = str(folder / "open_clip_model.safetensors")
    expected = "'nowhere/tokenizer' cannot be downloaded from the hub"
    with pytest.raises(BackboneError, match=expected):
        fetch_backbone(
            "mine", weights, tmp_path / "fetched.safetensors", architecture=tmp_path / "mine.json"
        )


def test_weights_that_cannot_be_downloaded_are_explained_by_what_stops_the_download(monkeypatch):
    def fail(tag):
        try:
            raise ConnectionError("Cannot reach it: unset HF_HUB_OFFLINE")
        except ConnectionError:
            raise FileNotFoundError("Failed to download")  # noqa: B904 - as open_clip does

    blueprint = find_blueprint("RN50-quickgelu", "openai")
    monkeypatch.setattr("open_clip.download_pretrained", fail)
    with pytest.raises(BackboneError, match=r"RN50-quickgelu.*: Cannot reach it: unset HF_HUB"):
        _download(blueprint)
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such.pem")
    with pytest.raises(ConfigError, match=r"SSL_CERT_FILE.*\n.*/no/such\.pem: No such file"):
        _download(blueprint)


def test_words_can_be_learned_before_a_class_name(own):
    tower = TextTower(own)
    encode = tower.prompt_encoder(["cat", "blue_sea"], 3)
    found = encode(tower.embed_words("photo of the"))
    expected = own.encode_texts(["photo of the cat.", "photo of the blue sea."])
    torch.testing.assert_close(
        found, torch.nn.functional.normalize(expected, dim=-1), rtol=1e-5, atol=1e-5
    )
    context = (0.02 * torch.randn(3, tower.width)).requires_grad_()
    encode(context).square().cumsum(0).sum().backward()
    assert context.grad.norm(dim=1).gt(0).all()


def test_words_that_have_no_tokens_of_their_own_cannot_be_learned(own, monkeypatch):
    monkeypatch.setattr(standin.AutoTokenizer, "read", lambda *_: [3, 4] * 3)
    with pytest.raises(PromptError, match="each of the 2 words .* a token of its own"):
        TextTower(own).prompt_encoder(["cat"], 2)


def test_a_text_that_would_be_cut_is_refused_with_the_tokenizers_own_count(own):
    longest = own.tokenizer.context_length - (1 if own.tokenizer.tokenizer.content["start"] else 0)
    own.encode_texts([" ".join(["cat"] * (longest - 1))])
    with pytest.raises(PromptError, match="has 9 tokens, and the text tower of .* reads 8"):
        own.encode_texts([" ".join(["cat"] * longest)])


def test_a_folder_that_is_no_model_is_refused_with_what_belongs_there(tmp_path):
    with pytest.raises(ConfigError, match="with open_clip_config.json"):
        load_backbone(f"local-dir:{tmp_path}", pretrained="own")
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="JSON with model_cfg"):
        load_backbone(f"local-dir:{tmp_path}", pretrained=None)
    with pytest.raises(ConfigError, match="with open_clip_model.safetensors or"):
        load_backbone(f"local-dir:{tmp_path}", pretrained="own")


def test_a_users_weights_get_the_transform_that_all_known_weights_of_the_model_have():
    assert _find_usual_transform("ViT-B-16-SigLIP")["resize_mode"] == "squash"
    assert _find_usual_transform("MobileCLIP-S1")["mean"] == (0.0, 0.0, 0.0)
    assert _find_usual_transform("mine") == {}

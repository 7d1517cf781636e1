import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from vtclip.backbones.backbone import load_backbone
from vtclip.config.dataset import read_dataset
from vtclip.data.manifest import prepare_manifest
from vtclip.demo import pretrain
from vtclip.demo.datasets import (
    HELD_OUT_FONTS,
    NAMES,
    PRETRAINING_FONTS,
    SHIFTS,
    SIZES,
    draw_dataset,
    draw_sheet,
    shift_images,
)
from vtclip.demo.pretrain import GlyphBatches
from vtclip.files import DamagedError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", SIZES)
def test_a_drawn_dataset_is_what_its_file_promises(name, tmp_path):
    dataset = read_dataset(name, ROOT / "config" / "datasets")
    draw_dataset(name, tmp_path / name, tmp_path / "receipt.json", seed=0)
    manifest = prepare_manifest(
        dataset.model_dump(mode="json"), tmp_path / name, tmp_path / "manifest.parquet"
    )
    assert manifest["image"].is_unique().all()


def test_the_digits_are_scikit_learns_pixel_for_pixel(tmp_path):
    from sklearn.datasets import load_digits

    draw_dataset("digits", tmp_path / "digits", tmp_path / "receipt.json", seed=0)
    digits = load_digits()
    with Image.open(next((tmp_path / "digits").rglob("0007.png"))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.round(digits.images[7] * 255 / 16))


def test_drawing_again_gives_the_same_bytes(tmp_path):
    for part in ("one", "two"):
        draw_dataset("letters", tmp_path / part, tmp_path / f"{part}.json", seed=0)
    for path in (tmp_path / "one").rglob("*.*"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == other.read_bytes()


def test_letters_are_drawn_in_fonts_that_pre_training_never_saw():
    assert not set(HELD_OUT_FONTS) & set(PRETRAINING_FONTS)


def test_every_font_draws_every_character_differently():
    sheet = draw_sheet(NAMES, PRETRAINING_FONTS + HELD_OUT_FONTS)
    for font in range(sheet.shape[1]):
        glyphs = sheet[:, font].flatten(1)
        assert glyphs.sum(dim=1).min() > 10  # some ink
        assert len(glyphs.unique(dim=0)) == len(NAMES)


def test_a_batch_has_every_character_once_in_range():
    pixels, style = GlyphBatches(seed=0).draw()
    assert pixels.shape == (len(NAMES), 32, 32)
    assert style.shape == (len(NAMES),)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


GLYPH_CLIP = ROOT / "config" / "backbones" / "glyph-clip.json"
TRAINED = GLYPH_CLIP.with_suffix(".safetensors")


def test_a_few_steps_of_pre_training_lower_the_loss():
    losses = []
    for steps in (1, 20):
        model = pretrain._initial_model(GLYPH_CLIP, seed=0)
        losses.append(pretrain.pretrain(model, "glyph-clip", steps, learning_rate=1e-3, seed=0))
    assert losses[1] < losses[0]


def pretrained(architecture, destination, **changed):
    pretrain.pretrain_backbone(
        architecture, destination, trained=TRAINED, **pretrain.RECIPE | changed
    )
    return load_file(destination)


def test_the_demos_clip_has_the_trained_weights_that_the_project_brings(tmp_path):
    weights = pretrained(GLYPH_CLIP, tmp_path / "weights.safetensors")
    trained = load_file(TRAINED)
    assert torch.equal(weights["visual.proj"], trained["visual.proj"])
    used = trained["captions.tokens"]
    assert torch.equal(weights["token_embedding.weight"][used], trained["captions.embedding"])
    backbone = load_backbone(
        "glyph-clip", pretrained=str(tmp_path / "weights.safetensors"), architecture=GLYPH_CLIP
    )
    assert torch.equal(backbone.model.state_dict()["logit_scale"], weights["logit_scale"])


def test_trained_weights_that_changed_are_refused_and_no_others_trained(tmp_path):
    content = bytearray(Path(TRAINED).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "trained.safetensors").write_bytes(content)
    with pytest.raises(DamagedError, match=r"trained\.safetensors.*Restore it"):
        pretrain.pretrain_backbone(
            GLYPH_CLIP, tmp_path / "new.safetensors", trained=tmp_path / "trained.safetensors",
            **pretrain.RECIPE,
        )  # fmt: skip


def test_weights_that_the_command_writes_are_taken_by_the_workflow(tmp_path, monkeypatch):
    trained = tmp_path / "trained.safetensors"
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pretrain, "RECIPE", pretrain.RECIPE | {"steps": 1})
    monkeypatch.setattr(pretrain, "TRAINED_GLYPHS", trained)
    pretrain.main()
    monkeypatch.delattr(pretrain, "pretrain")  # nothing is trained again
    destination = tmp_path / "weights.safetensors"
    pretrain.pretrain_backbone(GLYPH_CLIP, destination, trained=trained, **pretrain.RECIPE)
    assert torch.equal(load_file(destination)["visual.proj"], load_file(trained)["visual.proj"])


@pytest.mark.parametrize("changed", [{"steps": 1}, {"steps": 1, "seed": 5}])
def test_other_settings_train_a_new_clip(tmp_path, changed):
    weights = pretrained(GLYPH_CLIP, tmp_path / "weights.safetensors", **changed)
    assert not torch.equal(weights["visual.proj"], load_file(TRAINED)["visual.proj"])


def test_another_architecture_trains_a_new_clip(tmp_path):
    content = json.loads(GLYPH_CLIP.read_text())
    content["vision_cfg"]["layers"] = 1
    (tmp_path / "small.json").write_text(json.dumps(content))
    recipe = pretrain.describe_recipe(tmp_path / "small.json", **pretrain.RECIPE)
    assert recipe != pretrain.describe_recipe(GLYPH_CLIP, **pretrain.RECIPE)
    weights = pretrained(tmp_path / "small.json", tmp_path / "weights.safetensors", steps=1)
    assert "visual.transformer.resblocks.1.attn.in_proj_weight" not in weights


def read_split(folder, split):
    rows = json.loads((folder / "split.json").read_text())[split]
    return np.stack([np.asarray(Image.open(folder / image)) for image, *_ in rows])


def test_no_image_that_digits_are_trained_with_is_among_the_shifted_ones(tmp_path):
    for name in ("digits", "digits_blur"):  # which blurs without a random number
        draw_dataset(name, tmp_path / name, tmp_path / f"{name}.json", seed=0)
    shifted = {image.tobytes() for image in read_split(tmp_path / "digits_blur", "test")}
    blurred = {
        split: {
            image.tobytes()
            for image in shift_images(read_split(tmp_path / "digits", split), "blur", seed=0)
        }
        for split in ("train", "val", "test")
    }
    assert shifted <= blurred["test"]
    assert not shifted & (blurred["train"] | blurred["val"])


@pytest.mark.parametrize("shift", SHIFTS)
def test_each_strength_of_a_shift_changes_the_images_more(shift):
    pixels = (255 * draw_sheet("0123456789", HELD_OUT_FONTS[:1])[:, 0].numpy()).astype(np.uint8)
    shifted = shift_images(pixels, shift, seed=0).reshape(5, *pixels.shape)
    change = np.abs(shifted - pixels.astype(float)).mean(axis=(1, 2, 3))
    assert change[0] > 0
    assert (np.diff(change) > 0).all()

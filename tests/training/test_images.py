"""Trainings and predictions of a method that reads images, from files to files."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.project import ROOT
from vtclip.backbones.backbone import load_backbone
from vtclip.data.layouts import SCHEMA
from vtclip.data.shots import sample_shots
from vtclip.features.extract import extract_texts
from vtclip.features.loading import ExtractionError
from vtclip.methods.clip_lora import ClipLora
from vtclip.nn.towers import Towers
from vtclip.parquet import read_parquet, write_parquet
from vtclip.training.optimise import TrainingError
from vtclip.training.predict import Trained, TrainedHead, predict_test
from vtclip.training.tasks import Sources
from vtclip.training.train import train_head

NAMES = ["ant", "polar_bear", "cow", "dog"]
CPU = torch.device("cpu")
SETTINGS = {"steps_per_shot": 4, "template": "a {}.", "learning_rate": 0.01}


def load():
    torch.manual_seed(0)
    architecture = ROOT / "config" / "backbones" / "glyph-clip.json"
    return load_backbone("glyph-clip", pretrained=None, architecture=architecture)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four classes: their images, manifest, texts, and two shots of each."""
    folder = tmp_path_factory.mktemp("dataset")
    generator, rows = np.random.default_rng(0), []
    (folder / "images").mkdir()
    for split, size in (("train", 4), ("val", 2), ("test", 2)):
        for label, name in enumerate(NAMES):
            for number in range(size):
                image = f"{split}-{name}-{number}.png"
                pixels = generator.integers(0, 255, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / "images" / image)
                rows.append((image, label, name, split))
    manifest = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    write_parquet(folder / "manifest.parquet", manifest)
    write_parquet(folder / "shots.parquet", sample_shots(manifest, shots=2, seed=1))
    extract_texts(load(), folder / "manifest.parquet", ["a {}."], folder / "texts.parquet")
    return folder


def fit(folder, run, *, method="clip_lora", images=None, dataset="", **settings):
    train_head(
        method, SETTINGS | settings,
        Sources(
            folder / "texts.parquet", dataset=dataset, sample=folder / "shots.parquet",
            images=str(images or folder / "images"), tower=Towers(load()),
        ),
        run, shots=2, seed=1, device=CPU,
    )  # fmt: skip
    return load_file(run / "head.safetensors")


def predict(folder, run, destination, *, method="clip_lora", **options):
    predict_test(
        method, SETTINGS, folder / "texts.parquet",
        [TrainedHead(2, 1, run / "head.safetensors")], [], destination, device=CPU,
        images=str(folder / "images"), manifest=folder / "manifest.parquet",
        tower=Towers(load()), **options,
    )  # fmt: skip
    return read_parquet(destination)


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_training_twice_gives_the_same_bits_and_another_seed_others(folder, tmp_path):
    once = fit(folder, tmp_path / "once")
    assert_same(once, fit(folder, tmp_path / "twice"))
    assert all(tensor.any() for tensor in once.values())


def test_each_epoch_crops_the_images_otherwise(folder):
    names = read_parquet(folder / "shots.parquet")["image"].to_list()
    pictures = Towers(load()).open_pictures(
        names, folder / "images", scale=(0.08, 1.0), flip=True, seed=1, exif="ignore",
        test_only=False,
    )  # fmt: skip
    rows = torch.tensor([0, 3])
    first, again, other = (pictures.views(rows, view) for view in (1, 1, 2))
    assert first.shape == (2, 3, 32, 32)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    numbered = pictures.views(rows, torch.tensor([1, 2]))
    assert torch.equal(numbered[0], first[0])
    assert torch.equal(numbered[1], other[1])


def test_a_training_killed_midway_leaves_no_head_and_the_next_gives_the_same_bits(
    folder, tmp_path, monkeypatch
):
    whole = fit(folder, tmp_path / "whole")
    add, calls = ClipLora._add, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) > 12:
            raise KeyboardInterrupt
        return add(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(ClipLora, "_add", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(folder, tmp_path / "run")
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())
    assert_same(fit(folder, tmp_path / "run"), whole)


def test_a_training_reads_no_image_but_its_shots(folder, tmp_path):
    sampled = read_parquet(folder / "shots.parquet")["image"]
    images = tmp_path / "images"
    images.mkdir()
    for image in sampled:
        (images / image).symlink_to(folder / "images" / image)
    assert "test" not in read_parquet(folder / "shots.parquet")["split"].to_list()
    assert_same(fit(folder, tmp_path / "few", images=images), fit(folder, tmp_path / "all"))


def test_an_image_that_cannot_be_read_is_named(folder, tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(
        ExtractionError, match=r"8 images cannot be read(?s:.*)train-.*\.png: there is"
    ):
        fit(folder, tmp_path / "run", images=tmp_path / "images")


def test_the_steps_end_in_the_midst_of_an_epoch(folder, tmp_path):
    fit(folder, tmp_path / "run", batch_size=3, steps_per_shot=4)
    history = read_parquet(tmp_path / "run" / "history.parquet")  # 8 steps of 3 an epoch
    assert len(history) == 3
    assert history["learning_rate"][-1] == pytest.approx(1e-6 + (0.01 - 1e-6) * 0.038060, rel=1e-4)


def test_predictions_are_those_of_the_changed_towers_on_the_test_view(folder, tmp_path):
    head = fit(folder, tmp_path / "run")
    found = predict(folder, tmp_path / "run", tmp_path / "predictions.parquet")
    rows = read_parquet(folder / "manifest.parquet").filter(split="test")
    assert found["image"].to_list() == rows["image"].to_list()
    backbone = load()
    towers = Towers(backbone)
    method = ClipLora(ClipLora.settings_type(**SETTINGS))
    change = method.change(head, towers, training=False)
    pixels = [backbone.preprocess(Image.open(folder / "images" / name)) for name in rows["image"]]
    images = towers.encode_images(torch.stack(pixels), change)
    texts = towers.encode_prompts(NAMES, "a {}.", change)
    logits = backbone.logit_scale * torch.nn.functional.normalize(images, dim=-1) @ texts.T
    assert found["prediction"].to_list() == logits.argmax(1).tolist()
    assert found["confidence"].to_list() == pytest.approx(
        logits.softmax(1).amax(1).tolist(), rel=1e-3
    )


def test_a_head_of_half_the_classes_classifies_the_other_half(folder, tmp_path):
    fit(folder, tmp_path / "run", dataset="letters@base")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["classes"] == 2
    trained = Trained("letters@base", folder / "texts.parquet", folder / "manifest.parquet")
    found = predict(
        folder, tmp_path / "run", tmp_path / "new.parquet", tested="letters@new", trained=trained
    )
    assert set(found["label"]) == {2, 3}
    assert set(found["prediction"]) <= {2, 3}


def test_a_loss_that_is_no_number_ends_the_training(folder, tmp_path):
    with pytest.raises(TrainingError, match="learning rate"):
        fit(folder, tmp_path / "run", learning_rate=1e18)

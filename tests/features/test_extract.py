import polars as pl
import pytest
import torch
from PIL import Image

from vtclip.features.extract import extract_shots, extract_test, extract_texts
from vtclip.features.store import read_features, read_texts
from vtclip.features.views import Views


@pytest.fixture
def manifest_file(tmp_path, manifest):
    manifest.write_parquet(tmp_path / "manifest.parquet")
    return tmp_path / "manifest.parquet"


def extract(backbone, manifest, images, tmp_path, *, batch_size=4, workers=0, name="seed1"):
    shots = tmp_path / "shots.parquet"
    manifest.filter(pl.col("split") != "test").write_parquet(shots)
    destination = tmp_path / f"{name}.parquet"
    extract_shots(
        backbone, [shots, shots], images, destination,
        views=2, scale=(0.5, 1.0), flip=True, seed=1, batch_size=batch_size, workers=workers,
    )  # fmt: skip
    return read_features(destination)


def test_test_features_are_those_of_open_clips_transform_in_the_manifests_order(
    backbone, manifest_file, manifest, images, tmp_path
):
    extract_test(backbone, manifest_file, images, tmp_path / "t.parquet", batch_size=4, workers=0)
    features = read_features(tmp_path / "t.parquet")
    expected = manifest.filter(split="test")
    assert features.rows["image"].to_list() == expected["image"].to_list()
    assert features.labels.tolist() == expected["label"].to_list()
    for row, image in enumerate(expected["image"]):
        with Image.open(images / image) as picture:
            pixels = backbone.preprocess(picture)
        pooled, spatial = backbone.encode_images(pixels[None])
        torch.testing.assert_close(features.pooled[row], pooled[0].half(), rtol=2e-3, atol=2e-3)
        torch.testing.assert_close(features.spatial[row], spatial[0].half(), rtol=2e-3, atol=2e-3)


def test_training_images_have_all_views_and_validation_images_one(
    backbone, manifest, images, tmp_path
):
    features = extract(backbone, manifest, images, tmp_path)
    views = features.rows.group_by("image", "split").agg("view")
    for split, expected in (("train", [0, 1, 2]), ("val", [0])):
        assert all(found == expected for found in views.filter(split=split)["view"].to_list())
    assert len(features) == 18 * 3 + 15


def test_views_differ_and_do_not_depend_on_batches_or_workers(backbone, manifest, images, tmp_path):
    once = extract(backbone, manifest, images, tmp_path)
    again = extract(backbone, manifest, images, tmp_path, batch_size=7, workers=2, name="again")
    assert not torch.equal(once.pooled[0], once.pooled[1])
    torch.testing.assert_close(once.pooled.float(), again.pooled.float(), rtol=1e-3, atol=1e-3)


def test_a_views_pixels_depend_on_image_view_and_seed_alone(backbone, images, manifest):
    image = manifest["image"][0]

    def pixels(seed=1, name=image, view=1):
        look = Views(backbone.preprocess, 32, scale=(0.3, 1.0), flip=True, seed=seed)
        with Image.open(images / image) as picture:
            return look(picture, name, view)

    first = pixels()
    torch.rand(10)
    assert torch.equal(pixels(), first)
    assert not torch.equal(pixels(seed=2), first)
    assert not torch.equal(pixels(name="another"), first)
    assert not torch.equal(pixels(view=2), first)


def test_drawing_a_view_leaves_the_global_generator_alone(backbone):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    Views(backbone.preprocess, 32, scale=(0.5, 1.0), flip=True, seed=1)(
        Image.new("RGB", (40, 40)), "a", 1
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_texts_are_stored_by_label_with_the_logit_scale(backbone, manifest_file, tmp_path):
    extract_texts(backbone, manifest_file, ["the {}"], tmp_path / "texts.parquet")
    texts, metadata = read_texts(tmp_path / "texts.parquet")
    names = [f"class {label}" for label in range(3)]
    torch.testing.assert_close(texts, backbone.encode_classes(names, ["the {}"]))
    assert metadata["logit_scale"] == backbone.logit_scale
    assert metadata["templates"] == ["the {}"]

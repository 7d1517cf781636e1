import hashlib
import json
import os
import signal
import weakref
from dataclasses import asdict
from itertools import product
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torchvision.transforms import (
    Compose,
    InterpolationMode,
    RandomHorizontalFlip,
    RandomResizedCrop,
)

from tests.feature_files import read_features
from vtclip.backbones.text_towers import PromptError
from vtclip.data.descriptions import Sentences
from vtclip.data.images import open_picture
from vtclip.features import loading
from vtclip.features.extract import (
    Encoder,
    extract_shots,
    extract_test,
    extract_texts,
    extract_validation,
)
from vtclip.features.loading import ExtractionError
from vtclip.features.store import FeatureError, FeatureSet
from vtclip.features.texts import read_classes, read_texts
from vtclip.features.views import Views


@pytest.fixture
def manifest_file(tmp_path, manifest):
    manifest.write_parquet(tmp_path / "manifest.parquet")
    return tmp_path / "manifest.parquet"


@pytest.fixture
def encode_test(backbone, manifest_file, images, tmp_path):
    """Extract test features into a file, and read it."""

    def run(name="t", **options):
        file, options = tmp_path / name, {"batch_size": 4, "workers": 0} | options
        extract_test(backbone, manifest_file, images, file, **options)
        return read_features(file)

    return run


def extract(backbone, manifest, images, tmp_path, *, name="seed1", **options):
    shots = tmp_path / "shots.parquet"
    manifest.filter(pl.col("split") != "test").write_parquet(shots)
    destination = tmp_path / f"{name}.parquet"
    extract_shots(
        backbone, shots, images, destination,
        number=2, scale=(0.5, 1.0), flip=True, seed=1, **{"batch_size": 4, "workers": 0} | options,
    )  # fmt: skip
    return read_features(destination)


def test_test_features_are_those_of_open_clips_transform_in_the_manifests_order(
    backbone, encode_test, manifest, images
):
    features = encode_test()
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


def test_an_image_is_decoded_once_for_all_its_views(
    backbone, manifest, images, tmp_path, monkeypatch
):
    decoded = []
    monkeypatch.setattr(
        loading, "open_picture", lambda path, exif: decoded.append(path) or open_picture(path)
    )
    features = extract(backbone, manifest, images, tmp_path)  # 3 views, 4 a batch
    assert decoded == [images / name for name in features.rows["image"].unique(maintain_order=True)]


def floats(draw, picture, image, view):
    return draw.normalize(draw(picture, image, view)[None])[0]


def test_a_views_pixels_are_those_of_the_plain_transforms_seeded_by_image_view_and_seed(
    backbone, images, manifest
):
    image = manifest["image"][0]
    crop = RandomResizedCrop(32, scale=(0.3, 1.0), interpolation=InterpolationMode.BICUBIC)
    plain = Compose([crop, RandomHorizontalFlip(), *backbone.preprocess.transforms[3:]])
    with Image.open(images / image) as picture:
        for name, view, seed in product((image, "another"), range(3), (1, 2)):
            draw = Views(backbone.preprocess, 32, scale=(0.3, 1.0), flip=True, seed=seed)
            key = hashlib.sha256(f"{name}\0{view}\0{seed}".encode()).digest()
            torch.manual_seed(int.from_bytes(key[:8], "little") >> 1)
            expected = (plain if view else backbone.preprocess)(picture)
            assert torch.equal(floats(draw, picture, name, view), expected)


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
    classes, again = read_classes(tmp_path / "texts.parquet")
    assert (classes.logit_scale, again) == (backbone.logit_scale, metadata)
    torch.testing.assert_close(
        classes.means, backbone.encode_texts([f"the {name}" for name in names]).float()
    )


def test_the_means_of_several_templates_have_the_plain_one_beside_them(
    backbone, manifest_file, tmp_path
):
    templates, path = ["the {}", "a {} in a video game."], tmp_path / "texts.parquet"
    extract_texts(backbone, manifest_file, templates, path)
    classes, metadata = read_classes(path)
    names = [f"class {label}" for label in range(3)]
    raw = backbone.encode_prompts(names, [*templates, "a photo of a {}."])
    torch.testing.assert_close(classes.means, raw.mean(dim=1))
    torch.testing.assert_close(classes.prompts, raw[:, :2])
    assert metadata["templates"] == templates
    extract_texts(backbone, manifest_file, [*templates, "a photo of a {}."], path)
    torch.testing.assert_close(read_classes(path)[0].means, raw.mean(dim=1))


def test_all_unreadable_images_are_named_at_once_and_nothing_is_written(
    encode_test, manifest, images, tmp_path
):
    bad = manifest.filter(split="test")["image"].to_list()[1::3]
    assert len(bad) == 2
    for image in bad:
        (images / image).write_bytes(b"no image")
    with pytest.raises(ExtractionError, match="2 images cannot be read") as error:
        encode_test(batch_size=2)
    for image in bad:
        assert f"{images / image}: Pillow cannot read it as an image" in str(error.value)
    assert "leave_out:" in str(error.value)
    assert not (tmp_path / "t").exists()


def test_a_picture_whose_view_cannot_be_made_is_named(encode_test, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(Views, "__call__", fail)
    with pytest.raises(ExtractionError, match=r"0-2\.png: there is too little memory for a view"):
        encode_test()


def test_shards_together_are_the_whole_test_set_once(encode_test, tmp_path):
    shards = [encode_test(f"{part}", shard=(part, 4), batch_size=2) for part in (1, 2, 3, 4)]
    whole = encode_test("all", batch_size=2)
    assert FeatureSet([tmp_path / f"{part}" for part in (1, 2, 3, 4)]).rows.equals(whole.rows)
    parts = torch.cat([shard.pooled for shard in shards])
    torch.testing.assert_close(parts, whole.pooled, rtol=1e-3, atol=1e-3)


def turn(images, manifest):
    """Store every image turned, as a phone does."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in manifest["image"]:
        picture = Image.open(images / name).transpose(Image.Transpose.ROTATE_90)
        picture.save(images / name, exif=exif)


def test_turned_photographs_have_the_features_of_upright_ones_and_the_metadata_say_so(
    encode_test, manifest, images, tmp_path
):
    upright = encode_test("upright")
    turn(images, manifest)
    found, ignored = encode_test("turned", exif="upright"), encode_test("ignored")
    assert torch.equal(found.pooled, upright.pooled)
    assert not torch.equal(ignored.pooled, upright.pooled)
    assert [file.metadata["exif"] for file in (found, ignored)] == ["upright", "ignore"]
    with pytest.raises(FeatureError, match="exif: expected 'upright'"):
        FeatureSet([tmp_path / "turned", tmp_path / "ignored"])


@pytest.mark.parametrize("mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_a_random_view_of_a_whole_square_picture_is_its_test_view(mode, interpolation):
    config = PreprocessCfg(size=32, resize_mode=mode, interpolation=interpolation, mean=(0.5,) * 3)
    preprocess = image_transform_v2(config, is_train=False)
    draw = Views(preprocess, 32, scale=(1.0, 1.0), flip=False, seed=1)
    picture = Image.effect_noise((90, 90), 50).convert("RGB")
    assert torch.equal(draw(picture, "a.png", 1), draw(picture, "a.png", 0))


@pytest.mark.parametrize(
    "full",
    [
        torch.OutOfMemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(h)`"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("miopenStatusAllocFailed"),
        torch.AcceleratorError("CUDA error: out of memory"),
    ],
    ids=str,
)
def test_a_batch_that_does_not_fit_is_encoded_in_parts_and_their_size_remembered(
    backbone, caplog, full
):
    class Small:
        """A GPU with room for three images."""

        device, tried = torch.device("cpu"), []

        def encode_images(self, pixels):
            self.tried.append(len(pixels))
            if len(pixels) > 3:
                raise full
            return backbone.encode_images(pixels)

    encode, pixels = Encoder(Small()), torch.randn(10, 3, 32, 32)
    pooled, spatial = encode(pixels)
    expected = backbone.encode_images(pixels)
    torch.testing.assert_close(pooled, expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(spatial, expected[1], rtol=1e-5, atol=1e-5)
    assert "Out of GPU memory with 10 images" in caplog.text
    assert Small.tried == [10, 5, 3, 3, 3, 1]
    encode(pixels)
    assert Small.tried[6:] == [3, 3, 3, 1]


def test_memory_of_a_pass_that_did_not_fit_is_free_before_the_next(monkeypatch):
    made, free = [], []
    monkeypatch.setattr(
        torch.cpu, "empty_cache", lambda: free.append(made[-1]() is None), raising=False
    )

    class Full:
        device = torch.device("cpu")

        def encode_images(self, pixels):
            kept = pixels + 1
            made.append(weakref.ref(kept))
            if len(pixels) > 1:
                raise torch.OutOfMemoryError
            return kept, kept

    Encoder(Full())(torch.randn(4, 3))
    assert free == [True, True]


def test_other_errors_of_the_backbone_are_no_lack_of_memory(backbone):
    class Broken:
        device = torch.device("cpu")

        def encode_images(self, pixels):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        Encoder(Broken())(torch.randn(2, 3, 32, 32))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_features_are_the_same_in_any_batch_whatever_the_order_of_sums(backbone, batch_size):
    """In fp32 on a CPU; not to the bit, since the order of a matrix product's sums may differ."""
    pixels = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = backbone.encode_images(pixels)
    batches = [backbone.encode_images(batch) for batch in pixels.split(batch_size)]
    for whole, parts in zip(expected, zip(*batches, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5 * whole.abs().max())


def test_the_file_is_the_same_bit_for_bit_without_workers_with_them_and_without_shared_memory(
    backbone, manifest, images, tmp_path, monkeypatch, caplog
):
    once = extract(backbone, manifest, images, tmp_path, batch_size=7)
    assert not torch.equal(once.pooled[0], once.pooled[1])  # two views of one image
    for name in ("workers", "pipes"):
        again = extract(backbone, manifest, images, tmp_path, batch_size=7, workers=2, name=name)
        assert (tmp_path / f"{name}.parquet").read_bytes() == (
            tmp_path / "seed1.parquet"
        ).read_bytes()
        assert again.rows.equals(once.rows)
        assert (str(loading.SHARED_MEMORY) in caplog.text) == (name == "pipes")
        monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 18))
    assert f"{loading.SHARED_MEMORY} has 0 MB free, expected 1 MB" in caplog.text
    assert "--shm-size" in caplog.text


def test_workers_that_are_stuck_end_the_job_and_say_what_to_do(
    encode_test, manifest, images, tmp_path, monkeypatch
):
    stuck = images / manifest.filter(split="test")["image"][0]
    stuck.unlink()
    os.mkfifo(stuck)  # nobody will ever write into it
    monkeypatch.setattr(loading, "PATIENCE", 0.5)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.1)
    with pytest.raises(ExtractionError, match=r"(?s)timed out after 0.5 .*--set-threads"):
        encode_test(workers=1)
    assert not (tmp_path / "t").exists()


def test_a_worker_that_is_killed_ends_the_job_and_says_what_to_do(encode_test, monkeypatch):
    monkeypatch.setattr(
        loading, "open_picture", lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    )
    with pytest.raises(
        ExtractionError, match=r"(?s)stuck or gone: DataLoader worker.*--set-threads"
    ):
        encode_test(workers=1)


def test_an_error_that_is_not_the_workers_stays_what_it_is(backbone, encode_test, monkeypatch):
    def fail(*_):
        raise RuntimeError("a fault of PyTorch's")

    monkeypatch.setattr(backbone, "encode_images", fail)
    with pytest.raises(RuntimeError, match="^a fault of PyTorch's$") as error:
        encode_test(workers=1)
    assert error.type is RuntimeError


SENTENCES = {
    "class 0": ["a round shape", "it is round"],
    "class_1": ["a tall one"],
    "class 2": ["two of them", "a pair", "a pair"],
}


@pytest.mark.parametrize("with_templates", [False, True])
def test_texts_of_descriptions_are_the_unit_mean_of_each_sentences_unit_text(
    backbone, manifest_file, tmp_path, with_templates
):
    file, templates = tmp_path / "sentences.json", ["the {}", "{}!"]
    file.write_text(json.dumps(SENTENCES))
    source = asdict(Sentences(str(file), None, with_templates))
    extract_texts(
        backbone, manifest_file, templates, tmp_path / "texts-own.parquet", sentences=source
    )
    texts, metadata = read_classes(tmp_path / "texts-own.parquet")
    for label, own in enumerate(SENTENCES.values()):
        filled = [template.format(f"class {label}") for template in templates]
        vectors = [
            backbone.encode_texts([text])[0].double().numpy()
            for text in [*(filled if with_templates else []), *own]
        ]
        mean = sum(vector / np.linalg.norm(vector) for vector in vectors) / len(vectors)
        found = texts.features[label].double().numpy()
        np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=1e-6)
        raw = texts.means[label].double().numpy()
        np.testing.assert_allclose(raw, sum(vectors) / len(vectors), atol=1e-5)
        first = texts.prompts[label].double().numpy()  # as many as the class with the fewest has
        shortest = 3 if with_templates else 1
        np.testing.assert_allclose(first, vectors[:shortest], atol=1e-5)
    assert metadata["descriptions"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_sentence_that_the_text_tower_would_cut_is_refused(backbone, manifest_file, tmp_path):
    file = tmp_path / "sentences.json"
    file.write_text(json.dumps(SENTENCES | {"class_1": ["very " * 40 + "tall"]}))
    source = asdict(Sentences(str(file), None, with_templates=False))
    with pytest.raises(PromptError, match="class 'class 1': 'very very") as error:
        extract_texts(backbone, manifest_file, ["{}"], tmp_path / "t.parquet", sentences=source)
    assert "a sentence of descriptions in a file of your own" in str(error.value)
    assert not (tmp_path / "t.parquet").exists()


def test_the_whole_validation_split_is_in_the_test_view(backbone, manifest_file, images, tmp_path):
    for write, name in ((extract_validation, "val"), (extract_test, "test")):
        write(backbone, manifest_file, images, tmp_path / name, batch_size=4, workers=0)
        rows = FeatureSet([tmp_path / name]).rows
        expected = pl.read_parquet(manifest_file).filter(split=name)
        assert rows["image"].to_list() == expected["image"].to_list()
        assert rows["view"].unique().to_list() == [0]

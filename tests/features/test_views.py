"""Random views that the device makes, beside those of Pillow."""

from io import BytesIO
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from tests.backbones.test_backbone import load_custom
from tests.features.test_extract import extract
from tests.pretend import pretend_gpu
from vtclip.features import loading
from vtclip.features.loading import ExtractionError, Pictures, load_batches
from vtclip.features.views import Views

CPU, SIZE = torch.device("cpu"), 224
SIZES = [(500, 375), (300, 200), (800, 560), (640, 1000), (120, 90)]  # width and height
SMALL = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": SIZE, "patch_size": 32, "width": 128, "layers": 3, "head_width": 32,
    },
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}  # fmt: skip


def photograph(width: int, height: int) -> Image.Image:
    """Shapes of every size with noise on them, as detailed as a photograph."""
    generator, layers = np.random.default_rng(width), 0
    for cells in (3, 12, 48, max(width, height)):
        small = generator.normal(128, 400 / cells**0.6, (cells, cells, 3)).clip(0, 255)
        layer = Image.fromarray(small.astype(np.uint8)).resize((width, height))
        layers = layers + np.asarray(layer, dtype=np.float32) / 4
    file = BytesIO()
    Image.fromarray(layers.astype(np.uint8)).save(file, "JPEG")
    return Image.open(file).convert("RGB")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for number, size in enumerate(SIZES):
        photograph(*size).save(folder / f"{number}.png")
    return folder


def open_views(backbone, folder, device):
    """Five views of each photograph."""
    rows = pl.DataFrame({"image": [f"{number}.png" for number in range(len(SIZES))]})
    rows = rows.join(pl.DataFrame({"view": range(5)}), how="cross", maintain_order="left_right")
    views = Views(backbone.preprocess, SIZE, scale=(0.3, 1.0), flip=True, seed=1)
    return Pictures(rows, views, folder, device=device)


def read(pictures, batch_size=7, workers=0):
    return torch.cat([*load_batches(pictures, batch_size, workers=workers)])


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return load_custom(tmp_path_factory.mktemp("vit"), SMALL)


def test_the_device_makes_nearly_the_pixels_and_features_of_pillow(vit, photographs):
    pillow, device = (read(open_views(vit, photographs, each)) for each in (None, CPU))
    assert device.dtype == torch.uint8
    assert torch.equal(device[::5], pillow[::5]), "the test view is Pillow's"
    levels = (device.float() - pillow.float()).abs().mean(dim=(1, 2, 3)).view(-1, 5)
    shrunk = torch.tensor([min(size) > 2 * SIZE for size in SIZES])
    assert levels[~shrunk].max() < 0.1, "of 256 levels, on average over a view"
    assert levels[shrunk].max() < 1, "the picture is shrunk first"
    normalize = open_views(vit, photographs, None).transform.normalize
    features = [vit.encode_images(normalize(views))[0].float() for views in (pillow, device)]
    assert torch.cosine_similarity(*features).min() > 0.999


@pytest.mark.parametrize("size", SIZES)
def test_boxes_and_mirroring_are_pillows_to_a_pixel_of_the_shrunk_picture(vit, size):
    views, picture = Views(vit.preprocess, SIZE, scale=(0.3, 1.0), flip=True), photograph(*size)
    pixels, crops = views.leave(picture, "a.jpg", range(1, 40))
    height, width, _ = pixels.shape
    assert min(height, width) <= 2 * SIZE
    for view, crop in enumerate(crops, start=1):
        drawn = views.draw(picture, "a.jpg", view)
        assert crop.mirrored == drawn.mirrored
        factors = np.array([height / size[1], width / size[0]] * 2)
        assert np.abs(np.array(crop[:4]) - np.array(drawn[:4]) * factors).max() < 2
        assert min(crop[:4]) >= 0 < min(crop.height, crop.width)
        assert crop.top + crop.height <= height
        assert crop.left + crop.width <= width
    assert {crop.mirrored for crop in crops} == {True, False}


@pytest.mark.parametrize("free", [0, 1 << 40])
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (64, 2)])
def test_the_devices_views_are_the_same_bit_for_bit_in_any_batch_any_worker_and_any_memory(
    vit, photographs, batch_size, workers, free, monkeypatch
):
    pictures = open_views(vit, photographs, CPU)
    expected = read(pictures)
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert torch.equal(read(pictures, batch_size, workers), expected)


def test_unreadable_pictures_are_named_if_the_device_makes_the_views(vit, tmp_path):
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(ExtractionError, match=r"(?s)5 images .*0\.png: the file is empty"):
        read(open_views(vit, tmp_path, CPU))


def test_the_metadata_say_that_the_device_made_the_views_and_the_default_stays_as_it_was(
    backbone, manifest, images, tmp_path
):
    plain, named, device = (
        extract(backbone, manifest, images, tmp_path, name=f"{number}", **views)
        for number, views in enumerate([{}, {"made_on": "cpu"}, {"made_on": "device"}])
    )
    assert (tmp_path / "0.parquet").read_bytes() == (tmp_path / "1.parquet").read_bytes()
    assert "made_on" not in plain.metadata
    assert device.metadata == named.metadata | {"made_on": "device"}
    assert device.rows.equals(plain.rows)
    test = torch.from_numpy((plain.rows["view"] == 0).to_numpy())
    torch.testing.assert_close(device.pooled[test], plain.pooled[test], rtol=1e-3, atol=1e-3)
    assert not torch.equal(device.pooled[~test], plain.pooled[~test])


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
def test_a_gpu_makes_the_views_of_the_pictures_that_are_sent_to_it(vit, photographs):
    expected = read(open_views(vit, photographs, CPU))
    with pretend_gpu() as gpu:
        found = read(open_views(vit, photographs, gpu), workers=1)
        assert found.is_cuda
        found = found.cpu()
    assert (found.int() - expected.int()).abs().max() <= 1, "PyTorch's floats are rounded once"

from types import SimpleNamespace

import polars as pl
import pytest
import torch

from vtclip.features import extract as loading
from vtclip.features.extract import Pictures, load_batches
from vtclip.features.views import Views


@pytest.fixture
def pictures(backbone, manifest, images) -> Pictures:
    """A random view of each of 18 images."""
    rows = manifest.filter(split="train").with_columns(view=pl.lit(1))
    return Pictures(
        rows, Views(backbone.preprocess, 32, scale=(0.5, 1.0), flip=True, seed=1), images
    )


def collect(pictures: Pictures, batch_size: int, workers: int) -> torch.Tensor:
    batches = load_batches(pictures, batch_size, workers=workers, pin_memory=False)
    return torch.cat([pixels for pixels, _ in batches])


@pytest.mark.parametrize("free", [0, 1 << 40])
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (7, 2), (64, 2)])
def test_pixels_are_the_same_bit_for_bit_in_any_batch_any_worker_and_any_memory(
    pictures, batch_size, workers, free, monkeypatch
):
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    expected = torch.stack([pictures[row] for row in range(len(pictures))])
    assert torch.equal(collect(pictures, batch_size, workers), expected)


@pytest.mark.parametrize("free", [0, 1 << 40])
def test_unreadable_pictures_are_named_with_and_without_shared_memory(pictures, free, monkeypatch):
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    (pictures.images / pictures.names[1]).unlink()
    batches = [*load_batches(pictures, 9, workers=1, pin_memory=False)]
    assert [pixels is None for pixels, _ in batches] == [True, False]
    assert batches[0][1] == [f"{pictures.images / pictures.names[1]}: there is no such file"]


@pytest.mark.parametrize(
    ("workers", "free", "road"),
    [
        (0, 0, True),  # nothing goes from one process to another
        (1, 64 << 20, False),  # a container's: a batch of 64 at 224 pixels has 37 MB
        (8, 2 << 30, False),
        (8, 3 << 30, True),
    ],
)
def test_shared_memory_is_used_where_it_holds_what_four_jobs_need(workers, free, road, monkeypatch):
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert loading._has_room(workers, 64 * 3 * 224 * 224 * 4) == road


def test_a_machine_without_dev_shm_is_left_to_pytorch(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "SHARED_MEMORY", tmp_path / "none")
    assert loading._has_room(8, 1 << 40)

import os
import subprocess
import sys
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.feature_files import read_features
from tests.project import ROOT
from vtclip.features import loading
from vtclip.features.extract import extract_test
from vtclip.features.loading import ExtractionError, Pictures, load_batches
from vtclip.features.views import Views
from vtclip.parquet import write_parquet


@pytest.fixture
def pictures(backbone, manifest, images) -> Pictures:
    """Three views of each of 18 images."""
    rows = manifest.filter(split="train").join(pl.DataFrame({"view": range(3)}), how="cross")
    return Pictures(
        rows, Views(backbone.preprocess, 32, scale=(0.5, 1.0), flip=True, seed=1), images
    )


def collect(pictures: Pictures, batch_size: int, workers: int) -> torch.Tensor:
    batches = [*load_batches(pictures, batch_size, workers=workers)]
    assert all(len(batch) == batch_size for batch in batches[:-1])
    return torch.cat(batches)


@pytest.mark.parametrize("free", [0, 1 << 40])
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (7, 2), (64, 2)])
def test_pixels_are_the_same_bit_for_bit_in_any_batch_any_worker_and_any_memory(
    pictures, batch_size, workers, free, monkeypatch
):
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    expected = torch.cat([pictures[row].views for row in range(len(pictures))])
    assert torch.equal(collect(pictures, batch_size, workers), expected)


@pytest.mark.parametrize("free", [0, 1 << 40])
def test_unreadable_pictures_are_named_with_and_without_shared_memory(pictures, free, monkeypatch):
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    missing = pictures.images / pictures.views[1][0]
    missing.unlink()
    with pytest.raises(ExtractionError, match=f"(?s)1 image .*{missing}: there is no such file"):
        collect(pictures, 9, workers=1)


def test_views_go_from_process_to_process_as_bytes(pictures):
    (views, rest), _, _ = loading._join([pictures[0], pictures[1]], shares=True)
    assert (views.dtype, views.shape) == (torch.uint8, (6, 32, 32, 3))
    assert rest.numel() == 0


def test_a_picture_of_very_many_pixels_is_named_once_and_its_views_do_not_warn(
    pictures, monkeypatch, caplog, recwarn
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1100)  # of 2,000; half and more is cut
    pictures[0]
    assert f"{pictures.images / pictures.views[0][0]}: 50 x 40 pixels" in caplog.text
    assert not recwarn.list


@pytest.mark.parametrize(
    ("workers", "free", "road"),
    [
        (0, 0, True),  # nothing goes from one process to another
        (1, 64 << 20, False),  # a container's: a batch of 64 at 224 pixels has 9 MB
        (8, 1 << 29, False),
        (8, 1 << 30, True),
    ],
)
def test_shared_memory_is_used_where_it_holds_what_four_jobs_need(workers, free, road, monkeypatch):
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert loading._has_room(workers, 64 * 3 * 224 * 224) == road


def test_a_machine_without_dev_shm_is_left_to_pytorch(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "SHARED_MEMORY", tmp_path / "none")
    assert loading._has_room(8, 1 << 40)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_that_are_not_forked_decode_and_never_run_the_jobs_script_again(
    method, backbone, manifest, images, tmp_path
):
    write_parquet(tmp_path / "manifest.parquet", manifest)
    weights = {name: each.contiguous() for name, each in backbone.model.state_dict().items()}
    save_file(weights, tmp_path / "weights.safetensors")
    bridge = ROOT / "workflow" / "scripts" / "extract_test.py"
    script = tmp_path / "tmpabc.extract_test.py"
    script.write_text(
        PREAMBLE.format(method=method, root=ROOT, folder=tmp_path, bridge=bridge)
        + bridge.read_text()
    )
    command = [sys.executable, script]
    subprocess.run(command, check=True, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)})
    found = read_features(tmp_path / "test.parquet")
    extract_test(
        backbone, tmp_path / "manifest.parquet", images, tmp_path / "here", batch_size=64, workers=0
    )
    here = read_features(tmp_path / "here").pooled
    # The job computes with two threads: of some random weights a half's last bit differs.
    torch.testing.assert_close(found.pooled, here, rtol=1e-3, atol=1e-3)


# As Snakemake's: `snakemake` is a global of the copy of a script that runs, which takes the
# script's own name.
PREAMBLE = """
import multiprocessing
import os
import subprocess
import sys
from types import SimpleNamespace
multiprocessing.set_start_method("{method}")
snakemake = SimpleNamespace(
    log=["{folder}/log"],
    threads=2,
    config=dict(device="cpu", slots_per_gpu=1),
    input=SimpleNamespace(
        weights="{folder}/weights.safetensors", manifest="{folder}/manifest.parquet"
    ),
    output=SimpleNamespace(features="{folder}/test.parquet"),
    params=SimpleNamespace(
        backbone=dict(
            name="glyph-clip", architecture="{root}/config/backbones/glyph-clip.json"
        ),
        images="{folder}/images", shard=(1, 1), exif="ignore",
    ),
)
__file__ = "{bridge}"
"""

"""The whole package on a pretend GPU: it computes the CPU's bits, and nothing is left behind.

Half precision is off there, as on a GPU from before 2020: the CPU's own stands for a newer one's.
"""

import json
import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from polars.testing import assert_frame_equal
from safetensors.torch import load_file

from tests.feature_files import read_features
from tests.methods.short import short_settings
from tests.pretend import pretend_gpu
from tests.project import ROOT
from vtclip.backbones.backbone import load_backbone
from vtclip.backbones.prompts import TextTower
from vtclip.data.layouts import IDENTITIES, SCHEMA
from vtclip.data.shots import sample_shots
from vtclip.features.extract import extract_shots, extract_test, extract_texts
from vtclip.features.texts import read_texts
from vtclip.methods import METHODS
from vtclip.nn.towers import Towers
from vtclip.parquet import read_parquet, write_parquet
from vtclip.training.predict import Trained, TrainedHead, predict_test
from vtclip.training.tasks import Sources
from vtclip.training.train import train_head

NAMES = ["ant", "polar_bear", "cow"]
CPU = torch.device("cpu")
KINDS = ("cuda", "cpu")


REFUSED = {
    "a tensor that was left on the CPU": lambda gpu: torch.ones(2, device=gpu) + torch.ones(2),
    "rows that are indexed from the wrong side": lambda gpu: torch.ones(2)[
        torch.zeros(1, dtype=torch.int64, device=gpu)
    ],
    "a generator of the CPU": lambda gpu: torch.rand(2, device=gpu, generator=torch.Generator()),
    "a missing .cpu()": lambda gpu: torch.ones(2, device=gpu).numpy(),
    "a result from the CPU in the place of one on the GPU": lambda gpu: torch.zeros(
        2, device=gpu
    ).index_put_((torch.tensor([0]),), torch.ones(1)),
    "a gradient of tensors apart": lambda gpu: (
        torch.ones(2, 2, device=gpu, requires_grad=True) @ torch.ones(2)
    ).backward(torch.ones(2)),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_the_pretend_gpu_refuses_what_a_gpu_refuses(fault):
    with pretend_gpu() as gpu, pytest.raises((RuntimeError, TypeError), match="cuda|cpu"):
        REFUSED[fault](gpu)


def test_the_pretend_gpu_takes_what_a_gpu_takes():
    with pretend_gpu() as gpu:
        table = torch.arange(6.0, device=gpu).view(3, 2)
        rows = torch.tensor([2, 0])
        assert table[rows].device.type == table[rows.to(gpu)].device.type == "cuda"
        assert (table * torch.tensor(2.0)).cpu()[rows].tolist() == [[8, 10], [0, 2]]
        assert table.sum().item() == 15
        assert torch.nn.Linear(2, 2).to(gpu).weight.is_cuda


def test_apples_gpu_refuses_double_precision():
    with pretend_gpu("mps") as gpu, pytest.raises(TypeError, match="float64"):
        torch.ones(2, device=gpu).double()


def load(device):
    return load_backbone(
        "glyph-clip", pretrained=None, device=device,
        architecture=ROOT / "config/backbones/glyph-clip.json",
    )  # fmt: skip


def extract(folder: Path, device: torch.device, *, workers: int) -> None:
    """Texts, features of the shots and of the test images, into a folder beside the images."""
    torch.manual_seed(0)
    backbone, made, images = load(device), folder / device.type, folder / "images"
    made.mkdir()
    extract_texts(backbone, folder / "manifest.parquet", ["a {}."], made / "texts.parquet")
    extract_shots(
        backbone, folder / "shots.parquet", images, made / "shots.parquet", number=1,
        scale=(0.5, 1.0), flip=True, seed=1, batch_size=8, workers=workers,
    )  # fmt: skip
    extract_test(
        backbone, folder / "manifest.parquet", images, made / "test.parquet", batch_size=4,
        workers=workers,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A dataset of three classes, with the features that the CPU makes."""
    folder = tmp_path_factory.mktemp("dataset")
    generator, rows = np.random.default_rng(0), []
    for split, size in (("train", 4), ("val", 2), ("test", 2)):
        for label, name in enumerate(NAMES):
            for number in range(size):
                rows.append((f"{split}-{name}-{number}.png", label, name, split))
    (folder / "images").mkdir()
    for image, *_ in rows:
        pixels = generator.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / image)
    manifest = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    identities = {IDENTITIES: json.dumps(NAMES).encode()}
    write_parquet(folder / "manifest.parquet", manifest, identities)
    write_parquet(folder / "shots.parquet", sample_shots(manifest, shots=2, seed=1))
    extract(folder, CPU, workers=0)
    return folder


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
def test_extraction_with_workers_gives_the_cpus_features(folder):
    with pretend_gpu() as gpu:
        extract(folder, gpu, workers=1)
    for name in ("shots", "test"):
        found, expected = (read_features(folder / kind / f"{name}.parquet") for kind in KINDS)
        assert found.rows.equals(expected.rows)
        assert found.metadata == expected.metadata | {"device_kind": "cuda"}
        # TensorFloat-32 on a GPU changes a number's last half-precision bit on some CPUs.
        for part in ("pooled", "spatial"):
            torch.testing.assert_close(
                getattr(found, part), getattr(expected, part), rtol=2e-3, atol=2e-3
            )
    found, expected = (read_texts(folder / kind / "texts.parquet")[0] for kind in KINDS)
    torch.testing.assert_close(found, expected)


def fit_and_predict(name, folder, made, device, *, trained=None):
    """A head and its predictions, in a folder; of a dataset that is or is not the trained one."""
    torch.manual_seed(0)
    kind, settings = METHODS[name], short_settings(name).model_dump(mode="json")
    tower_of = Towers if kind.reads_images else TextTower
    tower = tower_of(load(device)) if kind.reads_text_tower else None
    projection = (torch.eye(64), torch.zeros(64)) if kind.reads_projection else None
    features, run, shots = folder / "cpu", made / device.type, 2 if kind.few_shot else 0
    fits_on = device if kind.on_gpu else CPU  # as the plan gives a job its device
    images = str(folder / "images")
    reads_features = kind.few_shot and not kind.reads_images
    train_head(
        name, settings,
        Sources(
            features / "texts.parquet", [features / "shots.parquet"] if reads_features else [],
            sample=folder / "shots.parquet" if kind.reads_images else None, images=images,
            tower=tower, projection=projection,
        ),
        run, shots=shots, seed=1, device=fits_on,
    )  # fmt: skip
    predict_test(
        name, settings, features / "texts.parquet",
        [TrainedHead(shots, 1, run / "head.safetensors")], [features / "test.parquet"],
        run / "predictions.parquet", device=device, images=images,
        manifest=folder / "manifest.parquet", trained=trained, tower=tower,
    )  # fmt: skip
    return load_file(run / "head.safetensors"), read_parquet(run / "predictions.parquet")


def assert_equal_to_the_cpus(name, folder, made, gpu, **options):
    expected, predicted = fit_and_predict(name, folder, made, CPU, **options)
    with gpu as device:
        head, predictions = fit_and_predict(name, folder, made, device, **options)
    assert head.keys() == expected.keys()
    for tensor in head:
        torch.testing.assert_close(head[tensor], expected[tensor], rtol=1e-4, atol=1e-5)
    assert_frame_equal(predictions, predicted, abs_tol=1e-4)


@pytest.mark.parametrize("kind", ["cuda", "mps"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_fits_scores_and_predicts_as_on_the_cpu(name, kind, folder, tmp_path):
    assert_equal_to_the_cpus(name, folder, tmp_path, pretend_gpu(kind))


def test_vt_clip_reads_from_main_memory_what_a_small_gpu_has_no_room_for(folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert_equal_to_the_cpus("vt_clip", folder, tmp_path, pretend_gpu(free=10_000))
    assert "Streaming" in caplog.text


HALVED = [name for name, kind in METHODS.items() if kind.gpu_precision == "bfloat16"]


@pytest.mark.parametrize("name", HALVED)
def test_a_method_of_half_precision_predicts_in_it_nearly_as_in_float32(
    name, folder, tmp_path, monkeypatch
):
    head, predicted = fit_and_predict(name, folder, tmp_path / "float", CPU)
    for module in ("runtime.devices", "backbones.prompts", "training.train"):
        monkeypatch.setattr(f"vtclip.{module}.has_bfloat16", lambda _: True)
    halved, predictions = fit_and_predict(name, folder, tmp_path / "half", CPU)
    assert any(not torch.equal(halved[tensor], head[tensor]) for tensor in head)
    assert {tensor.dtype for tensor in halved.values()} == {
        tensor.dtype for tensor in head.values()
    }
    assert_frame_equal(
        predictions.select("confidence"), predicted.select("confidence"), abs_tol=0.02
    )


@pytest.mark.parametrize(
    "name",
    ["clip_lora", "cocoop", "coop", "linear_probe", "prograd", "tip_adapter", "vt_clip"],
)
def test_a_method_predicts_on_another_dataset_as_on_the_cpu(name, folder, tmp_path):
    other = Trained("other", folder / "cpu/texts.parquet", folder / "manifest.parquet")
    assert_equal_to_the_cpus(name, folder, tmp_path, pretend_gpu(), trained=other)

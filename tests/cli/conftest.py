"""Runs of small heads with random weights, as the workflow leaves them on disk."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.project import ROOT
from vtclip.backbones.backbone import load_backbone
from vtclip.config.experiment import save_config
from vtclip.features.extract import describe
from vtclip.features.texts import write_texts
from vtclip.files import (
    measure,
    read_record,
    sha256_of,
    write_receipt,
    write_record,
)
from vtclip.methods import METHODS
from vtclip.nn.towers import Towers
from vtclip.task import Prompts, Samples, Task, Texts
from vtclip.training.calibration import Calibration

NAMES = ["<script>alert(1)</script>", "a & b", "cow"]
TEMPLATES = ["a {}"]
ARCHITECTURE = "config/backbones/glyph-clip.json"
WEIGHTS = "resources/backbones/glyph-clip-mine.safetensors"


def save_weights(path: Path, seed: int) -> None:
    """Random weights of the small CLIP, as `fetch_backbone` writes them."""
    torch.manual_seed(seed)
    model = load_backbone("glyph-clip", pretrained=None, architecture=ROOT / ARCHITECTURE).model
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(weights, path, metadata={"backbone": "glyph-clip", "pretrained": "mine.pt"})
    write_receipt(path)


def save_run(folder: Path, method: str, texts: Texts, origin: dict, *, shots: int) -> None:
    """A head of a method that has learned from one random image a class."""
    torch.manual_seed(1)
    short = {"words": "a"} if METHODS[method].reads_text_tower else {}  # the first name is long
    if METHODS[method].reads_images:
        short = {"template": TEMPLATES[0]}
    chosen = METHODS[method](METHODS[method].settings_type(**short))
    labels = torch.arange(3)
    seen = Samples(torch.randn(3, 1, 64), torch.randn(3, 1, 17, 64), labels)
    head = chosen.initial_head(Task(texts, seen, seen, 1, texts.made_of))
    if method in ("vt_clip", "clip_lora"):  # as if it had been trained
        head = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in head.items()}
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in head.items()},
              folder / "head.safetensors")  # fmt: skip
    record = {
        "method": method, "settings": chosen.settings.model_dump(mode="json"), "shots": shots,
        "seed": 1, "classes": 3, "features": origin,
    }  # fmt: skip
    write_record(folder / "run.json", measure(folder / "head.safetensors") | record)


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with five runs of the experiment `mine`; not to be changed."""
    root = tmp_path_factory.mktemp("made")
    save_weights(root / WEIGHTS, seed=0)
    backbone = load_backbone(
        "glyph-clip", pretrained=str(root / WEIGHTS), architecture=ROOT / ARCHITECTURE
    )
    features = backbone.encode_classes(NAMES, TEMPLATES)
    origin = describe(backbone) | {"weights_sha256": sha256_of(root / WEIGHTS)}
    texts = root / "results/features/glyph-clip-mine/pets/texts.parquet"
    texts.parent.mkdir(parents=True)
    write_texts(texts, NAMES, features, origin | {"templates": TEMPLATES})
    experiment = {
        "name": "mine", "datasets": ["pets"], "shots": [1], "seeds": [1],
        "methods": {"vt_clip": {}},
        "backbone": {"name": "glyph-clip", "pretrained": "mine.pt", "architecture": ARCHITECTURE},
    }  # fmt: skip
    save_config(experiment, root / "results/mine/config.yaml")
    keys = ("backbone", "pretrained", "weights_sha256", "spatial", "precision")
    made_with = json.loads(json.dumps({key: origin[key] for key in keys}))
    heads = root / "results/mine/heads/glyph-clip-mine/pets"
    prompts = Prompts(NAMES, Towers(backbone))
    runs = {"zero_shot": 0, "linear_probe": 1, "vt_clip": 1, "cocoop": 1, "clip_lora": 1}
    for method, shots in runs.items():
        run = f"{shots}shot-seed{1 if shots else 0}"
        read = Texts(features, backbone.logit_scale, made_of=prompts)
        save_run(heads / method / run, method, read, made_with, shots=shots)
    for number in range(3):
        Image.new("RGB", (40, 30), (80 * number, 10, 90)).save(root / f"{number}.png")
    return root


def _copy(source: str, target: str) -> None:
    if source.endswith(WEIGHTS):  # 15 MB, for a hundred tests
        Path(target).hardlink_to(source)
    else:
        shutil.copy2(source, target)


@pytest.fixture
def here(made, tmp_path, monkeypatch) -> Path:
    """A copy of it, as the working directory; its weights, not to be changed, are linked."""
    folder = tmp_path / "here"
    shutil.copytree(made, folder, copy_function=_copy)
    monkeypatch.chdir(folder)
    return folder


def add_calibration(run: Path, images: int = 40) -> None:
    """Give a head a calibration on random logits and distances, as training leaves it."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(images) % 3
    fitted = Calibration.fit(
        torch.randn(images, 3, generator=generator),
        labels,
        torch.rand(images, generator=generator) + 0.5,
        torch.nn.functional.normalize(torch.randn(3, 64, generator=generator)),
    )
    file = run / "head.safetensors"
    save_file(load_file(file) | fitted.tensors(), file)
    write_record(run / "run.json", read_record(run / "run.json") | measure(file))

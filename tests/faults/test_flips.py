"""A flipped bit in a finished file gives the same result, or an error that names the file."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml

from tests.faults.conftest import CLIP, CONFIG, WEIGHTS, Broken
from vtclip.backbones.backbone import load_backbone
from vtclip.config.dataset import Dataset
from vtclip.data.manifest import prepare_manifest
from vtclip.data.shots import sample_shots
from vtclip.features.store import FeatureSet, read_metadata
from vtclip.files import read_record
from vtclip.inference.runs import read_saved
from vtclip.inference.saved import Saved, write_saved
from vtclip.inference.saved import read_weights as read_weights_of
from vtclip.parquet import read_parquet, read_table
from vtclip.results.tables import read_accuracies
from vtclip.training.predict import TrainedHead, predict_test

pytestmark = pytest.mark.workflow

FEATURES = f"results/features/{CLIP}/shapes"
DATASET = "config/datasets/shapes.yaml"
HEAD = f"results/broken/heads/{CLIP}/shapes/vt_clip/2shot-seed1"
PREDICTIONS = f"results/broken/predictions/{CLIP}/shapes/vt_clip/shapes.parquet"


def predict(folder: Path) -> list:
    """Predictions from manifest, texts, test features and a head."""
    destination = folder / "again.parquet"
    predict_test(
        "vt_clip", read_record(folder / HEAD / "run.json")["settings"],
        folder / FEATURES / "texts.parquet",
        [TrainedHead(2, 1, folder / HEAD / "head.safetensors")],
        [folder / FEATURES / "test.parquet"], destination, device=torch.device("cpu"),
        manifest=folder / "results/manifests/shapes.parquet",
    )  # fmt: skip
    return pl.read_parquet(destination).rows()


def read_feature_file(path: Path) -> list:
    found = FeatureSet([path])
    batch = found.take(range(len(found)))
    assert batch.spatial is not None
    return [batch.rows.rows(), batch.pooled.tolist(), batch.spatial.tolist(), read_metadata(path)]


def read_weights(folder: Path) -> list:
    backbone = load_backbone(
        "glyph-clip", pretrained=str(folder / f"{WEIGHTS}.safetensors"),
        architecture=folder / "config/backbones/glyph-clip.json",
    )  # fmt: skip
    with torch.inference_mode():
        return [value.double().sum().item() for value in backbone.model.state_dict().values()]


def read_sample(folder: Path) -> list:
    manifest = read_parquet(folder / "results/manifests/shapes.parquet")
    return sample_shots(manifest, shots=2, seed=1).rows()


def read_run(folder: Path) -> list:
    """Everything that is known of a head, and its tensors."""
    return describe_saved(read_saved(folder / HEAD))


def describe_saved(saved: Saved) -> list:
    tensors = {name: tensor.tolist() for name, tensor in saved.head.items()}
    return [saved.description.model_dump_json(), tensors, saved.texts.tolist()]


def read_exported(file: str) -> Callable[[Path], list]:
    def read(folder: Path) -> list:
        saved = read_saved(folder / file)
        weights = read_weights_of(saved) if saved.has_backbone else {}
        sums = {name: value.double().sum().item() for name, value in weights.items()}
        return [*describe_saved(saved), sums]

    return read


def read_images(folder: Path) -> list:
    dataset = Dataset.model_validate(yaml.safe_load((folder / DATASET).read_text()))
    images = folder / "resources/images/shapes"
    prepare_manifest(
        dataset.model_dump(mode="json"), images, folder / "again.parquet",
        receipt=images.with_suffix(".json"),
    )  # fmt: skip
    metadata = read_table(folder / "again.parquet").schema.metadata
    return [read_parquet(folder / "again.parquet").rows(), metadata[b"images_sha256"]]


# A finished file -> its reader, and thus what is compared.
READERS = {
    "results/broken/config.yaml": read_run,
    "results/broken/config.json": read_run,
    "resources/images/shapes.json": read_images,
    "resources/images/shapes/split.json": read_images,
    "results/manifests/shapes.parquet": read_sample,
    "results/shots/shapes/2shot-seed1.parquet": lambda folder: read_parquet(
        folder / "results/shots/shapes/2shot-seed1.parquet"
    ).rows(),
    f"{WEIGHTS}.safetensors": read_weights,
    f"{FEATURES}/texts.parquet": predict,
    f"{FEATURES}/test.parquet": predict,
    f"{FEATURES}/1crops-0.5-1.0-flip/2shot-seed1.parquet": lambda folder: read_feature_file(
        folder / FEATURES / "1crops-0.5-1.0-flip/2shot-seed1.parquet"
    ),
    f"{HEAD}/head.safetensors": predict,
    f"{HEAD}/run.json": predict,
    PREDICTIONS: lambda folder: read_accuracies(folder / PREDICTIONS).rows(),
    "results/broken/tables/results.parquet": lambda folder: read_parquet(
        folder / "results/broken/tables/results.parquet"
    ).rows(),
}


# Files that `vtclip export` writes, and no rule.
EXPORTED = {
    "exported.safetensors": read_exported("exported.safetensors"),
    "whole.safetensors": read_exported("whole.safetensors"),
}


@pytest.fixture
def exported(broken) -> Broken:
    """A copy of the finished experiment with its exported files."""
    saved = read_saved(broken.folder / HEAD)
    for file in EXPORTED:
        write_saved(saved, broken.folder / file, with_backbone=file.startswith("whole"))
    return broken


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(30, marks=pytest.mark.slow),
        pytest.param(200, marks=pytest.mark.faults),
    ],
)
def test_a_flipped_bit_is_an_error_that_names_the_file_or_has_no_effect(exported, tally, number):
    draw, expected, readers = random.Random(number), {}, READERS | EXPORTED
    for turn in range(number):
        file = list(readers)[turn % len(readers)]
        path = exported.folder / file
        if file not in expected:
            expected[file] = readers[file](exported.folder)
        place = draw.randrange(8 * path.stat().st_size)
        flip(path, place)
        try:
            found, refusal = readers[file](exported.folder), None
        except Exception as error:  # which one is for the assertion below
            refusal = str(error)
        flip(path, place)
        if refusal is None:
            assert found == expected[file], f"bit {place} of {file} gave another result"
        else:
            named = Path(file).name in refusal or Path(file).with_suffix(".json").name in refusal
            assert named, f"bit {place} of {file}: {refusal}"
        tally[f"a flipped bit in {Path(file).name}", "refused" if refusal else "no effect"] += 1


@pytest.mark.slow
def test_a_file_cut_short_is_refused_by_name(exported, tally):
    for file, read in (READERS | EXPORTED).items():
        path = exported.folder / file
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(Exception, match=Path(file).name):
            read(exported.folder)
        path.write_bytes(content)
        tally["a file cut short", "refused"] += 1


@pytest.mark.faults
@pytest.mark.parametrize("file", READERS)
def test_deleting_a_damaged_file_and_running_again_repairs_it(broken, undisturbed, tally, file):
    path = broken.folder / file
    flip(path, 4 * path.stat().st_size)
    with pytest.raises(Exception, match="Delete") as error:
        READERS[file](broken.folder)
    named = re.search(r"Delete (it|\S+) and", str(error.value))
    assert named is not None
    Path(str(path) if named[1] == "it" else named[1]).unlink()
    broken.run()
    assert broken.tables() == undisturbed.tables()
    assert broken.heads() == undisturbed.heads()
    tally["a damaged file deleted", "repaired by the next run"] += 1


@pytest.mark.faults
def test_deleting_a_damaged_archive_and_its_receipt_repairs_the_images(broken, tally):
    archive = broken.folder / "resources/archives/shapes/shapes.zip"
    images = broken.folder / "resources/images/shapes"
    archive.write_bytes(archive.read_bytes()[:-100])
    receipt = "resources/images/shapes.json"
    (broken.folder / receipt).unlink()
    said = broken.project.snakemake(receipt, config=[CONFIG]).stdout
    assert "Delete it and shapes.zip.json beside it" in said
    archive.unlink()
    archive.with_name("shapes.zip.json").unlink()
    broken.project.run(receipt, config=[CONFIG])
    assert len(list(images.rglob("*.png"))) == 60
    tally["a damaged archive deleted", "repaired by the next run"] += 1

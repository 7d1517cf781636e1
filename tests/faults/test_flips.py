"""A flipped bit in a finished file gives the same result, or an error that names the file."""

import random
from pathlib import Path

import polars as pl
import pytest
import torch

from tests.faults.conftest import CLIP, CONFIG, WEIGHTS
from vtclip.backbones.backbone import load_backbone
from vtclip.data.shots import sample_shots
from vtclip.features.store import FeatureSet, read_metadata
from vtclip.files import read_record
from vtclip.parquet import read_parquet
from vtclip.results.tables import read_accuracies
from vtclip.training.predict import TrainedHead, predict_test

pytestmark = pytest.mark.workflow

FEATURES = f"results/features/{CLIP}/shapes"
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


# A finished file -> its reader, and thus what is compared.
READERS = {
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
def test_a_flipped_bit_is_an_error_that_names_the_file_or_has_no_effect(broken, tally, number):
    draw, expected = random.Random(number), {}
    for turn in range(number):
        file = list(READERS)[turn % len(READERS)]
        path = broken.folder / file
        if file not in expected:
            expected[file] = READERS[file](broken.folder)
        place = draw.randrange(8 * path.stat().st_size)
        flip(path, place)
        try:
            found, refusal = READERS[file](broken.folder), None
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
def test_a_file_cut_short_is_refused_by_name(broken, tally):
    for file, read in READERS.items():
        path = broken.folder / file
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(Exception, match=Path(file).name):
            read(broken.folder)
        path.write_bytes(content)
        tally["a file cut short", "refused"] += 1


@pytest.mark.faults
@pytest.mark.parametrize("file", READERS)
def test_deleting_a_damaged_file_and_running_again_repairs_it(broken, undisturbed, tally, file):
    path = broken.folder / file
    flip(path, 4 * path.stat().st_size)
    with pytest.raises(Exception, match="Delete it"):
        READERS[file](broken.folder)
    path.unlink()
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

"""Every path of the workflow is written once, and names what decides its content."""

from pathlib import Path

import pytest

from vtclip import paths
from vtclip.paths import (
    PROJECT,
    ExperimentPaths,
    find_config,
    find_own,
    receipt_of,
    receipts_of,
    record_of,
)

GLYPH_CLIP = "config/backbones/glyph-clip.json"
FILES = {
    "dataset": "digits", "file": "a.tar.gz", "weights": "RN50-openai",
    "backbone": "RN50-openai-raw", "views": "4crops-0.5-1.0-flip", "part": "test-2of5",
    "shots": 16, "seed": 1, "method": "vt_clip", "tested": "letters", "texts": "texts-cupl",
}  # fmt: skip


def test_shared_files_lie_where_the_design_says():
    assert {
        name: getattr(paths, name).format(**FILES)
        for name in (
            "ARCHIVE", "ARCHIVE_RECEIPT", "IMAGES", "IMAGES_RECEIPT", "WEIGHTS",
            "MANIFEST", "SHOTS", "TEXTS", "TEST_FEATURES", "SHOT_FEATURES",
        )
    } == {
        "ARCHIVE": "resources/archives/digits/a.tar.gz",
        "ARCHIVE_RECEIPT": "resources/archives/digits/a.tar.gz.json",
        "IMAGES": "resources/images/digits",
        "IMAGES_RECEIPT": "resources/images/digits.json",
        "WEIGHTS": "resources/backbones/RN50-openai.safetensors",
        "MANIFEST": "results/manifests/digits.parquet",
        "SHOTS": "results/shots/digits/16shot-seed1.parquet",
        "TEXTS": "results/features/RN50-openai-raw/digits/texts-cupl.parquet",
        "TEST_FEATURES": "results/features/RN50-openai-raw/digits/test-2of5.parquet",
        "SHOT_FEATURES": (
            "results/features/RN50-openai-raw/digits/4crops-0.5-1.0-flip/16shot-seed1.parquet"
        ),
    }  # fmt: skip


def test_an_experiments_own_files_lie_in_its_folder():
    mine = ExperimentPaths("mine")
    run = "RN50-openai-raw/digits/vt_clip"
    assert mine.config == "results/mine/config.yaml"
    head = mine.head.format(**FILES)
    assert head == f"results/mine/heads/{run}/16shot-seed1/head.safetensors"
    assert mine.predictions.format(**FILES) == f"results/mine/predictions/{run}/letters.parquet"
    assert mine.table("results", "csv", "md") == [
        "results/mine/tables/results.csv", "results/mine/tables/results.md",
    ]  # fmt: skip
    assert mine.figure("cost") == ["results/mine/figures/cost.svg", "results/mine/figures/cost.png"]


def test_no_experiment_can_be_called_as_a_folder_that_all_share():
    patterns = [value for value in vars(paths).values() if isinstance(value, str)]
    used = {pattern.split("/")[1] for pattern in patterns if pattern.startswith("results/")}
    assert used | {"benchmarks"} == set(paths.SHARED)


def test_a_receipt_lies_beside_its_file_and_a_heads_record_is_its_receipt():
    assert receipt_of("results/manifests/digits.parquet") == "results/manifests/digits.json"
    assert receipt_of(Path("a/my.v2.safetensors")) == "a/my.v2.json"
    head = ExperimentPaths("mine").head
    assert receipt_of(head) == record_of(head) == f"{Path(head).parent}/run.json"
    assert paths.history_of(head) == f"{Path(head).parent}/history.parquet"
    log = "logs/train_head/mine/RN50-openai-raw/digits/vt_clip/16shot-seed1.log"
    assert paths.log_of(head).format(**FILES) == log


def test_the_receipts_of_inputs_are_in_their_order_groups_too():
    files = "t.parquet", ["a.parquet", "b.parquet"], []
    assert receipts_of(*files) == ["t.json", "a.json", "b.json"]


@pytest.mark.parametrize(("shots", "written"), [(0, 0), (16, 16), (paths.ALL, "all")])
def test_all_shots_are_written_as_all_and_read_back(shots, written):
    assert paths.format_shots(shots) == written
    assert paths.parse_shots(written) == paths.parse_shots(str(written)) == shots
    assert paths.RUN.format(shots=paths.format_shots(shots), seed=1) == f"{written}shot-seed1"


@pytest.mark.parametrize("path", [GLYPH_CLIP, paths.PUBLISHED, paths.DATASETS])
def test_the_projects_own_files_are_found_from_another_working_directory(
    tmp_path, monkeypatch, path
):
    monkeypatch.chdir(tmp_path)
    assert find_own(path) == str(PROJECT / path)
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    assert find_own(path) == path  # the working directory comes first


def test_a_path_that_is_nowhere_or_absolute_is_returned_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("no/such.json", str(tmp_path / "no.json"), str(PROJECT / GLYPH_CLIP)):
        assert find_own(path) == path


def test_a_configuration_is_found_by_path_or_name_here_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        find_config("demo") == find_config("config/demo.yaml") == str(PROJECT / "config/demo.yaml")
    )
    assert find_config("paper") == str(PROJECT / paths.CONFIG)
    (tmp_path / "config").mkdir()
    for name in ("demo", "config", "paper"):
        (tmp_path / f"config/{name}.yaml").touch()
        asked = "paper" if name == "config" else name
        assert find_config(asked) == f"config/{name}.yaml"
    (tmp_path / "demo").mkdir()  # a folder is no configuration
    assert find_config("demo") == "config/demo.yaml"
    assert find_config("nowhere") == "nowhere"

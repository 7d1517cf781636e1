import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.project import ROOT
from vtclip.__main__ import main
from vtclip.cli.status import read_plan
from vtclip.config.dataset import read_dataset
from vtclip.files import write_text
from vtclip.paths import ALL
from vtclip.plan.jobs import prepare_manifest
from vtclip.settings import ConfigError

DEMO = str(ROOT / "config/demo.yaml")


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """Two classes of ten pictures, seen from an empty working directory."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    generator = np.random.default_rng(0)
    folder = tmp_path / "photographs"
    for name in ("a & b", "<script>"):
        (folder / name).mkdir(parents=True)
        for number in range(10):
            pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def new(folder, *more):
    return main(["new", "mine", str(folder), "--like", DEMO, *more])


def test_in_a_clone_the_next_command_is_snakemakes(photographs, capsys):
    Path("Snakefile").touch()
    assert new(photographs) == 0
    said = capsys.readouterr().out
    assert "Next: snakemake --cores all --configfile config/mine.yaml" in said


def test_a_folder_becomes_a_dataset_and_an_experiment_that_can_be_planned(photographs, capsys):
    assert new(photographs, "--template", "a drawing of {}") == 0
    said = capsys.readouterr().out
    assert "2 classes, 20 images: in 5 folds" in said
    assert "Next: vtclip run config/mine.yaml" in said
    plan = read_plan(["config/mine.yaml"])
    assert plan.datasets["mine"].templates == ["a drawing of {}"]
    assert plan.datasets["mine"].folds == 5
    assert plan.experiment.shots == [1, 2, 4, ALL]  # six of a class are to train on
    assert plan.name == "mine"


@pytest.mark.parametrize(("images", "written"), [(4, None), (5, 5), (99, 5), (100, None)])
def test_folds_are_written_for_small_classes_without_a_split(photographs, images, written):
    for name in ("a & b", "<script>"):
        for number in range(10):
            (photographs / name / f"{number}.png").unlink()
        for number in range(images):
            Image.new("L", (2, 2), number).save(photographs / name / f"{number}.png")
    assert new(photographs) == 0
    assert read_dataset("mine").folds == written


def test_a_folder_with_splits_is_not_divided_into_folds(photographs):
    for split in ("train", "test"):
        shutil.copytree(photographs, photographs.parent / "split" / split)
    assert new(photographs.parent / "split") == 0
    assert read_dataset("mine").folds is None


def test_damaged_images_are_left_out_and_equal_ones_and_odd_files_named(
    photographs, capsys, caplog
):
    (photographs / "a & b" / "cut.png").write_bytes(b"\x89PNG")
    (photographs / "a & b" / "notes.txt").write_text("odd")
    content = (photographs / "a & b" / "0.png").read_bytes()
    (photographs / "<script>" / "twin.png").write_bytes(content)
    assert new(photographs) == 0
    said = capsys.readouterr().out
    assert "Not readable, and left out: 1 image:" in said
    assert "1 group of identical images, 1 of them in several splits or classes" in said
    assert "1 skipped: a & b/notes.txt" in caplog.text
    described = yaml.safe_load(Path("config/datasets/mine.yaml").read_text())
    assert described["leave_out"] == ["a & b/cut.png"]


@pytest.fixture
def labels(photographs):
    """A table of the images of two classes."""
    table = photographs.parent / "labels.csv"
    for path in [*photographs.rglob("*.png")]:  # names that are images of one class alone
        path.rename(path.with_name(f"{path.parent.name}-{path.name}"))
    lines = [f"{path.stem},{path.parent.name}" for path in photographs.rglob("*.png")]
    table.write_text("\n".join(["id,kind", *lines]))
    return table


def test_a_table_becomes_a_dataset_whose_file_names_its_columns(photographs, labels, capsys):
    assert new(labels, "--images", str(photographs)) == 0
    said = capsys.readouterr().out
    assert "Columns: id (path), kind (label)." in said
    assert "2 classes, 20 images: in 5 folds" in said
    described = yaml.safe_load(Path("config/datasets/mine.yaml").read_text())
    assert described["columns"] == {"path": "id", "label": "kind"}
    plan = read_plan(["config/mine.yaml"])
    given = prepare_manifest(plan, dataset="mine").params["dataset"]
    assert given["table"] == str(labels)
    assert given["columns"] == described["columns"]


def test_a_folder_with_a_table_as_in_imagefolder_is_read_by_its_table(photographs, capsys):
    paths = [path.relative_to(photographs) for path in photographs.rglob("*.png")]
    lines = [json.dumps({"file_name": str(path), "label": path.parts[0]}) for path in paths]
    (photographs / "metadata.jsonl").write_text("\n".join(lines))
    assert new(photographs) == 0
    assert "Columns: file_name (path), label (label)." in capsys.readouterr().out


def test_columns_and_images_that_a_table_leaves_unused_are_named(photographs, labels, capsys):
    header, *lines = labels.read_text().splitlines()
    labels.write_text("\n".join([f"{header},is_test", *(f"{line},0" for line in lines[1:])]))
    assert new(labels, "--images", str(photographs)) == 0
    said = capsys.readouterr().out
    assert "Columns: id (path), kind (label); not used: is_test." in said
    assert f"Not used, as no row names them: 1 image: {lines[0].partition(',')[2]}/" in said


def test_a_table_that_is_not_there_is_named_as_a_table(photographs, capsys):
    assert new("lost.csv", "--images", str(photographs)) == 2
    assert "lost.csv: this table cannot be read: No such file" in capsys.readouterr().err


def test_a_table_in_a_folder_without_class_folders_is_pointed_out(photographs, capsys):
    flat = photographs.parent / "flat"
    for place in ("train", "test"):
        (flat / place).mkdir(parents=True)
        (flat / place / "metadata.csv").touch()
    assert new(flat / "train" / "..") == 2
    assert f"put their rows into one, {flat}/train/../metadata.csv" in capsys.readouterr().err
    (flat / "train/metadata.csv").rename(flat / "train/labels.csv")
    assert new(flat / "train") == 2
    assert f"name {flat}/train/labels.csv in place of the folder" in capsys.readouterr().err


def test_a_table_that_is_broken_later_is_refused_by_the_plan(photographs, labels):
    assert new(labels, "--images", str(photographs)) == 0
    labels.write_text(f"{labels.read_text()}\nlost,<script>")
    with pytest.raises(ConfigError, match="mine.yaml: table: .*1 of 21 images are missing"):
        read_plan(["config/mine.yaml"])
    labels.unlink()
    with pytest.raises(ConfigError, match="mine.yaml: table: .*this table cannot be read"):
        read_plan(["config/mine.yaml"])


def test_options_of_tables_are_refused_for_a_folder(photographs, capsys):
    reasons = {
        ("--images", str(photographs)): "TABLE: this is not a table",
        ("--label-column", "kind"): "--label-column: a folder has no columns",
    }
    for more, reason in reasons.items():
        assert new(photographs, *more) == 2
        assert reason in capsys.readouterr().err
    assert not Path("config").exists()


def test_levels_and_split_folders_reach_the_job_that_reads_the_folder(photographs):
    deep = photographs.parent / "deep"
    shutil.copytree(photographs, deep / "trn" / "birds")
    shutil.copytree(photographs, deep / "tst" / "birds")
    assert new(deep, "--levels", "2", "--split-folders", "trn=train", "tst=test") == 0
    given = prepare_manifest(read_plan(["config/mine.yaml"]), dataset="mine").params["dataset"]
    assert given["levels"] == 2
    assert given["split_folders"] == {"trn": "train", "tst": "test"}


@pytest.mark.parametrize("name", ["mean", "../mine", "{x}", "features", "caltech101", ""])
def test_a_name_that_cannot_be_or_is_taken_is_refused(photographs, capsys, name):
    assert main(["new", name, str(photographs)]) == 2
    assert "vtclip: " in capsys.readouterr().err
    assert not Path("config").exists()


def test_what_is_no_folder_of_classes_is_refused_and_nothing_written(photographs, capsys):
    for folder in (photographs / "a & b", photographs / "none"):
        assert new(folder) == 2
        assert str(folder) in capsys.readouterr().err
    assert not Path("config").exists()


def test_a_class_that_would_lose_its_test_images_is_refused_and_nothing_written(
    photographs, capsys
):
    splits = photographs.parent / "splits"
    for split in ("train", "test"):
        shutil.copytree(photographs, splits / split)
    for image in (splits / "test" / "a & b").iterdir():
        image.write_bytes(b"\x89PNG")
    assert new(splits) == 2
    out, err = capsys.readouterr()
    assert "left out: 10 images:" in out
    assert "classes without a test image: a & b." in err
    assert not Path("config").exists()


def test_other_trees_are_refused_and_read_as_the_options_say(photographs, capsys):
    for split in ("trn", "tst"):
        shutil.copytree(photographs, photographs.parent / "splits" / split)
    splits = photographs.parent / "splits"
    assert new(splits) == 2
    refused = capsys.readouterr().err
    assert "levels: 2" in refused
    assert "split_folders: {trn: train, tst: test}" in refused
    assert new(splits, "--split-folders", "trn=train", "tst") == 2
    assert "--split-folders: no split is named" in capsys.readouterr().err
    assert not Path("config").exists()
    assert new(splits, "--split-folders", "trn=train", "tst=test") == 0
    said = capsys.readouterr().out
    assert "20 to train, 0 to validate, 20 to test; runs validate on training images that" in said
    for file in Path("config").rglob("mine.yaml"):
        file.unlink()
    assert new(splits, "--levels", "2") == 0
    assert read_plan(["config/mine.yaml"]).datasets["mine"].levels == 2


def test_class_names_that_the_model_reads_as_one_are_named(photographs, capsys):
    (photographs / "a & b").rename(photographs / "Cat")
    (photographs / "<script>").rename(photographs / "cat")
    assert new(photographs) == 0
    assert "zero-shot gives them equal scores: 'Cat' and 'cat'." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"shots": [8, 16]}, "has too few images: at most 6 to train on"),
        ({"shots": {"min": 1, "max": 4}}, "--like: its numbers of shots differ from class to"),
        ({"shots": "many"}, "like.yaml: shots: "),
        ({"methods": {"vtclip": None}}, "Unknown method 'vtclip'"),
    ],
)
def test_an_experiment_that_cannot_be_planned_is_not_written(photographs, capsys, like, message):
    Path("like.yaml").write_text(yaml.safe_dump(yaml.safe_load(Path(DEMO).read_text()) | like))
    assert new(photographs, "--like", "like.yaml") == 2
    assert message in capsys.readouterr().err
    assert list(Path().rglob("mine.yaml")) == []


@pytest.mark.parametrize(("shots", "written"), [("all", ["all"]), ([1, 64, "all"], [1, "all"])])
def test_all_shots_of_another_experiment_are_kept_and_its_datasets_are_not(
    photographs, shots, written
):
    like = yaml.safe_load(Path(DEMO).read_text()) | {"shots": shots, "tests": "crossed"}
    Path("like.yaml").write_text(yaml.safe_dump(like))
    assert new(photographs, "--like", "like.yaml") == 0
    experiment = yaml.safe_load(Path("config/mine.yaml").read_text())
    assert experiment["shots"] == written
    assert "tests" not in experiment


def test_an_experiment_to_copy_from_needs_no_datasets(photographs):
    like = yaml.safe_load(Path(DEMO).read_text())
    del like["datasets"]
    Path("like.yaml").write_text(yaml.safe_dump(like))
    assert new(photographs, "--like", "like.yaml") == 0


def test_a_disk_that_becomes_full_leaves_neither_file(photographs, capsys, monkeypatch):
    def write(path, text):
        if path == "config/mine.yaml":
            raise OSError(28, "No space left on device", path)
        write_text(path, text)

    monkeypatch.setattr("vtclip.cli.new.write_text", write)
    assert new(photographs) == 2
    said = capsys.readouterr().err
    assert said.endswith("vtclip: [Errno 28] No space left on device: 'config/mine.yaml'\n")
    assert list(Path().rglob("mine.yaml")) == []


def test_a_second_time_nothing_is_written_over(photographs, capsys):
    assert new(photographs) == 0
    assert new(photographs) == 2
    assert "config/datasets/mine.yaml already exists" in capsys.readouterr().err


def test_names_that_are_used_and_unknown_experiments_are_named_before_an_image_is_read(
    photographs, capsys
):
    assert main(["new", "mean", str(photographs)]) == 2
    assert "and none of manifests, shots, features, benchmarks, mean" in capsys.readouterr().err
    assert main(["new", "digits", str(photographs)]) == 2
    said = capsys.readouterr().err
    assert said.endswith("/config/datasets/digits.yaml already exists: choose another name.\n")
    assert main(["new", "mine", str(photographs), "--like", "dmo"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Unknown configuration 'dmo'" in said.err

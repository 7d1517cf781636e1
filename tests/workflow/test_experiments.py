"""Two experiments in one folder, two backbones in one experiment, and another working directory."""

import shutil

import polars as pl
import pytest
import yaml

from tests.project import ROOT

pytestmark = pytest.mark.workflow

CLIP = "glyph-clip-glyphs"


def tables_of(project, name):
    folder = project.folder / "results" / name / "tables"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_experiment(project, name, **changes):
    """An experiment like the embedded one, smaller."""
    config = yaml.safe_load((project.folder / "config/demo.yaml").read_text())
    config |= {"datasets": ["digits"], "shots": [1], "seeds": [1]} | changes
    path = f"config/{name}.yaml"
    (project.folder / path).write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def test_a_second_experiment_shares_what_it_can_and_leaves_the_first_as_it_is(changed):
    before = tables_of(changed, "demo")
    shared = changed.folder / f"results/features/{CLIP}/digits"
    times = {path: path.stat().st_mtime_ns for path in shared.rglob("*.parquet")}
    views = {"number": 1, "scale": [0.7, 1.0], "flip": False}
    methods = {"zero_shot": None, "vt_clip": {"weight_decay": 1.0, "epochs": 5}}
    second = write_experiment(changed, "second", views=views, methods=methods)
    said = changed.run(config=[second])
    assert "Accuracy on the test images" in said
    assert tables_of(changed, "demo") == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert (shared / "1crops-0.7-1.0" / "1shot-seed1.parquet").is_file()
    saved = yaml.safe_load((changed.folder / "results/second/config.yaml").read_text())
    assert (saved["name"], saved["methods"]) == ("second", methods)
    assert changed.plan() == set()
    assert changed.plan(second) == set()


def test_what_a_run_prints_at_its_end_is_its_own_table_or_nothing(changed):
    said = changed.run("results/shots/digits/1shot-seed1.parquet", "--force")
    assert "Accuracy on the test images" not in said


def test_a_name_of_a_shared_folder_is_refused(fresh):
    done = fresh.snakemake("-n", "--config", "name=features")
    assert done.returncode != 0
    assert "results/features/ is shared by all experiments" in done.stdout


def test_two_backbones_have_rows_of_their_own_in_one_table(changed):
    clip = yaml.safe_load((changed.folder / "config/demo.yaml").read_text())["backbone"]
    both = write_experiment(
        changed, "both", backbone=None, backbones=[clip, clip | {"spatial": "raw"}],
        methods={"zero_shot": None, "vt_clip": {"epochs": 2}},
    )  # fmt: skip
    said = changed.run(config=[both])
    table = pl.read_parquet(changed.folder / "results/both/tables/results.parquet")
    assert table["backbone"].unique(maintain_order=True).to_list() == [CLIP, f"{CLIP}-raw"]
    for backbone in (CLIP, f"{CLIP}-raw"):
        rows = table.filter(backbone=backbone, dataset="digits")
        assert rows["method"].to_list() == ["zero_shot", "vt_clip"]
        picture = f"results/both/figures/attention/{backbone}/digits.png"
        assert (changed.folder / picture).is_file()
    assert f"{CLIP}-raw" in said
    assert "backbone" in (changed.folder / "results/both/tables/differences.md").read_text()


def test_the_workflow_runs_in_another_directory(finished, tmp_path):
    """Its own files are found from anywhere; what it makes goes to that directory."""
    elsewhere = tmp_path / "else where"
    for part in ("resources", "results/manifests", "results/shots", "results/features"):
        shutil.copytree(finished.folder / part, elsewhere / part)
    config = str(finished.folder / "config/demo.yaml")
    there = ("--directory", str(elsewhere))
    assert "train_head" in finished.run("--dry-run", "--quiet", "rules", *there, config=[config])
    small = ["results/demo/predictions/glyph-clip-glyphs/digits/zero_shot/digits.parquet"]
    finished.run(*small, *there, config=[config])
    assert (elsewhere / small[0]).is_file()


def test_heads_of_half_the_classes_are_planned_with_their_report(fresh):
    planned = fresh.plan("config/demo-base-to-new.yaml")
    assert "Writing the report" in planned


def test_a_configuration_in_another_folder_names_the_experiment(fresh, tmp_path):
    shutil.copy(ROOT / "config/demo.yaml", tmp_path / "elsewhere.yaml")
    said = fresh.run("--dry-run", config=[str(tmp_path / "elsewhere.yaml")])
    assert "results/elsewhere/tables/results.csv" in said

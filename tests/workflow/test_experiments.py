"""Two experiments in one folder, and other folders for the experiment and its configuration."""

import shutil
import subprocess

import polars as pl
import pytest
import yaml

from tests.project import ROOT

pytestmark = pytest.mark.workflow

CLIP = "glyph-clip-glyphs"


def tables_of(project, name):
    folder = project.folder / "results" / name / "tables"
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_experiment_with_two_backbones_shares_what_it_can_with_the_first(changed):
    config = yaml.safe_load((changed.folder / "config/demo.yaml").read_text())
    clip, methods = config.pop("backbone"), {"zero_shot": None, "vt_clip": {"epochs": 2}}
    config |= {"datasets": ["digits"], "shots": [1], "seeds": [1], "methods": methods}
    config |= {"views": {"number": 1, "scale": [0.7, 1.0], "flip": False}}
    config |= {"backbones": [clip, clip | {"spatial": "raw"}]}
    text = yaml.safe_dump(config, sort_keys=False)
    (changed.folder / "config/second.yaml").write_text(text)
    before = tables_of(changed, "demo")
    shared = changed.folder / f"results/features/{CLIP}/digits"
    times = {path: path.stat().st_mtime_ns for path in shared.rglob("*.parquet")}
    said = changed.run(config=["config/second.yaml"])
    assert "Accuracy on the test images" in said
    # The first experiment is as it was, and has nothing to do.
    assert tables_of(changed, "demo") == before
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert changed.plan() == set()
    # The second has its configuration, features of other views, and rows of both backbones.
    saved = yaml.safe_load((changed.folder / "results/second/config.yaml").read_text())
    assert (saved["name"], saved["methods"]) == ("second", methods)
    assert (shared / "1crops-0.7-1.0" / "1shot-seed1.parquet").is_file()
    table = pl.read_parquet(changed.folder / "results/second/tables/results.parquet")
    assert table["backbone"].unique(maintain_order=True).to_list() == [CLIP, f"{CLIP}-raw"]
    for backbone in (CLIP, f"{CLIP}-raw"):
        rows = table.filter(backbone=backbone, dataset="digits")
        assert rows["method"].to_list() == ["zero_shot", "vt_clip"]
        picture = f"results/second/figures/attention/{backbone}/digits.png"
        assert (changed.folder / picture).is_file()
    assert f"{CLIP}-raw" in said


@pytest.mark.slow
def test_our_own_picks_give_the_same_head_and_optimism_adds_its_table_alone(changed):
    write_picks = [changed.python, "-m", "vtclip", "picks", "config/demo.yaml"]
    subprocess.run(write_picks, cwd=changed.folder, check=True, capture_output=True)
    config = yaml.safe_load((changed.folder / "config/demo.yaml").read_text())
    config |= {"datasets": ["digits"], "shots": [1], "seeds": [1], "picks": "results/demo/picks"}
    config |= {"optimism": True, "methods": {"linear_probe": None}}
    (changed.folder / "config/listed.yaml").write_text(yaml.safe_dump(config))
    changed.run(config=["config/listed.yaml"])
    listed, demo = changed.folder / "results/listed", changed.folder / "results/demo"
    (head,) = listed.glob("heads/**/linear_probe/1shot-seed1*/head.safetensors")
    drawn = demo / "heads" / CLIP / "digits/linear_probe/1shot-seed1/head.safetensors"
    assert head.read_bytes() == drawn.read_bytes()
    table = pl.read_parquet(listed / "tables/optimism.parquet")
    assert table["chosen_on"].to_list() == ["validation", "all", "oracle"]
    assert table["watermark"].is_null().to_list() == [True, True, False]
    assert set(pl.read_parquet(listed / "tables/results.parquet")["method"]) == {"linear_probe"}


def test_the_workflow_runs_in_another_directory_and_prints_no_table_that_it_did_not_make(
    finished, tmp_path
):
    """The project's files are found from anywhere; outputs go to that directory."""
    there = tmp_path / "another directory"
    for part in ("resources", "results/manifests", "results/shots", "results/features"):
        shutil.copytree(finished.folder / part, there / part)
    shutil.copytree(finished.folder / "results/demo/tables", there / "results/demo/tables")
    made = "results/demo/predictions/glyph-clip-glyphs/digits/zero_shot/digits.parquet"
    config = str(finished.folder / "config/demo.yaml")
    said = finished.run(made, "--directory", str(there), config=[config])
    assert (there / made).is_file()
    assert "Accuracy on the test images" not in said


def test_a_configuration_in_another_folder_names_the_experiment(fresh, tmp_path):
    text = (ROOT / "config/demo-base-to-new.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("name: demo-base-to-new\n", ""))
    said = fresh.run("--dry-run", "--verbose", config=[str(tmp_path / "mine.yaml")])
    assert "results/mine/tables/results.csv" in said
    assert "results/mine/report.html" in said

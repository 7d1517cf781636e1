import os
import time
from itertools import product
from pathlib import Path

import pytest
import yaml

from tests.project import ROOT
from vtclip.__main__ import main
from vtclip.cli.status import estimate_bytes, find_states, list_further_heads, read_plan
from vtclip.paths import log_of, record_of

CONFIG = "mine.yaml"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """The embedded experiment at one number of shots, of which nothing has run."""
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text()) | {"shots": [1], "seeds": [1]}
    Path(CONFIG).write_text(yaml.safe_dump(config))
    return read_plan([CONFIG])


def finish(run):
    for file in (run.head, record_of(run.head)):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_bytes(b"1")


def write_log(path, text, seconds_ago=0):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    then = time.time() - seconds_ago
    os.utime(path, (then, then))


TRACEBACK = (
    "12:00 INFO start\nTraceback (most recent call last):\n  ...\nValueError: no such luck\n"
)


def test_runs_are_done_failed_running_or_missing_by_what_is_on_disk(plan):
    done, failed, running, cut_off, again, missing, *_ = runs = list(plan.heads.values())
    finish(done)
    write_log(log_of(failed.head), TRACEBACK, seconds_ago=900)
    write_log(log_of(running.head), "epochs: 3/50\n")
    write_log(log_of(cut_off.head), "epochs: 3/50\n", seconds_ago=900)
    finish(again)
    write_log(log_of(again.head), "an old log\n", seconds_ago=900)
    states = find_states(plan)
    assert list(states) == runs
    found = [states[run] for run in (done, failed, running, cut_off, again, missing)]
    assert found == ["done", "failed", "running", "missing", "done", "missing"]


def test_the_last_lines_of_failed_logs_are_shown_also_of_jobs_before_the_trainings(plan, capsys):
    write_log(log_of(next(iter(plan.heads))), TRACEBACK, seconds_ago=900)
    write_log("logs/draw_dataset/digits.log", TRACEBACK.replace("luck", "disk"))
    write_log("logs/draw_dataset/others.log", TRACEBACK)
    assert main(["status", CONFIG]) == 1
    said = capsys.readouterr().out
    assert "mine: 8 runs: 0 done, 1 failed, 0 running, 7 missing" in said
    assert "ValueError: no such luck" in said
    assert "Failed: logs/draw_dataset/digits.log" in said
    assert "ValueError: no such disk" in said
    assert "others.log" not in said


def test_a_failed_head_of_a_fold_or_of_the_optimism_table_is_a_failed_job(plan, capsys):
    for name in ("heron", "stork"):
        Path("photographs", name).mkdir(parents=True)
        for number in range(6):
            Path("photographs", name, f"{number}.jpg").touch()
    Path("config/datasets").mkdir(parents=True)
    described = {"title": "birds", "layout": "folders", "folder": "photographs", "folds": 3}
    Path("config/datasets/birds.yaml").write_text(yaml.safe_dump(described))
    given = yaml.safe_load(Path(CONFIG).read_text())
    for changes, place in (
        ({"datasets": ["birds"]}, "/birds@fold3/vt_clip/"),
        ({"optimism": True}, "/digits/linear_probe@choose=all/"),
    ):
        Path(CONFIG).write_text(yaml.safe_dump(given | changes))
        plan = read_plan([CONFIG])
        for run in plan.heads.values():
            finish(run)
        assert main(["status", CONFIG]) == 0
        assert estimate_bytes(plan)["heads"], "these are still to be written"
        failed = next(head for head in list_further_heads(plan) if place in head)
        write_log(log_of(failed), TRACEBACK)
        assert main(["status", CONFIG]) == 1
        assert f"Failed: {log_of(failed)}" in capsys.readouterr().out


def test_what_is_still_to_be_written_shrinks_as_files_come(plan):
    before = estimate_bytes(plan)
    assert set(before) == {"weights", "features", "heads"}  # the embedded datasets are drawn
    for run in plan.heads.values():
        finish(run)
    Path("resources/backbones").mkdir(parents=True)
    Path("resources/backbones/glyph-clip-glyphs.safetensors").touch()
    assert set(estimate_bytes(plan)) == {"features"}


def test_the_images_of_a_users_folder_are_counted(plan):
    for name, split in product(("heron", "stork"), ("train", "test")):
        Path("photos", split, name).mkdir(parents=True)
        for number in range(3):
            Path("photos", split, name, f"{number}.jpg").touch()
    Path("config/datasets").mkdir(parents=True)
    Path("config/datasets/mine.yaml").write_text("{title: Mine, layout: folders, folder: photos}")
    config = yaml.safe_load(Path(CONFIG).read_text()) | {"datasets": ["mine"]}
    Path(CONFIG).write_text(yaml.safe_dump(config))
    few = estimate_bytes(read_plan([CONFIG]))["features"]
    for number in range(3, 300):
        Path("photos", "test", "heron", f"{number}.jpg").touch()
    assert estimate_bytes(read_plan([CONFIG]))["features"] > 10 * few


def test_downloads_count_with_what_is_unpacked_from_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    needed = estimate_bytes(read_plan(["config/first.yaml"]))
    assert needed["archives"] == 137414764 + 809184
    assert needed["images"] > needed["archives"]


def test_a_configuration_that_is_not_there_is_refused(capsys):
    assert main(["status", "nothing.yaml"]) == 2
    assert "Unknown configuration 'nothing.yaml'; known: ablation, " in capsys.readouterr().err
    assert main(["--traceback", "status", "nothing.yaml"]) == 2
    assert capsys.readouterr().err.startswith("Traceback")


def test_a_head_counts_for_the_dataset_and_the_backbone_that_it_is_trained_for(plan, capsys):
    config = yaml.safe_load(Path(CONFIG).read_text())
    ablation = {"one_at_a_time": {"spatial": ["raw"]}}
    Path(CONFIG).write_text(yaml.safe_dump(config | {"tests": "crossed", "ablation": ablation}))
    main(["status", CONFIG])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    counted = [line for line in lines if len(line) == 4 and line[3] == "1"]
    rows = {(dataset, method): backbone for backbone, dataset, method, _ in counted}
    assert {name for name, method in rows if method == "zero_shot"} == {"digits", "letters"}
    assert rows["digits", "vt_clip@spatial=raw"] == "glyph-clip-glyphs-raw"

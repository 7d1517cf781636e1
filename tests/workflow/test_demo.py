"""The embedded experiment, run to its end through the real Snakefile."""

import os
import re
import signal
import subprocess
import sys
import time

import polars as pl
import psutil
import pytest

from tests.project import SEEDS, SHOTS

pytestmark = pytest.mark.workflow

CLIP = "glyph-clip-glyphs"
METHODS = ("zero_shot", "linear_probe", "tip_adapter_f", "vt_clip")


@pytest.fixture(scope="module")
def results(finished):
    return pl.read_parquet(finished.folder / "results/demo/tables/results.parquet")


def accuracy(results, dataset, method, shots):
    return results.filter(dataset=dataset, method=method, shots=shots)["mean"].item()


def test_the_table_has_every_dataset_method_and_number_of_shots(results):
    for dataset in ("digits", "letters", "mean"):
        for method in METHODS:
            rows = results.filter(dataset=dataset, method=method)
            assert rows["shots"].to_list() == ([0] if method == "zero_shot" else list(SHOTS))
            assert set(rows["seeds"]) == ({1} if method == "zero_shot" else {len(SEEDS)})


def test_zero_shot_is_well_over_chance(results):
    assert accuracy(results, "digits", "zero_shot", 0) > 40
    assert accuracy(results, "letters", "zero_shot", 0) > 20


@pytest.mark.parametrize("shots", SHOTS)
def test_vt_clip_is_over_zero_shot_on_digits(results, shots):
    zero_shot = accuracy(results, "digits", "zero_shot", 0)
    assert accuracy(results, "digits", "vt_clip", shots) > zero_shot


def test_vt_clip_has_at_most_half_of_zero_shots_error_at_16_shots_on_digits(results):
    zero_shot = accuracy(results, "digits", "zero_shot", 0)
    assert 100 - accuracy(results, "digits", "vt_clip", 16) <= (100 - zero_shot) / 2


def test_vt_clip_is_over_the_linear_probe_at_one_shot_on_digits(results):
    probe = accuracy(results, "digits", "linear_probe", 1)
    assert accuracy(results, "digits", "vt_clip", 1) > probe


def test_tables_figures_and_report_are_where_the_readme_says(finished):
    tables = [f"tables/results.{suffix}" for suffix in ("parquet", "csv", "md", "tex", "txt")]
    tables += [f"tables/{name}.csv" for name in ("differences", "metrics", "classes")]
    pictures = [
        f"figures/attention/{CLIP}/{dataset}.{suffix}"
        for dataset in ("digits", "letters")
        for suffix in ("svg", "png")
    ]
    for name in [*tables, "figures/accuracy.svg", "figures/cost.png", "report.html", *pictures]:
        assert (finished.folder / "results/demo" / name).stat().st_size > 0


def test_a_second_run_has_nothing_to_do(finished):
    assert finished.plan() == set()


def test_test_features_are_an_input_of_the_predict_rule_and_the_search_for_copies_alone(finished):
    jobs = finished.run("--detailed-summary").splitlines()
    columns = next(line for line in jobs if line.startswith("output_file")).split("\t")
    rows = [dict(zip(columns, line.split("\t"), strict=True)) for line in jobs if "\t" in line]
    readers = {row["rule"] for row in rows if "/test" in row["input-file(s)"]}
    assert readers == {"predict_test", "find_test_copies"}
    shots = f"{CLIP}/digits/4crops-0.8-1.0/16shot-seed1.parquet"
    readers = {row["rule"] for row in rows if shots in row["input-file(s)"]}
    assert readers == {"train_head", "report", "find_test_copies"}
    readers = {row["rule"] for row in rows if "/tables/copies/" in row["input-file(s)"]}
    assert readers == {"report"}


def training_heads(folder):
    """The processes that train in this folder."""
    for process in psutil.process_iter():
        try:
            if "train_head.py" in " ".join(process.cmdline()) and process.cwd() == str(folder):
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def test_a_run_killed_in_mid_training_goes_on_and_ends_with_the_same_table(changed, finished):
    """Kill Snakemake, then its orphaned job; run the command behind `make demo` after each."""

    def demo():
        return subprocess.run(
            [sys.executable, "-m", "vtclip.demo"], cwd=changed.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip

    for head in (changed.folder / "results/demo/heads").glob("*/letters/vt_clip/1shot*/head.*"):
        head.unlink()
    run = subprocess.Popen(
        changed.command(), cwd=changed.folder, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(training_heads(changed.folder)):
        assert run.poll() is None, "it ended before any training"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(1.5)
    while not (orphans := list(training_heads(changed.folder))):
        time.sleep(0.1)
    for orphan in orphans:
        orphan.suspend()
    run.kill()
    run.wait()
    refused = demo()
    assert refused.returncode == 1, refused.stdout[-5000:]
    assert all(str(orphan.pid) in refused.stdout for orphan in orphans)
    os.killpg(run.pid, signal.SIGKILL)
    assert any((changed.folder / ".snakemake" / "locks").iterdir())
    again = demo()
    assert again.returncode == 0, again.stdout[-5000:]
    assert "continuing where it stopped" in again.stdout
    assert 1 <= len(re.findall(r"\d+/\d+ +Training", again.stdout)) <= 3
    table = "results/demo/tables/results.csv"
    assert (changed.folder / table).read_text() == (finished.folder / table).read_text()
    assert (finished.folder / "results/demo/tables/results.txt").read_text() in again.stdout

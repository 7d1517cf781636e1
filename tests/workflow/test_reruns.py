"""What a dry run plans after each kind of change: what depends on it, and nothing else.

The README's table of what runs again has a test here for each of its rows.
"""

import json
import os
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.project import SEEDS, SHOTS

pytestmark = pytest.mark.workflow

DATASETS = ("digits", "letters")
RUNS = [(shots, seed) for shots in SHOTS for seed in SEEDS]
METHODS = ("zero_shot", "linear_probe", "tip_adapter_f", "vt_clip")
FEW_SHOT = METHODS[1:]
CLIP = "glyph-clip-glyphs"
FEATURES = f"results/features/{CLIP}/digits"
SHOT_FEATURES = f"{FEATURES}/4crops-0.8-1.0"
HEADS = f"results/demo/heads/{CLIP}/digits"
TABLES = {
    "Writing the results table",
    "Comparing the methods run by run",
    "Measuring macro F1, calibration and accuracy by class",
    "Drawing accuracy against shots",
    "Drawing accuracy against what training costs",
    "Writing the report",
}
SAVED = {"Saving the configuration"}


def trainings(dataset, method, runs=RUNS):
    if method == "zero_shot":
        runs = [(0, 0)]
    return {
        f"Training {method} on {dataset}: {shots} shots, seed {seed} ({CLIP})"
        for shots, seed in runs
    }


def predictions(dataset, method):
    """The job that predicts, and the pictures that are drawn from VT-CLIP's predictions."""
    jobs = {f"Predicting the test images of {dataset} with {method} ({CLIP})"}
    if method == "vt_clip":
        jobs.add(f"Drawing what the texts of {dataset} look at ({CLIP})")
    return jobs


def all_of(methods, datasets=DATASETS, runs=RUNS):
    jobs = set()
    for dataset in datasets:
        for method in methods:
            jobs |= trainings(dataset, method, runs) | predictions(dataset, method)
    return jobs


def sampled(runs, datasets=DATASETS):
    return {
        f"Sampling {shots} images per class of {dataset}, seed {seed}"
        for dataset in datasets
        for shots, seed in runs
    }


def extracted(runs, datasets=DATASETS):
    return {
        f"Extracting the features of {dataset}: {shots} shots, seed {seed} ({CLIP})"
        for dataset in datasets
        for shots, seed in runs
    }


TEXTS_AND_TESTS = {
    job
    for dataset in DATASETS
    for job in (
        f"Reading the class names of {dataset} ({CLIP})",
        f"Extracting the features of {dataset}'s test images ({CLIP}, test)",
    )
}


def touch(project, path):
    """Date a file in the future of everything that was made from it."""
    later = (project.folder / "results/demo/tables/results.csv").stat().st_mtime + 100
    os.utime(project.folder / path, (later, later))


def test_a_template_of_one_dataset_plans_its_texts_runs_predictions_and_the_tables(changed):
    changed.edit("config/datasets/digits.yaml", "the digit {}", "a digit, {}")
    texts = {f"Reading the class names of digits ({CLIP})"}
    assert changed.plan() == texts | all_of(METHODS, ["digits"]) | TABLES


def test_a_new_seed_plans_its_own_shots_features_and_runs_and_no_other_training(changed):
    changed.edit("config/demo.yaml", "seeds: [1, 2]", "seeds: [1, 2, 4]")
    runs = [(shots, 4) for shots in SHOTS]
    expected = sampled(runs) | extracted(runs) | all_of(FEW_SHOT, runs=runs)
    assert changed.plan() == expected | TABLES | SAVED


def test_a_new_number_of_shots_plans_its_own_and_no_other_training(changed):
    changed.edit("config/demo.yaml", "shots: [1, 16]", "shots: [1, 16, 32]")
    runs = [(32, seed) for seed in SEEDS]
    expected = sampled(runs) | extracted(runs) | all_of(FEW_SHOT, runs=runs)
    assert changed.plan() == expected | TABLES | SAVED


def test_one_number_of_shots_fewer_plans_no_training_and_no_features(changed):
    changed.edit("config/demo.yaml", "shots: [1, 16]", "shots: [1]")
    assert changed.plan() == all_of(FEW_SHOT, runs=[]) | TABLES | SAVED


def test_other_views_plan_features_of_the_shots_and_the_test_features_stay(changed):
    changed.edit("config/demo.yaml", "number: 4", "number: 3")
    assert changed.plan() == extracted(RUNS) | all_of(FEW_SHOT) | TABLES | SAVED


def test_one_methods_setting_plans_that_methods_runs_predictions_and_the_tables(changed):
    changed.edit("config/demo.yaml", "weight_decay: 3.0", "weight_decay: 2.0")
    assert changed.plan() == all_of(["vt_clip"]) | TABLES | SAVED


def test_the_readmes_method_added_as_one_file_plans_its_own_runs_and_the_tables(changed):
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    (changed.folder / "vtclip/methods/prototypes.py").write_text(code)
    assert changed.plan() == set(), "a method that nobody names"
    changed.edit("config/demo.yaml", "  vt_clip:", "  prototypes:\n  vt_clip:")
    assert changed.plan() == all_of(["prototypes"]) | TABLES | SAVED


def test_changed_training_code_plans_training_and_what_follows_and_no_features(changed):
    changed.edit("vtclip/training/train.py", "torch.manual_seed(seed)", "torch.manual_seed(+seed)")
    assert changed.plan() == all_of(METHODS) | TABLES


def test_one_methods_changed_code_plans_that_method_alone(changed):
    changed.edit("vtclip/methods/linear_probe.py", "ITERATIONS = 100", "ITERATIONS = 101")
    assert changed.plan() == all_of(["linear_probe"]) | TABLES


def test_comments_and_docstrings_plan_nothing(changed):
    for module in ("settings", "runtime/job", "methods/base", "training/train"):
        path = f"vtclip/{module}.py"
        text = (changed.folder / path).read_text()
        (changed.folder / path).write_text(text.replace('"""', '"""Once more: ', 1) + "\n# More.\n")
    changed.edit("config/demo.yaml", "datasets:", "# my datasets\ndatasets:")
    assert changed.plan() == set()


def test_an_edited_architecture_plans_all_that_was_made_with_it(changed):
    changed.edit("config/backbones/glyph-clip.json", '"layers": 3', '"layers": 2')
    pretraining = {"Making the small CLIP that was pre-trained on rendered glyphs"}
    made = pretraining | TEXTS_AND_TESTS | extracted(RUNS) | all_of(METHODS)
    assert changed.plan() == made | TABLES


def test_raw_spatial_features_lie_beside_the_others_and_need_no_other_weights(changed):
    text = (changed.folder / "config/demo.yaml").read_text()
    raw = text.replace("  pretrained: glyphs", "  spatial: raw\n  pretrained: glyphs")
    (changed.folder / "config/raw.yaml").write_text(raw)
    planned = changed.plan("config/raw.yaml")
    assert not any("small CLIP" in job for job in planned)
    assert all("glyph-clip-glyphs-raw" in job for job in planned if "(glyph" in job)
    assert changed.plan() == set()


# Each takes a receipt, small as it is, and a file that Snakemake would compare by its time.
LARGE = (
    "results/manifests/digits.parquet",
    f"resources/backbones/{CLIP}.safetensors",
    f"{FEATURES}/test.parquet",
    f"{FEATURES}/texts.parquet",
    f"{SHOT_FEATURES}/16shot-seed1.parquet",
    f"{HEADS}/vt_clip/16shot-seed1/head.safetensors",
    f"results/demo/predictions/{CLIP}/digits/vt_clip/digits.parquet",
)


def test_the_time_of_a_file_plans_nothing(changed):
    assert (changed.folder / SHOT_FEATURES / "16shot-seed1.parquet").stat().st_size > 1_000_000
    for path in (*LARGE, "config/datasets/digits.yaml", "workflow/scripts/train_head.py"):
        touch(changed, path)
    assert changed.plan() == set()


def test_a_receipt_tells_when_a_large_file_has_changed(changed):
    receipt = changed.folder / SHOT_FEATURES / "16shot-seed1.json"
    found = json.loads(receipt.read_text())
    receipt.write_text(json.dumps(found | {"sha256": "0" * 64}))
    touch(changed, receipt.relative_to(changed.folder))
    expected = set(TABLES)
    for method in FEW_SHOT:
        expected |= trainings("digits", method, [(16, 1)]) | predictions("digits", method)
    assert changed.plan() == expected


def test_a_deleted_predictions_file_plans_it_and_the_tables(changed):
    (changed.folder / f"results/demo/predictions/{CLIP}/digits/vt_clip/digits.parquet").unlink()
    assert changed.plan() == predictions("digits", "vt_clip") | TABLES


def test_a_deleted_head_plans_it_its_predictions_and_the_tables(changed):
    (changed.folder / HEADS / "vt_clip/1shot-seed2/head.safetensors").unlink()
    expected = trainings("digits", "vt_clip", [(1, 2)]) | predictions("digits", "vt_clip")
    assert changed.plan() == expected | TABLES


def test_features_of_one_run_hold_that_runs_images_alone(finished):
    shots = pq.read_table(finished.folder / "results/shots/digits/1shot-seed1.parquet")
    features = pq.read_table(
        finished.folder / SHOT_FEATURES / "1shot-seed1.parquet", columns=["image", "view"]
    )
    assert set(features["image"].to_pylist()) == set(shots["image"].to_pylist())
    assert features.num_rows == 10 * 5 + 10

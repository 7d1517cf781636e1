"""What a dry run plans after each kind of change: what depends on it, and nothing else."""

import pytest

pytestmark = pytest.mark.workflow

DATASETS = ("digits", "letters")
RUNS = [(shots, seed) for shots in (1, 2, 4, 8, 16) for seed in (1, 2, 3)]
METHODS = ("zero_shot", "linear_probe", "tip_adapter_f", "vt_clip")
FEW_SHOT = METHODS[1:]
TABLES = {
    "Writing the results table",
    "Comparing the methods run by run",
    "Measuring macro F1, calibration and accuracy by class",
    "Drawing accuracy against shots",
    "Drawing accuracy against what training costs",
}


def trainings(dataset, method, runs=RUNS):
    if method == "zero_shot":
        runs = [(0, 0)]
    return {f"Training {method} on {dataset}: {shots} shots, seed {seed}" for shots, seed in runs}


def predictions(dataset, method):
    """The job that predicts, and the pictures that are drawn from VT-CLIP's predictions."""
    jobs = {f"Predicting the test images of {dataset} with {method}"}
    if method == "vt_clip":
        jobs.add(f"Drawing what the texts of {dataset} look at")
    return jobs


def all_of(methods, datasets=DATASETS, runs=RUNS):
    jobs = set()
    for dataset in datasets:
        for method in methods:
            jobs |= trainings(dataset, method, runs) | predictions(dataset, method)
    return jobs


def test_a_template_of_one_dataset_plans_its_texts_runs_predictions_and_the_tables(changed):
    changed.edit("config/datasets/digits.yaml", "the digit {}", "a digit, {}")
    texts = {"Reading the class names of digits with glyph-clip"}
    assert changed.plan() == texts | all_of(METHODS, ["digits"]) | TABLES


def test_a_new_seed_plans_its_own_shots_features_and_runs_and_no_other_training(changed):
    changed.edit("config/demo.yaml", "seeds: [1, 2, 3]", "seeds: [1, 2, 3, 4]")
    expected = set(TABLES)
    for dataset in DATASETS:
        expected |= {
            f"Sampling {shots} images a class of {dataset}, seed 4" for shots in (1, 2, 4, 8, 16)
        }
        expected.add(f"Extracting the features of {dataset}'s shots, seed 4")
    runs = [(shots, 4) for shots in (1, 2, 4, 8, 16)]
    assert changed.plan() == expected | all_of(FEW_SHOT, runs=runs)


def test_one_methods_setting_plans_that_methods_runs_predictions_and_the_tables(changed):
    changed.edit("config/demo.yaml", "weight_decay: 3.0", "weight_decay: 2.0")
    assert changed.plan() == all_of(["vt_clip"]) | TABLES


def test_changed_training_code_plans_training_and_what_follows_and_no_features(changed):
    changed.edit("vtclip/training/train.py", "torch.manual_seed(seed)", "torch.manual_seed(+seed)")
    assert changed.plan() == all_of(METHODS) | TABLES


def test_one_methods_changed_code_plans_that_method_alone(changed):
    changed.edit("vtclip/methods/linear_probe.py", "max(probes", "max(reversed(probes)")
    assert changed.plan() == all_of(["linear_probe"]) | TABLES


@pytest.mark.parametrize(
    "path",
    [
        "config/demo.yaml",
        "config/datasets/digits.yaml",
        "vtclip/training/train.py",
        "workflow/scripts/train_head.py",
        "results/manifests/digits.parquet",
    ],
)
def test_the_same_content_written_again_plans_nothing(changed, path):
    file = changed.folder / path
    file.write_bytes(file.read_bytes())
    assert changed.plan() == set()


def test_a_comment_in_the_configuration_plans_nothing(changed):
    changed.edit("config/demo.yaml", "datasets:", "# my datasets\ndatasets:")
    assert changed.plan() == set()


def test_a_deleted_predictions_file_plans_it_and_the_tables(changed):
    (changed.folder / "results/predictions/glyph-clip/digits/vt_clip.parquet").unlink()
    assert changed.plan() == predictions("digits", "vt_clip") | TABLES


def test_a_deleted_head_plans_it_its_predictions_and_the_tables(changed):
    run = "results/runs/glyph-clip/digits/vt_clip/4shot-seed2"
    (changed.folder / run / "head.safetensors").unlink()
    expected = trainings("digits", "vt_clip", [(4, 2)]) | predictions("digits", "vt_clip")
    assert changed.plan() == expected | TABLES

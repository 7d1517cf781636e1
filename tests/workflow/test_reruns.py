"""After each kind of change, what depends on it runs again, and nothing else.

Each row of the table in docs/experiments.md has a test here. A handful of real dry runs show that
Snakemake compares the inputs and params of the plan's jobs; the other tests compare them without
starting it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.plan_jobs import list_again, list_jobs, select
from tests.project import ROOT, SEEDS, SHOTS
from vtclip.plan import Plan
from vtclip.runtime.code_hash import code_hash

DATASETS = ("digits", "letters")
RUNS = [(shots, seed) for shots in SHOTS for seed in SEEDS]
FEW_SHOT = ("linear_probe", "tip_adapter_f", "vt_clip")
CLIP = "glyph-clip-glyphs"
FEATURES = f"results/features/{CLIP}"
SHOT_FEATURES = f"{FEATURES}/digits/4crops-0.8-1.0"
HEADS = f"results/demo/heads/{CLIP}"
PREDICTIONS = f"results/demo/predictions/{CLIP}"
TABLES = {
    "Writing the results table",
    "Comparing the methods run by run",
    "Drawing the methods' ranks",
    "Estimating accuracies, and choosing the head to take",
    "Measuring macro F1, calibration and accuracy by class",
    "Drawing accuracy against shots",
    "Drawing accuracy against what training costs",
    "Writing the report",
}
SAVED = {"Saving the configuration"}

# In process.


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """The embedded experiment, with a copy of config/ as the working directory."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(Path("config/demo.yaml").read_text())
    return config | {"shots": list(SHOTS), "seeds": list(SEEDS)}


def read(config, **changes):
    plan = Plan.read(config | changes, source="config/demo.yaml")
    list_jobs(plan)  # before any edit: a job is made once, when it is first requested
    return plan


def edit(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def test_a_datasets_template_reruns_its_texts_heads_and_predictions(demo):
    before = read(demo)
    edit("config/datasets/digits.yaml", "the digit {}", "a digit, {}")
    after = read(demo)
    made = (f"{FEATURES}/digits/texts.parquet", f"{HEADS}/digits/*", f"{PREDICTIONS}/digits/*")
    assert list_again(before, after) == select(after, *made)


def test_a_datasets_counts_rerun_its_manifest_and_nothing_of_another_dataset(demo):
    before = read(demo)
    edit("config/datasets/digits.yaml", "val: 200", "val: 199")
    again = list_again(before, read(demo))
    assert "results/manifests/digits.parquet" in again
    assert not [path for path in again if "letters" in path]


@pytest.mark.parametrize(
    ("changes", "runs"),
    [
        ({"seeds": [*SEEDS, 4]}, [f"{shots}shot-seed4" for shots in SHOTS]),
        ({"shots": [*SHOTS, 32]}, [f"32shot-seed{seed}" for seed in SEEDS]),
        ({"shots": [1]}, []),
    ],
    ids=["a new seed", "a new number of shots", "a number of shots fewer"],
)
def test_other_runs_train_no_run_again(demo, changes, runs):
    before, after = read(demo), read(demo, **changes)
    made = [f"{PREDICTIONS}/*/{method}/*" for method in FEW_SHOT]
    made += [f"{folder}/*/{run}*" for folder in (FEATURES, HEADS) for run in runs]
    assert list_again(before, after) == select(after, *made)


def test_other_views_leave_texts_and_test_features_as_they_are(demo):
    before, after = read(demo), read(demo, views=demo["views"] | {"number": 3})
    made = [f"{FEATURES}/*/3crops*"]
    made += [f"{folder}/*/{method}/*" for folder in (HEADS, PREDICTIONS) for method in FEW_SHOT]
    assert list_again(before, after) == select(after, *made)


def test_an_edited_architecture_reruns_all_that_was_made_with_it(demo):
    before = read(demo)
    edit("config/backbones/glyph-clip.json", '"layers": 3', '"layers": 2')
    after = read(demo)
    assert list_again(before, after) == set(list_jobs(after)) - select(after, "results/manifests/*")


def test_raw_spatial_features_lie_beside_the_others_and_need_no_other_weights(demo):
    before, after = read(demo), read(demo, backbone=demo["backbone"] | {"spatial": "raw"})
    again = list_again(before, after)
    assert {path.split("/")[-1] for path in again} >= {"texts.parquet", "head.safetensors"}
    assert all("glyph-clip-glyphs-raw/" in path for path in again)


def test_another_mirror_or_address_reruns_nothing(demo):
    before = read(demo, datasets=["dtd"])
    assert select(before, "resources/archives/dtd/*", "resources/images/dtd.json")
    edit("config/datasets/dtd.yaml", "https://", "https://mirror.example/")
    assert list_again(before, read(demo, datasets=["dtd"])) == set()
    assert list_again(before, read(demo, datasets=["dtd"], mirror="/")) == set()


def test_an_ablation_leaves_the_experiment_as_it_is(demo):
    ablation = {"one_at_a_time": {"heads": [1], "spatial": ["raw"]}, "shots": [1], "seeds": [2]}
    before, after = read(demo), read(demo, ablation=ablation)
    heads = {path for path in list_again(before, after) if path.endswith("head.safetensors")}
    assert heads == {
        f"results/demo/heads/{CLIP}{kind}/{dataset}/vt_clip@{variant}/1shot-seed2/head.safetensors"
        for variant, kind in (("heads=1", ""), ("spatial=raw", "-raw"))
        for dataset in DATASETS
    }
    made = [path for path in list_again(before, after) if "vt_clip@" not in path]
    assert all(f"{CLIP}-raw/" in path for path in made)


def test_training_code_is_part_of_the_hash_of_training_and_of_no_extraction(tmp_path):
    for part in ("vtclip", "workflow/scripts"):
        shutil.copytree(ROOT / part, tmp_path / part)
    edit(tmp_path / "vtclip/training/train.py", "manual_seed(seed)", "manual_seed(+seed)")
    names = ("sample_shots", "extract_texts", "extract_shots", "extract_test", "train_head")
    scripts = [f"workflow/scripts/{name}.py" for name in names]
    code = (
        "import sys; from vtclip.runtime.code_hash import code_hash\n"
        "for script in sys.argv[1:]: print(code_hash(script))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *scripts],
        cwd=tmp_path, check=True, text=True, stdout=subprocess.PIPE,
    )  # fmt: skip
    same = [
        found == code_hash(ROOT / script)
        for found, script in zip(done.stdout.split(), scripts, strict=True)
    ]
    assert dict(zip(names, same, strict=True)) == {name: name != "train_head" for name in names}


# Through Snakemake.


def trainings(dataset, method, runs=RUNS):
    if method == "zero_shot":
        runs = [(0, 0)]
    return {
        f"Training {method} on {dataset}: {shots}-shot, seed {seed} ({CLIP})"
        for shots, seed in runs
    }


def predictions(dataset, method):
    """The job that predicts, and the pictures that are drawn from VT-CLIP's predictions."""
    jobs = {f"Predicting the test images of {dataset} with {method} ({CLIP})"}
    if method == "vt_clip":
        jobs.add(f"Drawing what the texts of {dataset} look at ({CLIP})")
    return jobs


def all_of(method):
    return set().union(
        *(trainings(dataset, method) | predictions(dataset, method) for dataset in DATASETS)
    )


def touch(project, path):
    """Date a file in the future of everything that was made from it."""
    later = (project.folder / "results/demo/tables/results.csv").stat().st_mtime + 100
    os.utime(project.folder / path, (later, later))


@pytest.mark.workflow
def test_one_methods_setting_reruns_that_method_and_the_tables(changed):
    changed.edit("config/demo.yaml", "weight_decay: 3.0", "weight_decay: 2.0")
    assert changed.plan() == all_of("vt_clip") | TABLES | SAVED


@pytest.mark.workflow
def test_one_methods_changed_code_reruns_that_method_and_the_tables(changed):
    changed.edit("vtclip/methods/linear_probe.py", "ITERATIONS = 100", "ITERATIONS = 101")
    assert changed.plan() == all_of("linear_probe") | TABLES


def readmes_method():
    page = (ROOT / "docs" / "methods.md").read_text()
    return re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]


@pytest.mark.workflow
def test_a_method_added_as_one_file_runs_itself_and_the_tables(changed):
    (changed.folder / "vtclip/methods/prototypes.py").write_text(readmes_method())
    changed.edit("config/demo.yaml", "  vt_clip:", "  prototypes:\n  vt_clip:")
    assert changed.plan() == all_of("prototypes") | TABLES | SAVED


# Each takes a receipt, small as it is, and a file that Snakemake would compare by its time.
LARGE = (
    "results/manifests/digits.parquet",
    f"resources/backbones/{CLIP}.safetensors",
    f"{FEATURES}/digits/test.parquet",
    f"{FEATURES}/digits/texts.parquet",
    f"{SHOT_FEATURES}/16shot-seed1.parquet",
    f"{HEADS}/digits/vt_clip/16shot-seed1/head.safetensors",
    f"{PREDICTIONS}/digits/vt_clip/digits.parquet",
)


@pytest.mark.workflow
def test_times_comments_docstrings_and_a_method_that_no_experiment_names_rerun_nothing(changed):
    assert (changed.folder / SHOT_FEATURES / "16shot-seed1.parquet").stat().st_size > 1_000_000
    for path in (*LARGE, "config/datasets/digits.yaml", "workflow/scripts/train_head.py"):
        touch(changed, path)
    for module in ("settings", "runtime/job", "methods/base", "training/train"):
        path = f"vtclip/{module}.py"
        text = (changed.folder / path).read_text()
        (changed.folder / path).write_text(text.replace('"""', '"""Once more: ', 1) + "\n# More.\n")
    changed.edit("config/demo.yaml", "datasets:", "# my datasets\ndatasets:")
    (changed.folder / "vtclip/methods/prototypes.py").write_text(readmes_method())
    assert changed.plan() == set()


@pytest.mark.workflow
def test_a_changed_receipt_reruns_what_its_file_is_an_input_of(changed):
    receipt = changed.folder / SHOT_FEATURES / "16shot-seed1.json"
    found = json.loads(receipt.read_text())
    receipt.write_text(json.dumps(found | {"sha256": "0" * 64}))
    touch(changed, receipt.relative_to(changed.folder))
    expected = TABLES | {"Comparing the test images of digits with the images drawn"}
    for method in FEW_SHOT:
        expected |= trainings("digits", method, [(16, 1)]) | predictions("digits", method)
    assert changed.plan() == expected


@pytest.mark.workflow
def test_deleted_heads_and_predictions_are_made_again_with_the_tables(changed):
    (changed.folder / PREDICTIONS / "letters/linear_probe/letters.parquet").unlink()
    (changed.folder / HEADS / "digits/vt_clip/1shot-seed2/head.safetensors").unlink()
    expected = trainings("digits", "vt_clip", [(1, 2)]) | predictions("digits", "vt_clip")
    assert changed.plan() == expected | predictions("letters", "linear_probe") | TABLES


@pytest.mark.workflow
def test_features_of_one_run_are_those_of_its_images_alone(finished):
    shots = pq.read_table(finished.folder / "results/shots/digits/1shot-seed1.parquet")
    features = pq.read_table(
        finished.folder / SHOT_FEATURES / "1shot-seed1.parquet", columns=["image", "view"]
    )
    assert set(features["image"].to_pylist()) == set(shots["image"].to_pylist())
    assert features.num_rows == 10 * 5 + 10

"""The jobs of an experiment, their order, and their outputs. No test here runs a job."""

import re
import subprocess
import sys

import pytest

from tests.plan.conftest import CONFIG, GLYPHS, RN50, job, planned
from tests.project import ROOT
from vtclip.methods import METHODS
from vtclip.paths import distinct
from vtclip.plan import shown
from vtclip.settings import ConfigError, read_yaml

# How much there is, and in which order.


def test_the_embedded_experiment_trains_92_heads_and_predicts_8_test_sets(demo):
    plan = planned(demo)
    assert len(plan.own_runs) == 92
    assert len({run.head for run in plan.own_runs}) == 92
    assert len(distinct(plan.own_runs, "predictions")) == 8


def test_the_papers_experiment_trains_1012_heads(paper, imagenet):
    plan = planned(paper, "config/config.yaml")
    assert (len(plan.datasets), len(plan.settings), plan.missing) == (11, 8, {})
    assert len(plan.own_runs) == 11 * (6 * 5 * 3 + 2) == 1012
    assert len(distinct(plan.own_runs, "predictions")) == 11 * 8


def test_a_method_that_learns_from_no_image_is_run_once(demo):
    plan = planned(demo)
    assert plan.runs_of("zero_shot") == [(0, 0)]
    assert plan.runs_of("vt_clip") == [(k, seed) for k in (1, 2, 4, 8, 16) for seed in (1, 2, 3)]


def test_a_dataset_whose_archives_cannot_be_had_is_left_out_with_the_reason(paper):
    plan = planned(paper, "mine.yaml")
    assert list(plan.missing) == ["imagenet"]
    assert "ILSVRC2012_img_train.tar" in plan.missing["imagenet"]
    assert "take 'imagenet' from `datasets:` in mine.yaml" in plan.missing["imagenet"]
    assert "imagenet" not in plan.datasets
    assert len(plan.own_runs) == 920
    assert not [target for target in plan.targets() if "imagenet" in target]


def test_with_a_mirror_no_dataset_is_left_out(paper):
    assert planned(paper, mirror="https://archives.org").missing == {}


def test_the_rows_of_tables_are_in_the_order_of_the_configuration(demo):
    datasets, methods = demo["datasets"][::-1], dict(reversed(demo["methods"].items()))
    backbones = [demo["backbone"] | {"spatial": kind} for kind in ("raw", "projected")]
    plan = planned(demo, datasets=datasets, methods=methods, backbone=None, backbones=backbones)
    expected = [
        (backbone, dataset, method)
        for backbone in (f"{GLYPHS}-raw", GLYPHS)
        for dataset in ("letters", "digits")
        for method in ("vt_clip", "tip_adapter_f", "linear_probe", "zero_shot")
    ]
    assert list(dict.fromkeys(run[:2] + run[3:4] for run in plan.own_runs)) == expected


def test_each_row_of_the_index_names_the_files_of_its_head(demo):
    ablation = {"one_at_a_time": {"heads": [4]}, "shots": [1], "seeds": [1]}
    plan = planned(demo, tests="crossed", ablation=ablation)
    rows = plan.index()
    assert len(rows) == len(set(rows))
    for run in rows:
        assert (run.head == "") == bool(run.reason)
        if run.reason:
            assert (run.predictions, run.record, run.texts) == ("", "", "")
            continue
        trained = run.tested if run.method == "zero_shot" else run.dataset
        folder = f"results/demo/heads/{run.backbone}/{trained}/{run.method}/"
        assert run.head == f"{folder}{run.shots}shot-seed{run.seed}/head.safetensors"
        assert run.record == run.head.replace("head.safetensors", "run.json")
        tested = f"{run.backbone}/{trained}/{run.method}/{run.tested}.parquet"
        assert run.predictions == f"results/demo/predictions/{tested}"
        assert run.texts == f"results/features/{run.backbone}/{run.tested}/texts.parquet"
    labels = [run.label for run in rows]
    assert labels == sorted(labels, key=bool), "the ablation's rows come last"


def test_tables_and_figures_show_titles(demo):
    assert shown.list_titles(planned(demo)) == {
        "zero_shot": "Zero-shot CLIP", "linear_probe": "Linear probe",
        "tip_adapter_f": "Tip-Adapter-F", "vt_clip": "VT-CLIP",
        "digits": "Digits", "letters": "Letters (synthetic)",
    }  # fmt: skip


def test_differences_are_taken_from_vt_clip_or_else_from_the_last_method(demo):
    assert planned(demo).reference == "vt_clip"
    assert planned(demo, methods={"linear_probe": None, "zero_shot": None}).reference == "zero_shot"


def test_every_method_is_in_the_second_table_and_in_one_of_the_demos():
    def methods_of(*names):
        found = [read_yaml(ROOT / "config" / f"{name}.yaml")["methods"] for name in names]
        return sorted(method for methods in found for method in methods)

    assert (
        methods_of("vit-b16")
        == methods_of("demo", "all-methods", "tower-methods")
        == sorted(METHODS)
    )


def test_published_numbers_are_found_by_name_and_weights(paper):
    assert planned(paper).backbone_names == [(RN50, "RN50-quickgelu", "openai")]


def test_planning_imports_neither_torch_nor_open_clip():
    code = (
        "import sys, yaml; from vtclip.plan import Plan; config = yaml.safe_load(sys.stdin); "
        "plan = Plan.read(config, source='a.yaml'); "
        "from vtclip.plan.head_jobs import train_head; "
        "[train_head(plan, backbone=run.backbone, dataset=run.dataset, method=run.method, "
        "shots=str(run.shots), seed=str(run.seed)) for run in plan.own_runs[::40]]; "
        "sys.exit(bool({'torch', 'open_clip', 'polars', 'sklearn'} & set(sys.modules)))"
    )
    with (CONFIG / "config.yaml").open() as config:
        done = subprocess.run(
            [sys.executable, "-c", code], stdin=config, env={"PYTHONPATH": str(CONFIG.parent)},
            check=False,
        )  # fmt: skip
    assert done.returncode == 0


# What is made.


def test_wildcards_match_what_there_is_and_nothing_else(demo):
    ablation = {"one_at_a_time": {"heads": [4], "spatial": ["raw"]}, "shots": [1]}
    plan = planned(demo, ablation=ablation)
    known = {
        "backbone": [GLYPHS, f"{GLYPHS}-raw"],
        "dataset": ["digits", "letters"],
        "tested": ["digits", "letters"],
        "method": [*demo["methods"], "vt_clip@heads=4", "vt_clip@spatial=raw"],
        "views": ["4crops-0.8-1.0"],
        "shots": ["0", "1", "2", "4", "8", "16"],
        "seed": ["0", "1", "2", "3"],
    }
    assert set(plan.wildcards) == set(known)
    for wildcard, values in known.items():
        for value in values:
            assert re.fullmatch(plan.wildcards[wildcard], value)
        for value in ("nothing", "3x", "9", "dtd", "coop", f"{values[0]}.", ""):
            assert not re.fullmatch(plan.wildcards[wildcard], value)


def test_everything_that_is_made_is_a_target(demo):
    targets = planned(demo).targets()
    assert {"results/demo/config.yaml", "results/demo/report.html"} <= set(targets)
    assert len([target for target in targets if target.endswith("/head.safetensors")]) == 92
    assert len([target for target in targets if "/predictions/" in target]) == 8
    tables = {
        target.removeprefix("results/demo/tables/") for target in targets if "/tables/" in target
    }
    assert tables == {
        *(f"results.{suffix}" for suffix in ("parquet", "csv", "md", "tex", "txt")),
        *(f"differences.{suffix}" for suffix in ("parquet", "csv", "md")),
        *(f"ranks.{suffix}" for suffix in ("parquet", "csv")),
        *(f"estimates.{suffix}" for suffix in ("parquet", "csv", "md")),
        *(f"confusions.{suffix}" for suffix in ("parquet", "csv")),
        *(f"{name}.{suffix}" for name in ("metrics", "classes") for suffix in ("parquet", "csv")),
        *(f"copies/{name}.{suffix}" for name in demo["datasets"] for suffix in ("parquet", "csv")),
    }
    figures = {
        target.removeprefix("results/demo/figures/") for target in targets if "/figures/" in target
    }
    names = [
        "accuracy",
        "cost",
        "ranks",
        *(f"attention/{GLYPHS}/{name}" for name in demo["datasets"]),
    ]
    assert figures == {f"{name}.{suffix}" for name in names for suffix in ("svg", "png")}
    assert len(targets) == len(set(targets)) == 3 + 92 + 8 + 23 + 10


def test_attention_is_drawn_of_vt_clip_alone(demo):
    plan = planned(demo, methods={"zero_shot": None})
    assert not [target for target in plan.targets() if "attention" in target]


def test_an_ablation_adds_its_heads_its_table_and_its_figure_and_changes_no_row(demo):
    ablation = {"one_at_a_time": {"heads": [8, 4], "spatial": ["raw"]}, "shots": [1], "seeds": [2]}
    datasets = ["digits"]
    plain = planned(demo, datasets=datasets)
    plan = planned(demo, datasets=datasets, ablation=ablation)
    run = "1shot-seed2/head.safetensors"
    assert sorted(set(plan.targets()) - set(plain.targets())) == [
        *(f"results/demo/figures/ablation.{suffix}" for suffix in ("png", "svg")),
        f"results/demo/heads/{GLYPHS}-raw/digits/vt_clip@spatial=raw/{run}",
        f"results/demo/heads/{GLYPHS}/digits/vt_clip@heads=4/{run}",
        *(f"results/demo/tables/ablation.{suffix}" for suffix in ("csv", "md", "parquet")),
    ]
    assert set(plain.targets()) <= set(plan.targets())
    assert plan.own_runs == plain.own_runs
    assert plan.fetched_weights == plain.fetched_weights


def test_an_ablations_trials_name_the_backbone_of_the_rows_and_the_files_of_the_variant(demo):
    ablation = {"one_at_a_time": {"spatial": ["raw"]}, "shots": [1], "seeds": [2]}
    plan = planned(demo, datasets=["digits"], ablation=ablation)
    heads, predictions = "results/demo/heads", "results/demo/predictions"
    raw = "vt_clip@spatial=raw"
    columns = ("backbone", "dataset", "label", "shots", "seed", "predictions", "record")
    assert [tuple(getattr(run, column) for column in columns) for run in plan.ablation_runs] == [
        (
            GLYPHS, "digits", "as configured", 1, 2,
            f"{predictions}/{GLYPHS}/digits/vt_clip/digits.parquet",
            f"{heads}/{GLYPHS}/digits/vt_clip/1shot-seed2/run.json",
        ),
        (
            GLYPHS, "digits", "spatial: raw", 1, 2,
            f"{predictions}/{GLYPHS}-raw/digits/{raw}/digits.parquet",
            f"{heads}/{GLYPHS}-raw/digits/{raw}/1shot-seed2/run.json",
        ),
    ]  # fmt: skip
    variant = job(plan, "train_head", f"{GLYPHS}-raw", "digits", raw, 1, 2)
    assert variant.params["method"] == "vt_clip"
    assert variant.inputs["features"].startswith(f"results/features/{GLYPHS}-raw/")
    predicting = job(plan, "predict_test", f"{GLYPHS}-raw", "digits", raw, "digits")
    assert predicting.params["runs"] == [(1, 2)]


# The experiment's name.


@pytest.mark.parametrize(
    ("source", "keys", "name"),
    [
        ("config/demo.yaml", {}, "demo"),
        ("/data/my.experiment.yaml", {}, "my.experiment"),
        (["config/demo.yaml", "config/ablation.yaml"], {}, "demo"),
        ("config/demo.yaml", {"name": "mine"}, "mine"),
        ("a b.yaml", {"name": "mine"}, "mine"),
    ],
)
def test_an_experiment_is_called_by_its_key_or_its_first_file(demo, source, keys, name):
    plan = planned(demo, source, **keys)
    assert plan.name == name
    assert f"results/{name}/config.yaml" in plan.targets()


def test_a_comma_in_a_files_name_does_not_cut_it(demo):
    source = ["config/my,paper.yaml", "config/more.yaml"]
    with pytest.raises(ConfigError, match=r"^config/my,paper\.yaml, config/more\.yaml: name: "):
        planned(demo, source)  # no folder of results may be called so
    assert planned(demo, source, name="my-paper").name == "my-paper"


def test_experiments_share_features_and_have_heads_of_their_own(demo):
    plans = [planned(demo, name=name) for name in "ab"]
    wildcards = (GLYPHS, "digits", "vt_clip", 1, 1)
    one, other = (job(plan, "train_head", *wildcards) for plan in plans)
    assert one.inputs == other.inputs
    head, another = (plan.head_of(*wildcards) for plan in plans)
    assert head.replace("results/a/", "results/b/") == another != head

"""What an experiment runs, in which order, and what it makes. No test here runs a job."""

import re
import subprocess
import sys

import pytest

from tests.plan.conftest import CONFIG, GLYPHS, RN50, planned

# How much there is, and in which order.


def test_the_embedded_experiment_trains_92_heads_and_predicts_8_test_sets(demo):
    plan = planned(demo)
    assert len(plan.trainings()) == 92
    assert len({training.head for training in plan.trainings()}) == 92
    assert len(plan.predictions()) == 8


def test_the_papers_experiment_trains_1012_heads(paper, imagenet):
    plan = planned(paper, "config/config.yaml")
    assert (len(plan.datasets), len(plan.settings), plan.missing) == (11, 8, {})
    assert len(plan.trainings()) == 11 * (6 * 5 * 3 + 2) == 1012
    assert len(plan.predictions()) == 11 * 8


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
    assert len(plan.trainings()) == 920
    assert not [target for target in plan.targets() if "imagenet" in target]


def test_with_a_mirror_no_dataset_is_left_out(paper):
    assert planned(paper, mirror="/data/archives").missing == {}


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
    assert plan.keys == expected
    assert [text.split("/")[3:6] for text in plan.predictions()] == [[*key] for key in expected]
    assert [text.split("/")[2:4] for text in plan.all_texts()] == [[*key[:2]] for key in expected]


def test_each_record_belongs_to_the_key_beside_it(demo):
    plan = planned(demo)
    assert len(plan.records) == len(plan.keys_of_records) == 92
    for record, key in zip(plan.records, plan.keys_of_records, strict=True):
        assert record.startswith(f"results/demo/heads/{'/'.join(key)}/")
        assert record.endswith("/run.json")


def test_tables_and_figures_show_titles(demo):
    assert planned(demo).titles == {
        "zero_shot": "Zero-shot CLIP", "linear_probe": "Linear probe",
        "tip_adapter_f": "Tip-Adapter-F", "vt_clip": "VT-CLIP",
        "digits": "Digits", "letters": "Letters (synthetic)",
    }  # fmt: skip


def test_differences_are_taken_from_vt_clip_or_else_from_the_last_method(demo):
    assert planned(demo).reference == "vt_clip"
    assert planned(demo, methods={"linear_probe": None, "zero_shot": None}).reference == "zero_shot"


def test_published_numbers_are_found_by_name_and_weights(paper):
    assert planned(paper).published_backbones == [(RN50, "RN50-quickgelu", "openai")]


def test_planning_imports_neither_torch_nor_open_clip():
    code = (
        "import sys, yaml; from vtclip.plan import Plan; config = yaml.safe_load(sys.stdin); "
        "plan = Plan.read(config, source='a.yaml'); jobs = plan.trainings()[::40]; "
        "[(job.code, job.memory(1), job.minutes(1)) for job in jobs]; "
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
    assert targets[:2] == ["results/demo/config.yaml", "results/demo/report.html"]
    assert len([target for target in targets if target.endswith("/head.safetensors")]) == 92
    assert len([target for target in targets if "/predictions/" in target]) == 8
    tables = {
        target.removeprefix("results/demo/tables/") for target in targets if "/tables/" in target
    }
    assert tables == {
        *(f"results.{suffix}" for suffix in ("parquet", "csv", "md", "tex", "txt")),
        *(f"differences.{suffix}" for suffix in ("parquet", "csv", "md")),
        *(f"{name}.{suffix}" for name in ("metrics", "classes") for suffix in ("parquet", "csv")),
    }
    figures = {
        target.removeprefix("results/demo/figures/") for target in targets if "/figures/" in target
    }
    names = ["accuracy", "cost", f"attention/{GLYPHS}/digits", f"attention/{GLYPHS}/letters"]
    assert figures == {f"{name}.{suffix}" for name in names for suffix in ("svg", "png")}
    assert len(targets) == len(set(targets)) == 2 + 92 + 8 + 12 + 8


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
    assert plan.keys == plain.keys
    assert plan.weights == plain.weights


def test_an_ablations_trials_name_the_backbone_of_the_rows_and_the_files_of_the_variant(demo):
    ablation = {"one_at_a_time": {"spatial": ["raw"]}, "shots": [1], "seeds": [2]}
    plan = planned(demo, datasets=["digits"], ablation=ablation)
    heads, predictions = "results/demo/heads", "results/demo/predictions"
    raw = "vt_clip@spatial=raw"
    assert plan.trials == [
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
    assert plan.ablation_predictions == [trial[-2] for trial in plan.trials]
    assert plan.ablation_records == [trial[-1] for trial in plan.trials]
    variant = plan.train_head(f"{GLYPHS}-raw", "digits", raw, 1, 2)
    assert (variant.base, variant.modules) == ("vt_clip", ["vtclip.methods.vt_clip"])
    assert variant.building["spatial"] == "raw"
    assert plan.predict_test(f"{GLYPHS}-raw", "digits", raw, "digits").runs == [(1, 2)]


# The experiment's name.


@pytest.mark.parametrize(
    ("source", "keys", "name"),
    [
        ("config/demo.yaml", {}, "demo"),
        ("/data/my.experiment.yaml", {}, "my.experiment"),
        ("config/demo.yaml, config/ablation.yaml", {}, "demo"),
        ("config/demo.yaml", {"name": "mine"}, "mine"),
        ("a b.yaml", {"name": "mine"}, "mine"),
    ],
)
def test_an_experiment_is_called_by_its_key_or_its_first_file(demo, source, keys, name):
    plan = planned(demo, source, **keys)
    assert plan.name == name
    assert plan.targets()[0] == f"results/{name}/config.yaml"


def test_experiments_share_features_and_have_heads_of_their_own(demo):
    one, other = (
        planned(demo, name=name).train_head(GLYPHS, "digits", "vt_clip", 1, 1) for name in "ab"
    )
    assert one.large_inputs == other.large_inputs
    assert one.head.replace("results/a/", "results/b/") == other.head != one.head

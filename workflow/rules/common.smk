# The experiment, checked, and everything that the rules ask about it.
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

# The package beside this workflow is the one that runs, here and in every job's process.
sys.path.insert(0, workflow.basedir)
os.environ.update(PYTHONPATH=workflow.basedir)

from vtclip.code import code_hash
from vtclip.experiment import read_dataset, read_experiment
from vtclip.methods import METHODS, check_methods, method_module
from vtclip.settings import ConfigError

CONFIG_FILES = ", ".join(
    str(path).removeprefix(f"{os.getcwd()}/")
    for path in workflow.overwrite_configfiles or workflow.configfiles
)

try:
    EXPERIMENT = read_experiment(config, source=CONFIG_FILES)
    DATASETS = {name: read_dataset(name) for name in EXPERIMENT.datasets}
    METHOD_SETTINGS = check_methods(EXPERIMENT.methods, source=CONFIG_FILES)
except ConfigError as error:
    raise WorkflowError(f"\n{error}\n\nNothing was run.")

BACKBONE = EXPERIMENT.backbone.folder
WEIGHTS = f"resources/backbones/{BACKBONE}.safetensors"
RESULTS = "results/tables/results"
ACCURACY = "results/figures/accuracy"
TABLES = [f"{RESULTS}.{suffix}" for suffix in ("parquet", "csv", "md")]
FIGURES = [f"{ACCURACY}.{suffix}" for suffix in ("svg", "png")]


wildcard_constraints:
    backbone="[^/]+",
    dataset="[^/]+",
    method="[^/]+",
    shots=r"\d+",
    seed=r"\d+",


def code_of(script, *modules):
    """The hash of a script and of the modules whose functions it calls, for `params`."""
    path = Path(workflow.basedir) / "workflow" / "scripts" / f"{script}.py"
    return code_hash("vtclip.logs", *modules, script=path)


def shots_files_of_seed(wildcards):
    """The shots of one seed, at every number of shots."""
    return expand(
        "results/shots/{dataset}/{shots}shot-seed{seed}.parquet",
        dataset=wildcards.dataset,
        shots=EXPERIMENT.shots,
        seed=wildcards.seed,
    )


def views_of_seed(dataset):
    """About how many views of training images one seed needs."""
    counts = DATASETS[dataset].counts
    images = min(counts.train, counts.classes * sum(EXPERIMENT.shots))
    return images * (1 + EXPERIMENT.views.number)


def threads_to_decode(views):
    """One thread, and another for every 5,000 views, eight at most: a small job starts no worker."""
    return min(8, 1 + views // 5000)


def training_inputs(wildcards):
    """What a method learns from: the texts and, unless it needs no image, its shots."""
    folder = "results/features/{backbone}/{dataset}".format(**wildcards)
    inputs = {"texts": f"{folder}/texts.parquet"}
    if METHODS[wildcards.method].few_shot:
        inputs["features"] = f"{folder}/seed{wildcards.seed}.parquet"
        inputs["shots"] = (
            "results/shots/{dataset}/{shots}shot-seed{seed}.parquet".format(**wildcards)
        )
    return inputs


def runs_of(method):
    """(shots, seed) of every head of a method."""
    if not METHODS[method].few_shot:
        return [(0, 0)]
    return [(shots, seed) for shots in EXPERIMENT.shots for seed in EXPERIMENT.seeds]


def heads_of(wildcards):
    """The heads of one method on one dataset."""
    folder = "results/runs/{backbone}/{dataset}/{method}".format(**wildcards)
    return [
        f"{folder}/{shots}shot-seed{seed}/head.safetensors"
        for shots, seed in runs_of(wildcards.method)
    ]


def settings_of(wildcards):
    """The settings of a method, all of them, as plain values."""
    return METHOD_SETTINGS[wildcards.method].model_dump(mode="json")


def all_predictions():
    """The predictions of every method on every dataset, in the table's order."""
    return expand(
        "results/predictions/{backbone}/{dataset}/{method}.parquet",
        backbone=BACKBONE,
        dataset=DATASETS,
        method=METHOD_SETTINGS,
    )

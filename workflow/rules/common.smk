# The experiment, checked, and everything that the rules ask about it.
import os
import re
import sys
from itertools import product
from pathlib import Path
from typing import get_args

from snakemake.exceptions import WorkflowError

# The package beside this workflow is the one that runs, here and in every job's process.
sys.path.insert(0, workflow.basedir)
os.environ.update(PYTHONPATH=workflow.basedir)
# Threads that wait give their core to another job. Snakemake itself limits OpenMP's and BLAS's.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

from vtclip.ablation import list_variants
from vtclip.code import code_hash
from vtclip.data.fetch import mirror_addresses
from vtclip.data.inventory import (
    archive_path,
    archive_receipt,
    explain_missing,
    images_folder,
    images_receipt,
    list_contents,
)
from vtclip.devices import list_devices
from vtclip.experiment import Counts, SpatialKind, read_dataset, read_experiment
from vtclip.methods import METHODS, check_methods, method_module
from vtclip.resources import (
    Work,
    backbone_memory,
    extraction_memory,
    extraction_minutes,
    is_short,
    prediction_memory,
    prediction_minutes,
    read_shape,
    text_minutes,
    training_memory,
    training_minutes,
    training_threads,
    unpacking_minutes,
)
from vtclip.settings import ConfigError

CONFIG_FILES = ", ".join(
    str(path).removeprefix(f"{os.getcwd()}/")
    for path in workflow.overwrite_configfiles or workflow.configfiles
)

try:
    EXPERIMENT = read_experiment(config, source=CONFIG_FILES)
    ALL_DATASETS = {name: read_dataset(name) for name in EXPERIMENT.datasets}
    METHOD_SETTINGS = check_methods(
        EXPERIMENT.methods, source=CONFIG_FILES, spatial=EXPERIMENT.backbone.spatial
    )
    VARIANTS = list_variants(EXPERIMENT, source=CONFIG_FILES)
    # Features folder -> its kind of spatial features.
    SPATIAL_OF = {
        EXPERIMENT.backbone.features_folder(kind): kind
        for kind in get_args(SpatialKind)
    }
    SHAPES = {
        folder: read_shape(EXPERIMENT.backbone, kind)
        for folder, kind in SPATIAL_OF.items()
    }
except ConfigError as error:
    raise WorkflowError(f"\n{error}\n\nNothing was run.")

# Datasets whose archives cannot be had are left out, and said so at once.
MISSING = {
    name: reason
    for name, dataset in ALL_DATASETS.items()
    if (reason := explain_missing(name, dataset, EXPERIMENT.mirror, CONFIG_FILES))
}
DATASETS = {
    name: dataset for name, dataset in ALL_DATASETS.items() if name not in MISSING
}
if workflow.is_main_process:
    for reason in MISSING.values():
        print(reason, file=sys.stderr)
if not DATASETS:
    raise WorkflowError("No dataset is left. Nothing was run.")

BACKBONE = EXPERIMENT.backbone.features_folder(EXPERIMENT.backbone.spatial)
WEIGHTS = f"resources/backbones/{EXPERIMENT.backbone.folder}.safetensors"
BACKBONE_PARAMS = EXPERIMENT.backbone.model_dump()
GPU = 0 if EXPERIMENT.device == "cpu" else 1  # what a job asks for that can use one
SHARD = 10_000  # test images a job: two GPUs share a large test set, a killed job loses one part
RESULTS = "results/tables/results"
DIFFERENCES = "results/tables/differences"
METRICS = "results/tables/metrics"
CLASSES = "results/tables/classes"
ABLATION = "results/tables/ablation"
ACCURACY = "results/figures/accuracy"
COST = "results/figures/cost"
GAINS = "results/figures/ablation"
TABLES = [
    *[f"{RESULTS}.{suffix}" for suffix in ("parquet", "csv", "md", "tex", "txt")],
    *[f"{DIFFERENCES}.{suffix}" for suffix in ("parquet", "csv", "md")],
    *[
        f"{name}.{suffix}"
        for name in (METRICS, CLASSES)
        for suffix in ("parquet", "csv")
    ],
]
FIGURES = [f"{name}.{suffix}" for name in (ACCURACY, COST) for suffix in ("svg", "png")]
# (dataset, method) of every row of a table, in its order.
RESULT_KEYS = list(product(DATASETS, METHOD_SETTINGS))

# As many downloads at a time, where the command line and the profile do not say otherwise.
if "downloads" not in workflow.global_resources:
    workflow.global_resources["downloads"] = 3
# Here, not on a cluster (`jobs:`), as many GPU jobs as there are slots: more would hold a core each.
if workflow.nodes is None and "gpu" not in workflow.global_resources and list_devices():
    workflow.global_resources["gpu"] = len(list_devices()) * EXPERIMENT.slots_per_gpu
# Trainings that share a submission take turns in it, as the profile plans, and share its GPU.
if workflow.remote_exec:
    workflow.global_resources["turn"] = 1


resource_scopes:
    turn="local",


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


def names_of(condition):
    """A pattern of the names of the datasets that meet a condition."""
    names = [name for name, dataset in DATASETS.items() if condition(dataset)]
    return "|".join(names) or "no dataset"


def archive_of(wildcards):
    """One archive of a dataset, as its file describes it."""
    archives = DATASETS[wildcards.dataset].archives
    return next(archive for archive in archives if archive.file == wildcards.file)


def addresses_of(wildcards):
    """Where to fetch an archive from, best first."""
    urls = archive_of(wildcards).urls
    return mirror_addresses(EXPERIMENT.mirror, wildcards.dataset, wildcards.file, urls)


def expected_of(wildcards):
    """An archive's length and checksums."""
    return archive_of(wildcards).model_dump(include={"bytes", "sha256", "md5"})


def receipts_of(wildcards):
    """The receipts of a dataset's archives."""
    archives = DATASETS[wildcards.dataset].archives
    return [archive_receipt(wildcards.dataset, archive.file) for archive in archives]


def all_receipts():
    """The receipts of every archive of the experiment."""
    return [
        archive_receipt(name, archive.file)
        for name, dataset in DATASETS.items()
        for archive in dataset.archives
    ]


def images_of(wildcards):
    """The folder that a dataset's image paths start from."""
    return str(images_folder(wildcards.dataset, DATASETS[wildcards.dataset]))


def receipt_of_images(wildcards):
    """What says that a dataset's images are all there; nothing for a folder of one's own."""
    return images_receipt(wildcards.dataset, DATASETS[wildcards.dataset]) or []


def contents_of_folder(wildcards):
    """A hash of what lies in a folder of one's own."""
    return list_contents(DATASETS[wildcards.dataset])


def layout_of(wildcards):
    """All of a dataset's file that decides its images, labels and splits."""
    titles = {"title", "templates", "licence", "source", "citation"}
    dataset = DATASETS[wildcards.dataset].model_dump(mode="json", exclude=titles)
    for archive in dataset["archives"]:
        del archive["urls"]  # another address is not another file
    return dataset


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
    counts = counts_of(dataset)
    images = min(counts.train, counts.classes * sum(EXPERIMENT.shots))
    return images * (1 + EXPERIMENT.views.number)


def test_images_of(dataset):
    """How many test images a dataset has; 0 where its file does not tell."""
    counts = DATASETS[dataset].counts
    return 0 if counts is None else counts.test


def weights_of_ones_own():
    """The file of weights that the configuration names, where it names no tag of open_clip's."""
    pretrained = EXPERIMENT.backbone.pretrained
    return [pretrained] if os.path.isfile(pretrained) and pretrained != WEIGHTS else []


def backbone_of(wildcards):
    """The backbone that a features folder is made with: its name tells the spatial kind."""
    return BACKBONE_PARAMS | {"spatial": SPATIAL_OF[wildcards.backbone]}


def shard_of(wildcards):
    """(i, n) of a part of the test features: the i-th of n."""
    found = re.fullmatch(r"test-(\d+)of(\d+)", wildcards.part)
    return (int(found[1]), int(found[2])) if found else (1, 1)


def test_features_of(wildcards):
    """The files of a dataset's test features: one, or shards of 10,000 images at most."""
    folder = "results/features/{backbone}/{dataset}".format(**wildcards)
    shards = max(1, -(-test_images_of(wildcards.dataset) // SHARD))
    if shards == 1:
        return [f"{folder}/test.parquet"]
    return [
        f"{folder}/test-{shard}of{shards}.parquet" for shard in range(1, shards + 1)
    ]


def left_out_of(wildcards):
    """The images that a dataset's file leaves out, for the record in its features."""
    return DATASETS[wildcards.dataset].leave_out


def threads_to_decode(views):
    """One thread, and another for every 5,000 views, eight at most: a small job starts no worker."""
    return min(8, 1 + views // 5000)


def training_inputs(wildcards):
    """What a method learns from: the texts, the text tower if it reads it, the shots if any."""
    folder = "results/features/{backbone}/{dataset}".format(**wildcards)
    inputs = {"texts": f"{folder}/texts.parquet"}
    method = METHODS[method_of(wildcards)]
    if method.reads_text_tower:
        inputs["weights"] = WEIGHTS
    if method.few_shot:
        inputs["features"] = f"{folder}/seed{wildcards.seed}.parquet"
        inputs["shots"] = (
            "results/shots/{dataset}/{shots}shot-seed{seed}.parquet".format(**wildcards)
        )
    return inputs


def base_of(method):
    """The registry's name of a method, or of a variant of it."""
    return method.partition("@")[0]


def method_of(wildcards):
    """The same by the names in a job's paths."""
    return base_of(wildcards.method)


def code_of_training(wildcards):
    """The hash of what trains a head: the method's own code, and no other method's."""
    method = method_of(wildcards)
    prompts = ["vtclip.features.prompts"] if METHODS[method].reads_text_tower else []
    return code_of(
        "train_head",
        "vtclip.training.train",
        "vtclip.devices",
        method_module(method),
        *prompts,
    )


def runs_of(method):
    """(shots, seed) of every head of a method, or of a variant of one."""
    if not METHODS[base_of(method)].few_shot:
        return [(0, 0)]
    if method in VARIANTS:
        return ablation_runs()
    return list(product(EXPERIMENT.shots, EXPERIMENT.seeds))


def heads_of(wildcards):
    """The heads of one method on one dataset."""
    folder = "results/runs/{backbone}/{dataset}/{method}".format(**wildcards)
    return [
        f"{folder}/{shots}shot-seed{seed}/head.safetensors"
        for shots, seed in runs_of(wildcards.method)
    ]


def checked_settings(method, dataset):
    """The settings of a method, or of a variant of one, for a dataset."""
    variant = VARIANTS.get(method)
    settings = variant.settings if variant else METHOD_SETTINGS[method]
    return settings.for_dataset(dataset)


def settings_of_method(method, dataset):
    """The same as plain values, all of them."""
    return checked_settings(method, dataset).model_dump(mode="json")


def settings_of(wildcards):
    """The same by the names in a job's paths."""
    return settings_of_method(wildcards.method, wildcards.dataset)


def head_of_attention(dataset):
    """The head whose attention is drawn: the most shots, the first seed."""
    run = f"{max(EXPERIMENT.shots)}shot-seed{EXPERIMENT.seeds[0]}"
    return f"results/runs/{BACKBONE}/{dataset}/vt_clip/{run}/head.safetensors"


def all_attention():
    """The attention pictures of every dataset; none without VT-CLIP."""
    datasets = DATASETS if "vt_clip" in METHOD_SETTINGS else []
    return expand("results/figures/attention/{dataset}.png", dataset=datasets)


def all_heads():
    """Every head of the experiment."""
    return [
        f"results/runs/{BACKBONE}/{dataset}/{method}/{shots}shot-seed{seed}/head.safetensors"
        for dataset in DATASETS
        for method in METHOD_SETTINGS
        for shots, seed in runs_of(method)
    ]


def all_predictions():
    """The predictions of every method on every dataset, in the table's order."""
    return expand(
        "results/predictions/{backbone}/{dataset}/{method}.parquet",
        backbone=BACKBONE,
        dataset=DATASETS,
        method=METHOD_SETTINGS,
    )


def ablation_runs():
    """(shots, seed) of every head of a variant, and of the method that it is compared with."""
    ablation = EXPERIMENT.ablation
    if not METHODS[ablation.method].few_shot:
        return [(0, 0)]
    return list(
        product(ablation.shots or EXPERIMENT.shots, ablation.seeds or EXPERIMENT.seeds)
    )


def ablation_trials():
    """(dataset, label, shots, seed, predictions, run.json) of every run that is compared."""
    if EXPERIMENT.ablation is None:
        return []
    method = EXPERIMENT.ablation.method
    compared = {"as configured": (BACKBONE, method)} | {
        variant.label: (EXPERIMENT.backbone.features_folder(variant.spatial), name)
        for name, variant in VARIANTS.items()
    }
    return [
        (
            dataset,
            label,
            shots,
            seed,
            f"results/predictions/{backbone}/{dataset}/{name}.parquet",
            f"results/runs/{backbone}/{dataset}/{name}/{shots}shot-seed{seed}/run.json",
        )
        for dataset in DATASETS
        for label, (backbone, name) in compared.items()
        for shots, seed in ablation_runs()
    ]


def all_of_ablation():
    """The ablation's table, figure and runs; nothing where the experiment has none."""
    if EXPERIMENT.ablation is None:
        return []
    runs = [run for *_, run in ablation_trials()]
    heads = [run.replace("run.json", "head.safetensors") for run in runs]
    return [
        *heads,
        *[f"{ABLATION}.{suffix}" for suffix in ("parquet", "csv", "md")],
        *[f"{GAINS}.{suffix}" for suffix in ("svg", "png")],
    ]


# What jobs ask a scheduler for; each attempt asks for more.


def counts_of(dataset):
    """How much a dataset holds; a guess for a folder of one's own, whose file need not tell."""
    return DATASETS[dataset].counts or Counts(
        train=10_000, val=2000, test=10_000, classes=100
    )


def reads_spatial(wildcards):
    """Whether a job's method reads spatial features."""
    return METHODS[method_of(wildcards)].reads_spatial


def work_of(wildcards):
    """What a training does, for the estimates of `vtclip.resources`."""
    settings = checked_settings(wildcards.method, wildcards.dataset)
    shots, classes = int(wildcards.shots), counts_of(wildcards.dataset).classes
    images, method = shots * classes, METHODS[method_of(wildcards)]
    batch = max(1, min(images, getattr(settings, "batch_size", images)))
    epochs = settings.epochs_at(shots) if hasattr(settings, "epochs_at") else 0
    blocks, ratio = (getattr(settings, name, 1) for name in ("blocks", "feed_forward"))
    return Work(
        classes=classes,
        images=images,
        views=1 + EXPERIMENT.views.number if method.reads_views else 1,
        batch=batch,
        steps=epochs * -(-images // batch),
        spatial=method.reads_spatial,
        text_tower=method.reads_text_tower,
        width=blocks * (2 + 2 * ratio),
        fits=len(getattr(settings, "inverse_regularisation", [])),
        iterations=getattr(settings, "iterations", 0),
        on_gpu=GPU > 0,
    )


def memory_to_train(wildcards, threads, attempt):
    """MB of a training job."""
    shape, work = SHAPES[wildcards.backbone], work_of(wildcards)
    return attempt * training_memory(shape, work, threads)


def threads_to_train(wildcards):
    """Cores of a training job."""
    return training_threads(SHAPES[wildcards.backbone], work_of(wildcards))


def minutes_to_train(wildcards, threads, attempt):
    """Minutes of a training job."""
    shape, work = SHAPES[wildcards.backbone], work_of(wildcards)
    return attempt * training_minutes(shape, work, threads)


def gpus_to_train(wildcards):
    """How many GPUs a training job asks for."""
    return GPU if METHODS[method_of(wildcards)].on_gpu else 0


def group_of_training(wildcards):
    """Short trainings of a kind share a submission to a scheduler; a long one has its own."""
    if not is_short(SHAPES[wildcards.backbone], work_of(wildcards)):
        return None
    return "training" if METHODS[method_of(wildcards)].on_gpu else "training_on_cores"


def turn_of_training(wildcards):
    """Trainings of one submission run one after another."""
    return int(group_of_training(wildcards) is not None)


def memory_to_predict(wildcards, attempt):
    """MB of a predicting job."""
    return attempt * prediction_memory(
        SHAPES[wildcards.backbone],
        classes=counts_of(wildcards.dataset).classes,
        heads=len(runs_of(wildcards.method)),
        spatial=reads_spatial(wildcards),
    )


def minutes_to_predict(wildcards, attempt):
    """Minutes of a predicting job."""
    counts = counts_of(wildcards.dataset)
    return attempt * prediction_minutes(
        SHAPES[wildcards.backbone],
        classes=counts.classes,
        images=counts.test,
        heads=len(runs_of(wildcards.method)),
        spatial=reads_spatial(wildcards),
        on_gpu=GPU > 0,
    )


def memory_for_backbone(wildcards, attempt):
    """MB of a job that reads texts, or shows what they look at."""
    return attempt * backbone_memory(SHAPES[wildcards.get("backbone", BACKBONE)])


def minutes_to_extract_texts(wildcards, attempt):
    """Minutes of a job that reads a dataset's class names in all its templates."""
    templates = DATASETS[wildcards.dataset].templates
    prompts = counts_of(wildcards.dataset).classes * len(templates)
    return attempt * text_minutes(SHAPES[wildcards.backbone], prompts)


def memory_to_extract(wildcards, threads, attempt):
    """MB of an extracting job."""
    return attempt * extraction_memory(SHAPES[wildcards.backbone], threads - 1)


def minutes_to_extract_shots(wildcards, attempt):
    """Minutes of a job that extracts one seed's shots."""
    return attempt * extraction_minutes(views_of_seed(wildcards.dataset))


def minutes_to_extract_test(wildcards, attempt):
    """Minutes of a job that extracts test images, a shard at most."""
    return attempt * extraction_minutes(min(SHARD, counts_of(wildcards.dataset).test))


def minutes_to_unpack(wildcards, attempt):
    """Minutes of an unpacking job."""
    archives = DATASETS[wildcards.dataset].archives
    return attempt * unpacking_minutes(sum(archive.bytes or 0 for archive in archives))

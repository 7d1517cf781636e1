"""The jobs of heads, as those of `vtclip.plan.jobs`, and what `optimism: true` adds to them."""

from dataclasses import replace
from functools import cache
from typing import Any

from vtclip import cost, paths
from vtclip.config.dataset import ClassSplit, dataset_name
from vtclip.cost import Size, Work
from vtclip.methods import METHODS
from vtclip.methods.base import Method
from vtclip.paths import Run
from vtclip.plan import Plan
from vtclip.plan.jobs import Job, loading_of
from vtclip.plan.variants import constant_settings
from vtclip.runtime.code_hash import code_hash

# Modules that methods with a text tower, with both towers, or with the image tower's last linear
# map load by name.
TEXT_TOWER, TOWERS = "vtclip.backbones.prompts", "vtclip.nn.towers"
PROJECTION = "vtclip.backbones.checkpoints"


@cache
def train_head(
    plan: Plan, *, backbone: str, dataset: str, method: str, shots: str, seed: str
) -> Job:
    """One head."""
    name, number = plan.variants_by_name[method].method, paths.parse_shots(shots)
    kind, chosen = METHODS[name], chosen_of(plan, method, dataset, number)
    size = size_of(plan, backbone, dataset, number)
    work = chosen.work(size)
    # A head of all images in folds is fitted to choose, and for good; the one to use also without
    # each fold.
    folds = plan.folds_of(dataset)
    on_all = bool(folds) and kind.few_shot and number == paths.ALL
    is_crossed = on_all and not ClassSplit.parse(dataset).fold and not kind.reads_images
    fits = 1 + on_all + is_crossed * len(folds)
    work = work._replace(flops=fits * work.flops, longest=fits * work.longest)
    gpus = plan.gpus if kind.on_gpu else 0
    threads = cost.training_threads(work, on_gpu=gpus > 0)
    inputs = _training_inputs(plan, backbone, dataset, chosen, number, int(seed))
    chooses = "features" in inputs and plan.choice_of(method) == "all" and bool(chosen.choices())
    if chooses:
        place = {"backbone": backbone, "dataset": dataset_name(dataset)}
        inputs["validation"] = paths.VAL_FEATURES.format(**place)
    val = plan.counts(dataset).val if chooses else 0
    group = "training" if kind.on_gpu else "training_on_cores"
    return Job(
        inputs=inputs,
        params={
            "method": name,
            "settings": chosen.settings.model_dump(mode="json"),
            "validation": plan.choice_of(method) != "none",
            "on_all": on_all,
            "on_gpu": kind.on_gpu,
            "images": _images(plan, dataset, kind),
            "tower": _tower(plan, backbone, kind) if kind.reads_text_tower else None,
            "projection": kind.reads_projection,
        },
        code=method_code("train_head", name),
        threads=threads,
        gpus=gpus,
        mem_mb=cost.training_memory(size, work, threads)
        + cost.features_memory(size.shape, work, val),
        runtime=cost.training_minutes(work, threads, on_gpu=gpus > 0),
        group=group if cost.is_short(work, on_gpu=gpus > 0) else None,
    )


def _training_inputs(
    plan: Plan, backbone: str, dataset: str, method: Method, shots: int, seed: int
) -> dict[str, str | list[str]]:
    inputs: dict[str, str | list[str]] = {"texts": plan.texts_of(backbone, dataset)}
    if method.reads_text_tower or method.reads_projection:
        inputs["weights"] = plan.weights_of(backbone)
    in_folds = method.few_shot and bool(plan.folds_of(dataset))
    if in_folds and not method.reads_images:
        inputs["features"] = plan.fold_features(backbone, dataset)
    elif method.few_shot and not method.reads_images:
        inputs["features"] = plan.shot_features_of(backbone, dataset, shots, seed)
    if in_folds or method.reads_images:
        inputs["shots"] = plan.sample_of(dataset, shots, seed)
    return inputs


@cache
def predict_test(plan: Plan, *, backbone: str, dataset: str, method: str, tested: str) -> Job:
    """The predictions of all heads of a method on a dataset, for one test set."""
    name, other = plan.variants_by_name[method].method, tested != dataset
    kind, runs = METHODS[name], plan.runs_of(method)
    configured = _configured(plan, method, dataset)
    folds = plan.folds_of(dataset) if kind.few_shot and not other else []
    heads = [(*run, fold) for run in runs for fold in folds] or runs
    reads_tower = kind.predicts_with_tower or (other and kind.reads_text_tower)
    size = size_of(plan, backbone, dataset, max(shots for shots, _ in runs), tested)
    work, images = configured.work(size), plan.counts(tested).test
    tower_mb = cost.backbone_memory(plan.shapes[backbone]) if reads_tower else 0
    threads = cost.threads_to_decode(images) if kind.reads_images else 1
    head_files = [
        plan.head_of(backbone, str(ClassSplit(dataset, "", *fold)), method, shots, seed)
        for shots, seed, *fold in heads
    ]
    inputs = _prediction_inputs(plan, backbone, dataset, kind, tested) | {"heads": head_files}
    return Job(
        inputs=inputs | ({"weights": plan.weights_of(backbone)} if reads_tower else {}),
        params={
            "method": name,
            "settings": configured.settings.model_dump(mode="json"),
            "runs": heads,  # (shots, seed), and the fold that the head has not seen
            "trained": dataset if other else None,
            "images": _images(plan, tested, kind),
            "tower": _tower(plan, backbone, kind) if reads_tower else None,
        },
        code=method_code("predict_test", name),
        threads=threads,
        gpus=plan.gpus,
        mem_mb=tower_mb + cost.prediction_memory(size, work, len(heads), threads - 1),
        runtime=cost.prediction_minutes(work, images=images, heads=len(runs), on_gpu=plan.gpus > 0),
    )


def _prediction_inputs(
    plan: Plan, backbone: str, dataset: str, kind: type[Method], tested: str
) -> dict[str, str | list[str]]:
    inputs: dict[str, str | list[str]] = {
        "texts": plan.texts_of(backbone, tested),
        "manifest": paths.MANIFEST.format(dataset=dataset_name(tested)),
    }
    if not kind.reads_images:
        inputs["features"] = plan.test_features(backbone, dataset_name(tested))
    elif receipt := plan.images_receipt(tested):
        inputs["images"] = receipt
    if tested != dataset:
        inputs["trained_texts"] = plan.texts_of(backbone, dataset)
        inputs["trained_manifest"] = paths.MANIFEST.format(dataset=dataset_name(dataset))
    return inputs


@cache
def plot_attention(plan: Plan, *, backbone: str, dataset: str) -> Job:
    """Pictures of what texts attend to: VT-CLIP's head of the most shots, the first seed."""
    run = max(plan.experiment.shots), plan.experiment.seeds[0]
    return Job(
        inputs={
            "weights": plan.weights_of(backbone),
            "texts": plan.texts_of(backbone, dataset),
            "head": plan.head_of(backbone, dataset, "vt_clip", *run),
            "predictions": plan.predictions_of(backbone, dataset, "vt_clip", dataset),
        },
        params={
            "backbone": loading_of(plan.backbones[backbone]),
            "images": plan.images_of(dataset),
            "settings": _configured(plan, "vt_clip", dataset).settings.model_dump(mode="json"),
            "run": run,
        },
        mem_mb=cost.backbone_memory(plan.shapes[backbone]),
    )


def head_work(plan: Plan, run: Run) -> Work:
    """The work of fitting a head and of predicting with it."""
    backbone, dataset, method = paths.place_of(run.head)
    size = size_of(plan, backbone, dataset, run.shots)
    return chosen_of(plan, method, dataset, run.shots).work(size)


# What several of them share.


def _tower(plan: Plan, backbone: str, kind: type[Method]) -> dict[str, Any]:
    """The module that loads a method's towers, and its arguments."""
    module = TOWERS if kind.reads_images else TEXT_TOWER
    return {"module": module, "backbone": loading_of(plan.backbones[backbone])}


def _images(plan: Plan, dataset: str, kind: type[Method]) -> str | None:
    """The folder that the image paths start from, for a method that reads images."""
    return plan.images_of(dataset) if kind.reads_images else None


@cache
def _configured(plan: Plan, method: str, dataset: str) -> Method:
    """A method, or a variant of one, with its settings for a dataset."""
    variant = plan.variants_by_name[method]
    return METHODS[variant.method](variant.settings.for_dataset(dataset_name(dataset)))


@cache
def chosen_of(plan: Plan, method: str, dataset: str, shots: int) -> Method:
    """A configured method, with constants where nothing may be chosen."""
    configured = _configured(plan, method, dataset)
    if plan.choice_of(method) != "none":
        return configured
    settings = constant_settings(configured, shots)
    assert settings is not None, "a method without constants is left out"
    return type(configured)(settings)


def size_of(plan: Plan, backbone: str, dataset: str, shots: int, tested: str | None = None) -> Size:
    """The size of a head's task; of training and test set, the larger number of classes."""
    counts = plan.counts(dataset)
    classes = len(ClassSplit.parse(dataset).labels(counts.classes))
    images = min(shots * classes, counts.train)
    if tested is not None:
        classes = max(classes, len(ClassSplit.parse(tested).labels(plan.counts(tested).classes)))
    shots = min(shots, -(-counts.train // counts.classes))  # `all`: as many as a class has
    return Size(plan.shapes[backbone], classes, shots, images, 1 + plan.experiment.views.number)


@cache
def method_code(script: str, method: str) -> str:
    """The hash of a script and of all that it calls for a method."""
    kind = METHODS[method]
    tower = [TOWERS] if kind.reads_images else [TEXT_TOWER] if kind.reads_text_tower else []
    tower += [PROJECTION] if kind.reads_projection else []
    path = paths.PROJECT / "workflow" / "scripts" / f"{script}.py"
    return code_hash(path, METHODS[method].__module__, *tower)


# The optimism table: heads that choose otherwise, and oracles.


def list_choices(plan: Plan, method: str) -> dict[str, str]:
    """Images that a method can choose on -> its folder's name there."""
    found = {plan.choice_of(method): method}
    found |= {
        variant.choose: name
        for name, variant in plan.variants_by_name.items()
        if variant.choose is not None and variant.method == method
    }
    return {choose: found[choose] for choose in ("none", "validation", "all") if choose in found}


def list_fair_runs(plan: Plan) -> list[Run]:
    """The fair heads of the optimism table; the label of each is what it has chosen on."""
    return [
        run._replace(
            label=choose,
            head=plan.head_of(run.backbone, run.dataset, name, run.shots, run.seed),
            predictions=plan.predictions_of(run.backbone, run.dataset, name, run.dataset),
        )
        for run in _list_optimistic(plan)
        for choose, name in list_choices(plan, run.method).items()
    ]


def list_oracles(plan: Plan) -> list[tuple[str, str, str, int, int, str]]:
    """Backbone, dataset, method, shots, seed and file of predictions of each oracle."""
    keys = ("backbone", "dataset", "method", "shots", "seed")
    places = [{key: getattr(run, key) for key in keys} for run in _list_optimistic(plan)]
    return [
        (*place.values(), paths.fill(plan.paths.oracle_predictions, **place)) for place in places
    ]


def _list_optimistic(plan: Plan) -> list[Run]:
    return [run for run in plan.own_runs if run.method in plan.optimistic]


@cache
def train_oracle(
    plan: Plan, *, backbone: str, dataset: str, method: str, shots: str, seed: str
) -> Job:
    """An oracle: the job of a head that may choose, with the test images to choose on."""
    choices = list_choices(plan, method)
    run = paths.parse_shots(shots), int(seed)
    fair = train_head(
        plan, backbone=backbone, dataset=dataset, method=choices["validation"], shots=shots,
        seed=seed,
    )  # fmt: skip
    names = choices.values()
    inputs = {
        **fair.inputs,
        "test": plan.test_features(backbone, dataset),
        "heads": [plan.head_of(backbone, dataset, name, *run) for name in names],
        "predictions": [plan.predictions_of(backbone, dataset, name, dataset) for name in names],
    }
    size = size_of(plan, backbone, dataset, run[0])
    work = chosen_of(plan, method, dataset, run[0]).work(size)
    tested = cost.features_memory(size.shape, work, plan.counts(dataset).test)
    return replace(
        fair,
        inputs=inputs,
        code=method_code("train_oracle", plan.variants_by_name[method].method),
        mem_mb=fair.mem_mb + tested,
        group=None,
    )

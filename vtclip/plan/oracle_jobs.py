"""The part of the plan that `optimism: true` adds: heads that choose otherwise, and oracles."""

from dataclasses import replace
from functools import cache

from vtclip import cost
from vtclip.paths import Run
from vtclip.plan import Plan, jobs, paths


def list_choices(plan: Plan, method: str) -> dict[str, str]:
    """Images that a method can choose on -> its folder's name there."""
    found = {plan.choice_of(method): method}
    found |= {
        variant.choose: name
        for name, variant in plan.methods.items()
        if variant.choose is not None and variant.method == method
    }
    return {choose: found[choose] for choose in ("none", "validation", "all") if choose in found}


def list_runs(plan: Plan) -> list[Run]:
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
) -> jobs.Job:
    """An oracle: the job of a head that may choose, with the test images to choose on."""
    choices = list_choices(plan, method)
    run = paths.parse_shots(shots), int(seed)
    fair = jobs.train_head(
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
    size = jobs.size_of(plan, backbone, dataset, run[0])
    work = jobs.chosen_of(plan, method, dataset, run[0]).work(size)
    tested = cost.features_memory(size.shape, work, plan.counts(dataset).test)
    return replace(
        fair,
        inputs=inputs,
        code=jobs.method_code("train_oracle", plan.methods[method].method),
        mem_mb=fair.mem_mb + tested,
        group=None,
    )

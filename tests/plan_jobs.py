"""The jobs of a plan, and those that an edit plans again, without starting Snakemake."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from itertools import product
from typing import Any

from vtclip import paths
from vtclip.plan import Plan, head_jobs, jobs

# Inputs, params and hash of the code, which Snakemake compares.
Record = tuple[set[str], Mapping[str, Any], str]


def find_jobs(plan: Plan) -> dict[str, tuple[jobs.Job, set[str]]]:
    """Output -> the job that makes it and inputs that its rule adds, from manifests on."""
    return {path: (job, added) for path, job, added in _jobs(plan)}


def list_jobs(plan: Plan) -> dict[str, Record]:
    """Output -> the record of the job that makes it."""
    return {path: _record(*found) for path, found in find_jobs(plan).items()}


def list_again(before: Plan, after: Plan) -> set[str]:
    """Outputs whose job is new or has changed, and all that is made from them."""
    old, new = list_jobs(before), list_jobs(after)
    again = {path for path in new if new[path] != old.get(path)}
    while more := {path for path in new.keys() - again if new[path][0] & again}:
        again |= more
    return again


def select(plan: Plan, *patterns: str) -> set[str]:
    """The outputs of a plan that match a pattern; each pattern matches some."""
    found: set[str] = set()
    for pattern in patterns:
        matched = {path for path in list_jobs(plan) if fnmatch(path, pattern)}
        assert matched, f"nothing is called {pattern}"
        found |= matched
    return found


def _record(job: jobs.Job, added: set[str]) -> Record:
    groups = ({found} if isinstance(found, str) else set(found) for found in job.inputs.values())
    return added.union(*groups), job.params, job.code


def _jobs(plan: Plan) -> Iterator[tuple[str, jobs.Job, set[str]]]:
    """(output, job, inputs that the rule itself names) of each job."""
    for dataset in plan.unpacked:
        for archive in plan.datasets[dataset].archives:
            where = {"dataset": dataset, "file": archive.file}
            yield paths.ARCHIVE_RECEIPT.format(**where), jobs.fetch_archive(plan, **where), set()
        unpacked = jobs.unpack_archives(plan, dataset=dataset)
        yield paths.IMAGES_RECEIPT.format(dataset=dataset), unpacked, set()
    for dataset in plan.datasets:
        receipt = {plan.images_receipt(dataset) or ""}
        yield (
            paths.MANIFEST.format(dataset=dataset),
            jobs.prepare_manifest(plan, dataset=dataset),
            receipt,
        )
    for folder, backbone in plan.backbones.items():
        weights = backbone.weights
        yield plan.weights_of(folder), jobs.fetch_backbone(plan, weights=weights), set()
    for backbone, dataset in product(plan.backbones, plan.datasets):
        where = {"backbone": backbone, "dataset": dataset}
        yield plan.texts_of(backbone, dataset), jobs.extract_texts(plan, **where), set()
        for part in plan.parts_of(dataset):
            path = paths.TEST_FEATURES.format(**where, part=part)
            yield path, jobs.extract_test(plan, **where, part=part), set()
        views = plan.experiment.views.folder
        for shots, seed in product(plan.experiment.shots, plan.experiment.seeds):
            where |= {"views": views, "shots": str(shots), "seed": str(seed)}
            sampled = {paths.SHOTS.format(**where)}
            yield paths.SHOT_FEATURES.format(**where), jobs.extract_shots(plan, **where), sampled
    for run in plan.index():
        backbone, dataset, method = paths.place_of(run.head)
        where = {"backbone": backbone, "dataset": dataset, "method": method}
        trained = head_jobs.train_head(plan, **where, shots=str(run.shots), seed=str(run.seed))
        yield run.head, trained, set()
        yield run.predictions, head_jobs.predict_test(plan, **where, tested=run.tested), set()

# The plan of the experiment, and how the rules read it.
import os
import shlex
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# In a clone the package beside this workflow is the one that runs, here and in every job's process.
if Path(workflow.basedir, "vtclip").is_dir():
    sys.path.insert(0, workflow.basedir)
    os.environ.update(PYTHONPATH=workflow.basedir)
# Threads that wait give their core to another job. Snakemake itself limits OpenMP's and BLAS's.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("POLARS_MAX_THREADS", "1")
# Memory that is freed is used again: to hand it back and take it again costs a seventh of
# encoding on a CPU (`benchmarks/extract.py`).
os.environ.setdefault("MALLOC_MMAP_THRESHOLD_", str(1 << 30))
os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2 << 30))

from vtclip import paths
from vtclip.paths import INSTALLED, distinct, receipt_of, receipts_of
from vtclip.plan import Plan, head_jobs, jobs, shown
from vtclip.plan.contents import any_of
from vtclip.runtime import warm
from vtclip.runtime.code_hash import code_hash
from vtclip.runtime.environment import check_profile
from vtclip.runtime.gpus import list_devices
from vtclip.runtime.terminal import show_summaries
from vtclip.settings import ConfigError

# Snakemake starts scripts with it. It writes it into commands as it is, where a space would end it.
PYTHON = sys.executable
sys.executable = shlex.quote(PYTHON)
if workflow.is_main_process and workflow.nodes is None and warm.is_supported():
    sys.executable = warm.make_launcher(PYTHON)

if INSTALLED.is_dir() and workflow.deployment_settings.deployment_method:
    raise WorkflowError(
        "--sdm: the environments that Snakemake makes do not contain vtclip.\n"
        "Leave --sdm out: jobs run in the environment of this command; or run snakemake in a clone."
    )

STARTED = time.time()
CONFIG = dict(config)
CONFIG_FILES = [str(path) for path in workflow.overwrite_configfiles or workflow.configfiles]
for folder in (f"{Path.cwd()}/", f"{workflow.basedir}/"):
    CONFIG_FILES = [path.removeprefix(folder) for path in CONFIG_FILES]

try:
    if workflow.is_main_process:
        check_profile(sys.argv[1:], workflow.basedir)
    PLAN = Plan.read(CONFIG, source=CONFIG_FILES)
except ConfigError as error:
    raise WorkflowError(f"\n{error}\n\nNothing was run.")

if workflow.is_main_process:
    show_summaries(logger)
    # What is left out, or cannot be had as requested, is named at once.
    for reason in [*PLAN.missing.values(), *PLAN.left_out.values(), *shown.list_unmet(PLAN)]:
        print(reason, file=sys.stderr)

PATHS = PLAN.paths
TITLES = shown.list_titles(PLAN)
TABLES = f"{PATHS.folder}/tables"
FIGURES = f"{PATHS.folder}/figures"

# Checked, for `gpu_job`. Params would rerun them when a device changes.
config.update(device=PLAN.experiment.device, slots_per_gpu=PLAN.experiment.slots_per_gpu)

# As many downloads at a time, where the command line and the profile do not say otherwise.
if "downloads" not in workflow.global_resources:
    workflow.global_resources["downloads"] = 3
# Here, not on a cluster (`jobs:`), as many GPU jobs as there are slots: more would occupy a core each.
devices = list_devices(PLAN.experiment.device)
if workflow.nodes is None and "gpu" not in workflow.global_resources and devices:
    workflow.global_resources["gpu"] = len(devices) * PLAN.experiment.slots_per_gpu
# Trainings that share a submission take turns in it, as the profile plans, and share its GPU.
if workflow.remote_exec:
    workflow.global_resources["turn"] = 1


resource_scopes:
    turn="local",


wildcard_constraints:
    **PLAN.wildcards,


# MB and minutes of a job that reads and writes tables.
SMALL = {"mem_mb": 1000, "runtime": 10}


def from_plan(job, field, name=None):
    """A value of the plan's job of these wildcards: a field, or one of its inputs by name.

    An input that a job does not have is an empty list.
    """

    def value(wildcards):
        found = getattr(job(PLAN, **wildcards), field)
        return found if name is None else found.get(name, [])

    return value


def params_of(job, *names):
    """Params of the plan's job, by name."""

    def param(name):
        return lambda wildcards: job(PLAN, **wildcards).params[name]

    return {name: param(name) for name in names}


def requests_of(job):
    """Memory and minutes of the plan's job, times the number of the attempt, and its GPUs."""

    def request(field):
        return lambda wildcards, attempt: attempt * getattr(job(PLAN, **wildcards), field)

    scaled = {field: request(field) for field in ("mem_mb", "runtime")}
    return scaled | {"gpu": from_plan(job, "gpus")}


def tracked_by_checksum(files, name=None):
    """Large files, or the plan's job that names them, as an input that does not count by its time.

    The checksums in the receipts beside them, which are inputs too, say if they have changed.
    """
    return ancient(files if name is None else from_plan(files, "inputs", name))


def code_of(script):
    """The hash of a script and of all that it calls, for `params`."""
    return code_hash(f"{workflow.basedir}/workflow/scripts/{script}.py")


def in_report(file, about, category="Results"):
    """A table or figure that Snakemake's report shows, with the caption of its name."""
    kind = "table" if file.endswith(".md") else "figure"
    caption = f"../report/{Path(file).stem}.rst"
    return report(file, caption=caption, category=category, labels={"kind": kind, "about": about})

# The plan of the experiment, and how the rules ask it.
import os
import shlex
import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

# The package beside this workflow is the one that runs, here and in every job's process.
sys.path.insert(0, workflow.basedir)
os.environ.update(PYTHONPATH=workflow.basedir)
# Threads that wait give their core to another job. Snakemake itself limits OpenMP's and BLAS's.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("POLARS_MAX_THREADS", "1")

from vtclip import paths
from vtclip.runtime.code_hash import code_hash
from vtclip.runtime.devices import list_devices
from vtclip.paths import receipt_of, receipts_of
from vtclip.plan import Plan, matching, shown
from vtclip.plan.misplaced import check_heads
from vtclip.runtime import warm
from vtclip.settings import ConfigError
from vtclip.runtime.terminal import show_one_line_per_job

# Snakemake starts scripts with it. It writes it into commands as it is, where a space would end it.
PYTHON = sys.executable
sys.executable = shlex.quote(PYTHON)
if workflow.is_main_process and workflow.nodes is None and warm.is_supported():
    sys.executable = warm.make_launcher(PYTHON)

STARTED = time.time()
CONFIG = dict(config)
CONFIG_FILES = ", ".join(
    shown(path) for path in workflow.overwrite_configfiles or workflow.configfiles
)

try:
    PLAN = Plan.read(CONFIG, source=CONFIG_FILES)
    if workflow.is_main_process:
        check_heads(PLAN)
except ConfigError as error:
    raise WorkflowError(f"\n{error}\n\nNothing was run.")

if workflow.is_main_process:
    show_one_line_per_job(logger)
    # Datasets and methods that are left out are named at once.
    for reason in [*PLAN.missing.values(), *PLAN.left_out.values()]:
        print(reason, file=sys.stderr)

PATHS = PLAN.paths
TABLES = f"{PATHS.folder}/tables"
FIGURES = f"{PATHS.folder}/figures"

# Checked, for the scripts of jobs that take a GPU. Params would rerun them when a device changes.
config.update(
    device=PLAN.experiment.device, slots_per_gpu=PLAN.experiment.slots_per_gpu
)

# As many downloads at a time, where the command line and the profile do not say otherwise.
if "downloads" not in workflow.global_resources:
    workflow.global_resources["downloads"] = 3
# Here, not on a cluster (`jobs:`), as many GPU jobs as there are slots: more would hold a core each.
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


SMALL = {
    "mem_mb": 1000,
    "runtime": 10,
}  # MB and minutes of a job that reads and writes tables


def of(job, answer):
    """What the plan's job answers, for the wildcards in its paths."""
    return lambda wildcards: getattr(job(**wildcards), answer)


def grown(job, ask):
    """What the plan's job asks for, more with each attempt."""
    return lambda wildcards, threads, attempt: (
        attempt * getattr(job(**wildcards), ask)(threads)
    )


def by_receipt(**large):
    """Large files as inputs that count by the checksums in their receipts, not by their time."""
    return {name: ancient(files) for name, files in large.items()} | {
        "receipts": receipts_of(large)
    }


def inputs_of(job):
    """The inputs of the plan's job."""
    return lambda wildcards: by_receipt(**job(**wildcards).large_inputs) | dict(
        job(**wildcards).inputs
    )


def code_of(script):
    """The hash of a script and of all that it calls, for `params`."""
    return code_hash(f"{workflow.basedir}/workflow/scripts/{script}.py")

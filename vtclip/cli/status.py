"""Show the progress of an experiment: its runs, the logs of failed jobs, and disk space.

A run is done when its head and its record exist. `vtclip run CONFIG -n` shows which of these would
be made again. The exit status is 1 if a job has failed.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vtclip import paths
from vtclip.cli.run import find
from vtclip.cost import SINGLE, features_bytes
from vtclip.wording import count

if TYPE_CHECKING:
    from vtclip.paths import Run
    from vtclip.plan import Plan

HELP = "show the progress of an experiment"
EXAMPLES = """examples:
  vtclip status config/demo.yaml
  vtclip status config/demo.yaml config/all-methods.yaml
"""

State = Literal["done", "failed", "running", "missing"]
STATES: tuple[State, ...] = ("done", "failed", "running", "missing")
# Python's words at the end of a failed job's log.
FAILED = ("Traceback (most recent call last)", "Fatal Python error")
END = 20_000  # bytes of a log that are searched for them
UNPACKED = 1.1  # bytes of images per byte of archives: they are compressed already
LINES = 6  # of a log that are shown
RECENT = 300  # seconds in which a running job has written to its log: it does every 10 s


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "configs",
        metavar="CONFIG",
        nargs="*",
        default=[paths.CONFIG],
        help="the configuration files, or their names in config/ (default: %(default)s)",
    )


def run(given: argparse.Namespace) -> int:
    """Print the status; 1 if a job has failed."""
    plan = read_plan(given.configs)
    states = find_states(plan)
    number = Counter(states.values())
    total = ", ".join(f"{number[state]} {state}" for state in STATES)
    print(f"{plan.name}: {count(len(states), 'run')}: {total}\n")
    print("\n".join(_tabulate(states)))
    for reason in plan.missing.values():
        print(f"\n{reason}")
    logs = [paths.log_of(run.head) for run, state in states.items() if state == "failed"]
    further = [head for head in list_further_heads(plan) if _find_state(head) == "failed"]
    logs += map(paths.log_of, further)
    logs += find_failed_logs(plan)
    for log in logs:
        print(f"\nFailed: {log}")
        print("\n".join(f"  {line}" for line in _read_end(log).splitlines()[-LINES:]))
    print(f"\n{_describe_disk(plan)}")
    return int(bool(logs))


def read_plan(configs: Sequence[str]) -> Plan:
    """Plan some configuration files, merged as Snakemake merges them."""
    from snakemake.utils import update_config

    from vtclip.plan import Plan
    from vtclip.settings import read_config

    merged: dict[str, Any] = {}
    files = [find(config) for config in configs]
    for config in files:
        update_config(merged, read_config(config))
    return Plan.read(merged, source=files)


def find_states(plan: Plan) -> dict[Run, State]:
    """The state of every run of an experiment, in the tables' order."""
    return {run: _find_state(head) for head, run in plan.heads.items()}


def list_further_heads(plan: Plan) -> dict[str, Run]:
    """The heads that are no runs of their own, of folds and of the optimism table -> a row."""
    from vtclip.config.dataset import ClassSplit
    from vtclip.plan.head_jobs import list_fair_runs

    found = {}
    for head, run in plan.heads.items():
        backbone, dataset, method = paths.place_of(head)
        for fold in plan.folds_of(dataset) if run.shots else ():
            part = str(ClassSplit(dataset, fold=fold))
            found[plan.head_of(backbone, part, method, run.shots, run.seed)] = run
    return found | {run.head: run for run in list_fair_runs(plan) if run.head not in plan.heads}


def find_failed_logs(plan: Plan) -> list[str]:
    """The logs of the experiment's failed jobs, except trainings."""
    names = {plan.name, *plan.datasets, *(found.weights for found in plan.backbones.values())}
    return [
        str(log)
        for log in sorted(Path("logs").glob("*/**/*.log"))
        if log.parts[1] != "train_head" and names & {*log.parts, log.stem} and _has_failed(log)
    ]


def _find_state(head: str) -> State:
    if Path(head).is_file() and Path(paths.record_of(head)).is_file():
        return "done"
    log = Path(paths.log_of(head))
    if not log.is_file():
        return "missing"
    if _has_failed(log):
        return "failed"
    return "running" if time.time() - log.stat().st_mtime < RECENT else "missing"


def _has_failed(log: Path) -> bool:
    return any(sign in _read_end(log) for sign in FAILED)


def _read_end(log: str | Path) -> str:
    with Path(log).open("rb") as file:
        file.seek(max(0, Path(log).stat().st_size - END))
        return file.read().decode("utf-8", "replace").rstrip()


def _tabulate(states: dict[Run, State]) -> list[str]:
    """Lines of a table: a row for each dataset and method, a column for each state."""
    rows: dict[tuple[str, ...], Counter[str]] = {}
    for run, state in states.items():
        rows.setdefault(paths.place_of(run.head), Counter())[state] += 1
    cells = [("backbone", "dataset", "method", *STATES)]
    cells += [(*key, *(str(n[state] or "") for state in STATES)) for key, n in rows.items()]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    line = "  ".join(f"{{:{'<' if place < 3 else '>'}{w}}}" for place, w in enumerate(widths))
    return [line.format(*row).rstrip() for row in cells]


def _describe_disk(plan: Plan) -> str:
    places = {
        plan.paths.folder: [plan.paths.folder],
        "shared files in results/": [f"results/{name}" for name in paths.SHARED],
        "resources/": ["resources"],
    }
    used = ", ".join(
        f"{_show(sum(map(_measure, folders)))} in {name}" for name, folders in places.items()
    )
    needed = estimate_bytes(plan)
    parts = ", ".join(f"{kind} {_show(size)}" for kind, size in needed.items())
    total = _show(sum(needed.values())) + (f" ({parts})" if parts else "")
    free = _show(shutil.disk_usage(".").free)
    return f"Disk: {used}.\nStill to be written (estimated): {total}; {free} free."


def _measure(folder: str) -> int:
    """Bytes of the files below a folder; 0 where there is none."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _show(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def estimate_bytes(plan: Plan) -> dict[str, int]:
    """Kind of files -> bytes that are still to be written; kinds without any are left out."""
    from vtclip.data.inventory import archive_path
    from vtclip.plan.head_jobs import head_work

    packed = [
        (Path(archive_path(name, archive.file)), archive.bytes or 0)
        for name in plan.unpacked
        if not Path(paths.IMAGES_RECEIPT.format(dataset=name)).is_file()
        for archive in plan.datasets[name].archives
    ]
    shapes = {plan.weights_of(folder): shape for folder, shape in plan.shapes.items()}
    weights = [
        shape.image_weights + shape.text_weights
        for file, shape in shapes.items()
        if not Path(file).is_file()
    ]
    planned = plan.heads | list_further_heads(plan)
    heads = [run for head, run in planned.items() if not Path(head).is_file()]
    found = {
        "archives": sum(size for file, size in packed if not file.is_file()),
        "images": UNPACKED * sum(size for _, size in packed),
        "weights": SINGLE * sum(weights),
        "features": sum(_features(plan)),
        "heads": sum(head_work(plan, run).head_bytes for run in heads),
    }
    return {kind: round(size) for kind, size in found.items() if size}


def _features(plan: Plan) -> Iterator[int]:
    """Bytes of each file of features that is not there yet."""
    from vtclip.plan.jobs import count_shot_views

    experiment = plan.experiment
    for backbone, dataset in product(plan.backbones, plan.datasets):
        files, views = plan.test_features(backbone, dataset), plan.counts(dataset).test
        if plan.folds_of(dataset):
            views = count_shot_views(plan, dataset, paths.ALL)
        found = dict.fromkeys(files, views // len(files))
        runs = product(experiment.shots, experiment.seeds)
        for shots, seed in () if plan.folds_of(dataset) else runs:
            file = plan.shot_features_of(backbone, dataset, shots, seed)
            found[file] = count_shot_views(plan, dataset, shots)
        missing = (number for file, number in found.items() if not Path(file).is_file())
        yield from (features_bytes(plan.shapes[backbone], number) for number in missing)

"""Snakemake's messages on the terminal: a line when a job ends, and every error.

Snakemake's own log, in `.snakemake/log/`, keeps all of them. Of a dry run there is a line for each
rule and dataset: a list of all jobs, each with its files and the values that have changed, would be
megabytes.
"""

import logging
import re
import time
from collections import Counter
from typing import Any, NamedTuple

from snakemake.logging import DefaultFilter, DefaultFormatter, LogEvent

HANDLER = "DefaultStreamHandler"  # the name of Snakemake's handler for the terminal
# In the log alone: the surroundings of the run, and what a job's line summarises.
HIDDEN = (LogEvent.WORKFLOW_STARTED, LogEvent.JOB_STARTED, LogEvent.PROGRESS, LogEvent.SHELLCMD)
CHOOSING = "Select jobs to execute..."
# They refer to Snakemake's list of all jobs.
ABOUT_THE_LIST = ("Reasons:\n", "Some jobs were triggered by prov", "Rules with provenance")
NEW, INPUT_CHANGED = "new", "input changed"
# The beginning of one of Snakemake's reasons -> words for it.
REASONS = {
    "Missing output files": NEW,
    "Incomplete output files": "incomplete",
    "Code has changed": "code changed",
    "Updated input files": INPUT_CHANGED,
    "Input files updated by another job": INPUT_CHANGED,
    "Set of input files has changed": INPUT_CHANGED,
    "Software environment": "environment changed",
    "Forced execution": "forced",
}
PARAMS_CHANGED = "Params have changed"
HASH = r"'[0-9a-f]{16}'"  # of code, among a rule's params


class Job(NamedTuple):
    """A job that runs."""

    rule: str
    message: str
    started: float  # seconds, as `time.time` counts them


class OneLinePerJob(DefaultFormatter):
    """Formats and filters Snakemake's records: one line when a job ends.

    Only the first job of each rule has a line when it starts. Warnings and errors keep Snakemake's
    wording.
    """

    def __init__(self, show_failed_logs: bool) -> None:
        super().__init__(show_failed_logs=show_failed_logs)
        self.planned: Counter[str] = Counter()  # rule -> jobs
        self.ended: Counter[str] = Counter()  # rule -> jobs
        self.seconds: Counter[str] = Counter()  # rule -> of all jobs that have ended
        self.running: dict[int, Job] = {}
        self.begun: set[str] = set()
        self.first_start = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Select the records that are shown."""
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            return self._note_start(record.__dict__)
        return event not in HIDDEN and record.msg != CHOOSING

    def format_run_info(self, msg: dict[str, Any]) -> str:
        """Snakemake's table of the number of jobs of each rule."""
        self.planned = Counter(msg["stats"])
        del self.planned["total"]
        return str(msg["msg"])

    def format_job_info(self, msg: dict[str, Any]) -> str:
        """The start of the first job of a rule."""
        return _line(msg["created"], "starts", self.running[msg["jobid"]].message)

    def format_job_finished(self, msg: dict[str, Any]) -> str:
        """The end of a job, the number of jobs so far, and about how long the others take."""
        now = msg["created"]
        job = self.running.pop(msg["job_id"])
        self.ended[job.rule] += 1
        self.seconds[job.rule] += now - job.started
        done, total = self.ended.total(), self.planned.total()
        left = f", about {_duration(self._seconds_left(now))} left" if done < total else ""
        text = f"{job.message} ({_duration(now - job.started)}{left})"
        return _line(now, f"{done:>{len(str(total))}}/{total}", text)

    def format_job_error(self, msg: dict[str, Any]) -> str:
        """The failure of a job, with its log and without the list of its files."""
        return str(super().format_job_error(msg | {"input": [], "output": []}))

    def _note_start(self, msg: dict[str, Any]) -> bool:
        """Remember that a job has started; returns if it is the first of its rule."""
        rule, started = msg["rule_name"], msg["created"]
        self.running[msg["jobid"]] = Job(rule, msg["rule_msg"] or rule, started)
        self.first_start = self.first_start or started
        is_first = rule not in self.begun and self.planned[rule] > 0
        self.begun.add(rule)
        return is_first

    def _seconds_left(self, now: float) -> float:
        """Estimate from the mean of each rule's jobs, and the number that ran at a time."""
        busy = self.seconds.total()
        mean = busy / self.ended.total()  # for rules of which no job has ended yet
        left = sum(
            (number - self.ended[rule])
            * (self.seconds[rule] / self.ended[rule] if self.ended[rule] else mean)
            for rule, number in self.planned.items()
        )
        return left / max(1.0, busy / max(now - self.first_start, 1e-3))


def _line(now: float, event: str, text: str) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(now))}  {event:<8} {text}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class DryRun(DefaultFormatter):
    """Formats and filters the records of a dry run."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[tuple[str, str], Counter[str]] = {}  # rule and dataset -> reason -> jobs
        self.tables = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Select the records that are shown; jobs are counted."""
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            job = record.__dict__
            place = job["rule_name"], (job["wildcards"] or {}).get("dataset", "")
            reason = name_reason(job["reason"]) if job["output"] else ""  # of targets there is none
            self.jobs.setdefault(place, Counter())[reason] += 1
            return False
        if event == LogEvent.RUN_INFO:
            self.tables += 1
            return self.tables > 1  # Snakemake's stands before the jobs too
        hidden = (LogEvent.WORKFLOW_STARTED, LogEvent.SHELLCMD, LogEvent.GROUP_INFO)
        return event not in hidden and not str(record.msg).startswith(ABOUT_THE_LIST)

    def format_run_info(self, msg: dict[str, Any]) -> str:
        """The table in place of Snakemake's, in the order in which rules run."""
        if not self.jobs:  # with `--quiet rules`
            return str(msg["msg"])
        rules = list(dict.fromkeys(rule for rule, _ in self.jobs))
        rows = [("rule", "dataset", "jobs", "reason")]
        for rule, dataset in sorted(self.jobs, key=lambda job: (rules.index(job[0]), job[1])):
            reasons = self.jobs[rule, dataset]
            words = [f"{number} {word}" for word, number in reasons.items()]
            reason = "; ".join(words if len(words) > 1 else reasons)
            rows.append((rule, dataset, str(reasons.total()), reason))
        total = sum(reasons.total() for reasons in self.jobs.values())
        rows.append(("total", "", str(total), "each job with its files and its reason: --verbose"))
        first, second, third = (max(map(len, column)) for column in [*zip(*rows, strict=True)][:3])
        return "\n".join(
            f"{rule:{first}}  {dataset:{second}}  {number:>{third}}  {reason}".rstrip()
            for rule, dataset, number, reason in rows
        )


def name_reason(reason: str) -> str:
    """The words for a reason of Snakemake's, which names files and values."""
    found = [words for beginning, words in REASONS.items() if beginning in reason]
    if NEW in found:
        return NEW
    _, changed, values = reason.partition(PARAMS_CHANGED)
    if changed:
        found.insert(0, _name_change(values))
    return ", ".join(dict.fromkeys(found)) or "always"


def _name_change(change: str) -> str:
    """The kind of params that have changed: hashes of code and of images are among them."""
    if "'images " in change:
        return "images changed"
    values = re.sub(rf"{HASH}|<nothing exclusive>|now:|[ ,]", "", change.partition("before:")[2])
    has_settings = values.partition(";")[0] != ""
    kinds = ["settings"] * has_settings + ["code"] * bool(re.search(HASH, change))
    return " and ".join(kinds) + " changed"


def show_summaries(logger: logging.Logger) -> None:
    """Let Snakemake's logger show `OneLinePerJob` on the terminal, or `DryRun`.

    Nothing changes with `--verbose`, or with a logger plugin.
    """
    for handler in logger.handlers:
        filters = [each for each in handler.filters if isinstance(each, DefaultFilter)]
        formatter = handler.formatter
        if handler.name != HANDLER or not isinstance(formatter, DefaultFormatter):
            continue
        if not any(each.verbose for each in filters):
            is_dry = any(each.dryrun for each in filters)
            lines = DryRun() if is_dry else OneLinePerJob(formatter.show_failed_logs)
            handler.addFilter(lines)
            handler.setFormatter(lines)

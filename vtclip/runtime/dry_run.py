"""Snakemake's messages of a dry run: a line for each rule and dataset.

A list of all jobs, each with its files and the values that have changed, would be megabytes.
"""

import logging
import re
from collections import Counter
from typing import Any

from snakemake.logging import DefaultFormatter, LogEvent

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
            self.jobs.setdefault(place, Counter())[name_reason(job["reason"])] += 1
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
        first, second, third = (max(len(row[place]) for row in rows) for place in range(3))
        return "\n".join(
            f"{rule:{first}}  {dataset:{second}}  {number:>{third}}  {reason}"
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

"""What Snakemake says on the terminal: a line when a job ends, and every error.

Snakemake's own log, in `.snakemake/log/`, keeps the full story.
"""

import logging
import time
from collections import Counter
from typing import Any, NamedTuple

from snakemake.logging import DefaultFilter, DefaultFormatter, LogEvent

HANDLER = "DefaultStreamHandler"  # the name of Snakemake's handler for the terminal
# In the log alone: where and with what Snakemake runs, and what the lines below tell in short.
UNSHOWN = (LogEvent.WORKFLOW_STARTED, LogEvent.JOB_STARTED, LogEvent.PROGRESS, LogEvent.SHELLCMD)
CHOOSING = "Select jobs to execute..."


class Job(NamedTuple):
    """A job that runs."""

    rule: str
    message: str
    started: float
    """seconds, as `time.time` counts them"""


class OneLinePerJob(DefaultFormatter):
    """Formats and filters Snakemake's records: one line when a job ends.

    A job's start is told only of the first job of each rule. Warnings and errors stay as Snakemake
    words them.
    """

    def __init__(self, *, show_failed_logs: bool = True) -> None:
        super().__init__(show_failed_logs=show_failed_logs)
        self.planned: Counter[str] = Counter()  # rule -> jobs
        self.ended: Counter[str] = Counter()  # rule -> jobs
        self.seconds: Counter[str] = Counter()  # rule -> of all jobs that have ended
        self.running: dict[int, Job] = {}
        self.begun: set[str] = set()
        self.first_start: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            return self._note_start(record)
        return event not in UNSHOWN and record.msg != CHOOSING

    def format_run_info(self, msg: dict[str, Any]) -> str:
        """Snakemake's table of how many jobs there are of each rule."""
        self.planned = Counter(msg["stats"])
        del self.planned["total"]
        return str(msg["msg"])

    def format_job_info(self, msg: dict[str, Any]) -> str:
        """That the first job of a rule starts."""
        return _line(msg["created"], "starts", self.running[msg["jobid"]].message)

    def format_job_finished(self, msg: dict[str, Any]) -> str:
        """Which job has ended, how many of how many have, and about how long the others take."""
        now = msg["created"]
        job = self.running.pop(msg["job_id"])
        self.ended[job.rule] += 1
        self.seconds[job.rule] += now - job.started
        done, total = self.ended.total(), self.planned.total()
        left = f", about {_duration(self._seconds_left(now))} left" if done < total else ""
        told = f"{job.message} ({_duration(now - job.started)}{left})"
        return _line(now, f"{done:>{len(str(total))}}/{total}", told)

    def format_job_error(self, msg: dict[str, Any]) -> str:
        """That a job has failed, and its log: without the list of its files."""
        return str(super().format_job_error(msg | {"input": [], "output": []}))

    def _note_start(self, record: logging.LogRecord) -> bool:
        """Remember that a job has started; whether it is the first of its rule."""
        told = record.__dict__
        rule, started = told["rule_name"], record.created
        self.running[told["jobid"]] = Job(rule, told["rule_msg"] or rule, started)
        self.first_start = started if self.first_start is None else self.first_start
        is_first = rule not in self.begun and self.planned[rule] > 0
        self.begun.add(rule)
        return is_first

    def _seconds_left(self, now: float) -> float:
        """Estimated from the mean of each rule's jobs so far, and how many jobs run at a time."""
        assert self.first_start is not None
        busy = self.seconds.total()
        mean = busy / self.ended.total()  # for rules of which no job has ended yet
        left = sum(
            (number - self.ended[rule])
            * (self.seconds[rule] / self.ended[rule] if self.ended[rule] else mean)
            for rule, number in self.planned.items()
        )
        at_a_time = max(1.0, busy / max(now - self.first_start, 1e-3))
        return left / at_a_time


def show_one_line_per_job(logger: logging.Logger) -> None:
    """Let Snakemake's logger show `OneLinePerJob` on the terminal.

    Nothing changes in a dry run, with `--verbose`, or with a logger plugin.

    Args:
        logger: `snakemake.logging.logger`.
    """
    for handler in logger.handlers:
        own = handler.formatter
        asked_for_more = any(
            isinstance(one, DefaultFilter) and (one.dryrun or one.verbose)
            for one in handler.filters
        )
        if handler.name == HANDLER and isinstance(own, DefaultFormatter) and not asked_for_more:
            lines = OneLinePerJob(show_failed_logs=own.show_failed_logs)
            handler.addFilter(lines)
            handler.setFormatter(lines)


def _line(now: float, what: str, told: str) -> str:
    return f"{time.strftime('%H:%M:%S', time.localtime(now))}  {what:<8} {told}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

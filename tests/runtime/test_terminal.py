"""The terminal shows a line for each job, the number left, and the reason of a failure."""

import logging

import pytest
from snakemake.logging import DefaultFilter, DefaultFormatter, LogEvent

from vtclip.runtime.dry_run import DryRun
from vtclip.runtime.terminal import HANDLER, OneLinePerJob, show_summaries


class Terminal:
    """The lines that are shown, and a clock."""

    def __init__(self):
        self.lines, self.now, self.formatter = [], 1000.0, OneLinePerJob(show_failed_logs=False)

    def __call__(self, event, msg=None, **values):
        record = logging.makeLogRecord(
            {"msg": msg, "levelno": logging.INFO, "event": event, "created": self.now, **values}
        )
        if self.formatter.filter(record):
            self.lines.append(self.formatter.format(record))

    def start(self, number, rule, message):
        self(LogEvent.JOB_INFO, jobid=number, rule_name=rule, rule_msg=message, indent=False)

    def end(self, number):
        self(LogEvent.JOB_FINISHED, f"Finished jobid: {number}", job_id=number)


@pytest.fixture
def terminal():
    terminal = Terminal()
    terminal(LogEvent.RUN_INFO, "Job stats", stats={"draw": 1, "train": 3, "total": 4})
    return terminal


def test_each_job_that_ends_is_a_line_with_its_time_and_how_many_of_how_many(terminal):
    terminal.start(1, "train", "Training vt_clip on digits")
    terminal.now += 7
    terminal.end(1)
    assert "1/4" in terminal.lines[-1]
    assert "Training vt_clip on digits (7 s," in terminal.lines[-1]


def test_the_start_is_shown_of_the_first_job_of_each_rule_alone(terminal):
    for number in (1, 2, 3):
        terminal.start(number, "train", f"Training {number}")
    terminal.start(4, "draw", "Drawing")
    starts = [line.split("starts")[1].strip() for line in terminal.lines if "starts" in line]
    assert starts == ["Training 1", "Drawing"]


def test_the_time_left_is_that_of_the_jobs_of_each_rule(terminal):
    terminal.start(1, "draw", "Drawing")
    terminal.now += 1000
    terminal.end(1)
    terminal.start(2, "train", "Training")
    terminal.now += 10
    terminal.end(2)
    assert "about 20 s left" in terminal.lines[-1]


def test_the_time_left_is_shorter_where_jobs_run_side_by_side(terminal):
    for number in (1, 2):
        terminal.start(number, "train", "Training")
    terminal.now += 100
    for number in (1, 2):
        terminal.end(number)
    # One training and one drawing, which is taken for as long, two at a time.
    assert "about 2 min left" in terminal.lines[-1]


def test_the_last_line_has_no_time_left(terminal):
    for number in range(4):
        terminal.start(number, "train" if number else "draw", "Working")
        terminal.now += 1
        terminal.end(number)
    assert terminal.lines[-1].endswith("4/4      Working (1 s)")


def test_snakemakes_records_of_each_step_stay_in_its_log(terminal):
    before = list(terminal.lines)
    terminal(LogEvent.WORKFLOW_STARTED)
    terminal(LogEvent.PROGRESS, done=1, total=4)
    terminal(None, "Select jobs to execute...")
    assert terminal.lines == before


def test_other_messages_are_shown(terminal):
    terminal(None, "Provided cores: 2")
    assert terminal.lines[-1] == "Provided cores: 2"


def test_a_failed_job_is_shown_with_its_log_and_without_its_files(terminal):
    terminal(
        LogEvent.JOB_ERROR, "failed", rule_name="train", rule_msg="Training", jobid=1,
        input=["a.parquet"], output=["head.safetensors"], log=["logs/a.log"],
        conda_env=None, shellcmd=None, aux={}, indent=False,
    )  # fmt: skip
    assert "logs/a.log" in terminal.lines[-1]
    assert "a.parquet" not in terminal.lines[-1]


@pytest.mark.parametrize(
    ("dryrun", "verbose", "name", "kind"),
    [
        (False, False, HANDLER, OneLinePerJob),
        (True, False, HANDLER, DryRun),
        (False, True, HANDLER, DefaultFormatter),
        (True, True, HANDLER, DefaultFormatter),
        (False, False, "a plugin's", DefaultFormatter),
    ],
)
def test_a_dry_run_has_its_table_and_a_verbose_run_and_another_logger_snakemakes_messages(
    dryrun, verbose, name, kind
):
    logger, handler = logging.Logger("snakemake's"), logging.StreamHandler()
    handler.name = name
    handler.setFormatter(DefaultFormatter(set(), False))
    handler.addFilter(DefaultFilter(set(), False, verbose, dryrun, False))
    logger.addHandler(handler)
    show_summaries(logger)
    assert type(handler.formatter) is kind

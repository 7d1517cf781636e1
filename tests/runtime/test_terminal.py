"""The terminal shows a line for each job, the number left, and the reason of a failure."""

import logging

import pytest
from snakemake.jobs import Reason
from snakemake.logging import DefaultFilter, DefaultFormatter, LogEvent
from snakemake.persistence import ParamsChange

from vtclip.runtime.terminal import HANDLER, DryRun, OneLinePerJob, name_reason, show_summaries


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


def test_of_snakemakes_messages_those_of_each_step_stay_in_its_log(terminal):
    before = list(terminal.lines)
    terminal(LogEvent.WORKFLOW_STARTED)
    terminal(LogEvent.PROGRESS, done=1, total=4)
    terminal(None, "Select jobs to execute...")
    terminal(None, "Provided cores: 2")
    assert terminal.lines == [*before, "Provided cores: 2"]


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


def show(jobs):
    """The lines that are shown of (rule, dataset, reason) in this order."""
    formatter, lines = DryRun(), []
    records = [
        {"msg": "Job stats", "event": LogEvent.RUN_INFO},
        *(
            {
                "msg": "A job", "event": LogEvent.JOB_INFO, "rule_name": rule, "reason": reason,
                "wildcards": {"dataset": dataset} if dataset else None,
                "output": [] if rule == "all" else ["a"],
            }
            for rule, dataset, reason in jobs
        ),
        {"msg": "Job stats", "event": LogEvent.RUN_INFO},
        {"msg": "Reasons:\n    (check individual jobs above for details)\n    forced: train"},
        {"msg": "This was a dry-run (flag -n)."},
    ]  # fmt: skip
    for each in records:
        record = logging.makeLogRecord(each)
        if formatter.filter(record):
            lines += formatter.format(record).splitlines()
    return lines


def test_a_rule_has_a_line_for_each_dataset_with_the_number_of_jobs_and_the_reason():
    lines = show(
        [("train_head", "digits", "Missing output files: a")] * 150
        + [("sample", "letters", "Missing output files: " + "b" * 1000)]
        + [("train_head", "letters", "Missing output files: a")] * 2
        + [("train_head", "letters", "Forced execution")]
        + [("report", "", "Input files updated by another job: c")]
        + [("all", "", "Input files updated by another job: report.html")]
    )
    assert [line.split(maxsplit=3) for line in lines[1:4]] == [
        ["train_head", "digits", "150", "new"],
        ["train_head", "letters", "3", "2 new; 1 forced"],
        ["sample", "letters", "1", "new"],
    ]
    assert lines[4].split(maxsplit=2) == ["report", "1", "input changed"]
    assert lines[5].split() == ["all", "1"], "it makes nothing, so it has no reason"
    assert lines[6].split()[:2] == ["total", "156"]
    assert "--verbose" in lines[6]
    assert lines[7:] == ["This was a dry-run (flag -n)."]


def test_with_quiet_rules_there_is_snakemakes_own_table():
    assert show([]) == ["Job stats", "This was a dry-run (flag -n)."]


def reason(**given):
    """Snakemake's text for a reason."""
    found = Reason()
    for name, value in given.items():
        setattr(found, name, value)
    return str(found)


def params(old, new):
    """A change of params, which Snakemake keeps as `repr` writes them."""
    return reason(params_changed=ParamsChange(set(map(repr, old)), set(map(repr, new)), {"a"}))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (reason(forced=True), "forced"),
        (reason(nooutput=True), "always"),
        (params(["0123456789abcdef"], ["fedcba9876543210"]), "code changed"),
        (params([], ["fedcba9876543210"]), "code changed"),
        (params([{"epochs": 20}], [{"epochs": 30}]), "settings changed"),
        (params([], [16]), "settings changed"),
        (params(["0123456789abcdef", 2], ["fedcba9876543210", 3]), "settings and code changed"),
        (params(["images 0123456789abcdef"], ["images 1123456789abcdef"]), "images changed"),
        (params([1], [2]) + "; Software environment definition has changed", None),
    ],
)
def test_a_reason_is_said_in_words(said, words):
    assert name_reason(said) == (words or "settings changed, environment changed")

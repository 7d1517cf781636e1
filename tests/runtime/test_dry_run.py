"""A dry run shows a line for each rule and dataset, with the reason in words."""

import logging

import pytest
from snakemake.jobs import Reason
from snakemake.logging import LogEvent
from snakemake.persistence import ParamsChange

from vtclip.runtime.dry_run import DryRun, name_reason


def show(jobs):
    """The lines that are shown of (rule, dataset, reason) in this order."""
    formatter, lines = DryRun(), []
    records = [
        {"msg": "Job stats", "event": LogEvent.RUN_INFO},
        *(
            {
                "msg": "A job", "event": LogEvent.JOB_INFO, "rule_name": rule, "reason": reason,
                "wildcards": {"dataset": dataset} if dataset else None,
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
    )
    assert [line.split(maxsplit=3) for line in lines[1:4]] == [
        ["train_head", "digits", "150", "new"],
        ["train_head", "letters", "3", "2 new; 1 forced"],
        ["sample", "letters", "1", "new"],
    ]
    assert lines[4].split(maxsplit=2) == ["report", "1", "input changed"]
    assert lines[5].split()[:2] == ["total", "155"]
    assert "--verbose" in lines[5]
    assert lines[6:] == ["This was a dry-run (flag -n)."]


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

"""Run an experiment in the current folder: Snakemake, on the workflow of this package.

CONFIG is a file, or the name of one in config/ here or in the package. What begins with the first
option goes to Snakemake as it is. Without --cores, and without a profile that names them, all cores
are used.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from itertools import takewhile
from pathlib import Path

from vtclip import paths
from vtclip.runtime.environment import check_cache
from vtclip.settings import ConfigError, unknown
from vtclip.wording import did_you_mean

HELP = "run an experiment"
EXAMPLES = """examples:
  vtclip run demo
  vtclip run demo all-methods --cores 2
  vtclip run paper --cores 8 --resources gpu=2
  vtclip run config/birds.yaml -n
"""

# argparse's exit status and words.
USAGE_ERROR = 2
UNRECOGNISED = "unrecognized arguments: "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("config", metavar="CONFIG", help="the configuration; several are merged")
    options = parser.add_argument(
        "options",
        metavar="OPTION",
        nargs=argparse.REMAINDER,
        help="options of Snakemake, and after them its targets: `snakemake --help`",
    )
    options.required = False  # nor does the error without CONFIG name it


def run(given: argparse.Namespace) -> int:
    """Let Snakemake take the place of this process."""
    from vtclip.plan.checks import check_files  # a third of the time in which any command starts

    check_cache()
    others = list(takewhile(lambda word: not word.startswith("-"), given.options))
    configs = [find(name) for name in (given.config, *others)]
    check_files(configs)  # Snakemake ends in a traceback, or names neither file nor line
    arguments = make_arguments(configs, given.options[len(others) :])
    # -P: no module of the current folder is taken for one of a library.
    os.execv(sys.executable, [sys.executable, "-Pm", "snakemake", *arguments])  # noqa: S606


def find(name: str) -> str:
    """Find a configuration; ConfigError names those that there are."""
    file = paths.find_config(name)
    if not Path(file).is_file():
        folders = (Path("config"), paths.PROJECT / "config")
        known = {found.stem for folder in folders for found in folder.glob("*.yaml")}
        raise unknown("configuration", name, known | {"paper"}, source="CONFIG")
    return file


def make_arguments(configs: Sequence[str], options: Sequence[str]) -> list[str]:
    """Make Snakemake's arguments; it takes all words after `--configfile` for configurations."""
    snakefile = str(paths.PROJECT / "Snakefile")
    arguments = ["--snakefile", snakefile, *options, "--configfile", *configs]
    return ["--cores", "all", *arguments] if _lacks_cores(arguments) else arguments


def _lacks_cores(arguments: Sequence[str]) -> bool:
    """Check that neither the options nor a profile limit the jobs that run at a time.

    ConfigError says which option is wrong in one line; Snakemake would print all it has before.
    """
    from snakemake.cli import parse_args

    output = io.StringIO()
    try:
        with redirect_stdout(output), redirect_stderr(output):
            _, found = parse_args(list(arguments))
    except SystemExit as end:
        if end.code == USAGE_ERROR:
            raise ConfigError(explain_usage(output.getvalue())) from None
        return False  # of --help
    except Exception:  # Snakemake itself explains it
        return False
    return found.cores is None and found.jobs is None


def explain_usage(output: str) -> str:
    """The reason at the end of a usage error, with the nearest option for one that is unknown."""
    from snakemake.cli import get_argument_parser

    reason = output.strip().rpartition(": error: ")[-1]
    hint = ""
    if reason.startswith(UNRECOGNISED):
        known = (text for a in get_argument_parser()._actions for text in a.option_strings)
        hint = did_you_mean(reason.removeprefix(UNRECOGNISED).split()[0].partition("=")[0], known)
    return f"{reason}.{hint} `snakemake --help` lists the options."

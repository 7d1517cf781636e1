"""The command `vtclip`."""

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from vtclip import __version__
from vtclip.cli import check, classify, export, init, new, picks, run, serve, status
from vtclip.runtime.job import lacks_memory
from vtclip.wording import bound

COMMANDS = (run, init, new, check, status, picks, classify, export, serve)

DESCRIPTION = """\
Run an experiment, see its progress, and use the heads that it has trained.

In a clone, Snakemake's own command runs an experiment too:
  snakemake --cores 8 --configfile config/demo.yaml
"""

EPILOG = "`vtclip COMMAND --help` describes a command, with examples."


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="vtclip",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vtclip {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where an error comes from")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2]
        subparser = commands.add_parser(
            name,
            help=command.HELP,
            description=command.__doc__,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run, usage_error=subparser.error)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, of the process's arguments if none are given, and return its exit status.

    It is 1 where some of the images could not be classified, where a job of the experiment has
    failed, or where the output is no longer read; and 2 after an error.
    """
    for output in (sys.stdout, sys.stderr):
        if isinstance(output, io.TextIOWrapper):  # UTF-8 as all files, and names that are not
            output.reconfigure(encoding="utf-8", errors="backslashreplace")
    logging.basicConfig(format="%(message)s")  # before a library does, with more before a warning
    given, others = make_parser().parse_known_args(arguments)
    if others:
        given.usage_error(f"unrecognized arguments: {' '.join(others)}; what comes first is above")
    try:
        code = given.run(given)
        print(end="", flush=True)
        return code
    except BrokenPipeError:  # the reader of the output, such as `head`, has read enough
        _end_output()
        return 1
    # Of a full disk, a lack of memory or a network, libraries raise many kinds of errors.
    except Exception as error:
        if given.traceback:
            traceback.print_exc()
        print(f"vtclip: {bound(describe_error(error))}", file=sys.stderr)
        _end_output()
        return 2
    except KeyboardInterrupt:
        return 130


def describe_error(error: Exception) -> str:
    """The message of this package's errors and the system's; of any other kind its first line."""
    if lacks_memory(error):
        return f"out of memory: {str(error) or 'it needs more than this machine has free'}"
    if isinstance(error, (ValueError, OSError, RuntimeError)):
        return str(error)
    first, *_ = [*str(error).strip().splitlines(), ""]
    return f"{type(error).__name__}: {first} (`vtclip --traceback` shows where)"


def _end_output() -> None:
    """Send what is left of the output nowhere: Python would try to write it as it ends."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())

"""The command `vtclip`."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

from vtclip import __version__
from vtclip.cli import classify, export, new, status

COMMANDS = (new, status, classify, export)

DESCRIPTION = """\
Start an experiment, see its progress, and use the heads that it has trained.

Snakemake runs the experiment itself:
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
        subparser.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: left out, those of the process.

    Returns:
        The exit status: 0; 1 where some of the images could not be classified, where a job of the
        experiment has failed, or where the output is no longer read; 2 after an error.
    """
    given = make_parser().parse_args(arguments)
    try:
        code = given.run(given)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of the output, such as `head`, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError, RuntimeError) as error:  # all kinds that this package raises
        if given.traceback:
            traceback.print_exc()
        print(f"vtclip: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

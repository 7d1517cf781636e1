"""Write the images that an experiment's runs train on, for others to use the same ones.

There is a list for each dataset, number of shots and seed, as JSON lines, in results/<name>/picks/,
and SHA256SUMS beside them, which `sha256sum --check` reads. `picks: <folder>` in a configuration
uses lists in this form.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vtclip.cli.status import read_plan
from vtclip.wording import count

HELP = "write the images that the runs of an experiment train on"
EXAMPLES = """examples:
  vtclip picks config/demo.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "configs", metavar="CONFIG", nargs="+", help="the configuration files; several are merged"
    )


def run(given: argparse.Namespace) -> int:
    """Write the lists that the experiment has drawn or matched."""
    from vtclip.data.shots import write_picks
    from vtclip.files import write_text
    from vtclip.parquet import read_parquet

    plan = read_plan(given.configs)
    missing = [sample for sample in plan.picks.values() if not Path(sample).is_file()]
    if missing:
        raise ValueError(
            f"{missing[0]}: the images of {len(missing)} of {len(plan.picks)} runs are not there "
            "yet. Run the experiment first."
        )
    folder = Path(plan.paths.folder, "picks")
    sums = [
        f"{write_picks(read_parquet(sample), folder / name)}  {name}\n"
        for name, sample in plan.picks.items()
    ]
    write_text(folder / "SHA256SUMS", "".join(sums))
    print(f"{folder}: {count(len(sums), 'list')}, and SHA256SUMS")
    return 0

"""A copy of the project, and what Snakemake plans and does there."""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
DEMO = ("config/demo.yaml",)
SHOTS, SEEDS = (1, 16), (1, 2)  # of the embedded experiment as tests run it
# Messages of the rules that only collect what other rules make.
GOALS = {"Everything that the configuration requests", "Everything that has to be fetched"}
PARTS = ("Snakefile", "workflow", "profiles", "vtclip", "config", "environment.yml")


@dataclass(frozen=True)
class Project:
    """A copy of the project that a test may run and change."""

    folder: Path
    python: str = sys.executable  # the interpreter that runs it

    def command(self, *arguments: str, config: Sequence[str] = DEMO) -> list[str]:
        # `--configfile` takes all names that follow it: targets must come before.
        cores = ("--cores", str(os.cpu_count()))
        return [self.python, "-m", "snakemake", *cores, *arguments, "--configfile", *config]

    def snakemake(self, *arguments: str, config: Sequence[str] = DEMO):
        """Run Snakemake, with both outputs in `stdout`."""
        return subprocess.run(
            self.command(*arguments, config=config),
            cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False, timeout=1500,
        )  # fmt: skip

    def run(self, *arguments: str, config: Sequence[str] = DEMO) -> str:
        """Run Snakemake and return its output; a failure fails the test."""
        done = self.snakemake(*arguments, config=config)
        assert done.returncode == 0, done.stdout[-5000:]
        return done.stdout

    def plan(self, *config: str) -> set[str]:
        """The messages of the jobs that a dry run plans."""
        said = self.run("--dry-run", "--verbose", config=config or DEMO)
        # A job that may share a submission is shown inside its group, indented.
        return set(re.findall(r"^ *Job \d+: (.*)$", said, flags=re.MULTILINE)) - GOALS

    def leases(self) -> dict[str, list[tuple[datetime, datetime]]]:
        """GPU -> (from, to) of each job that leased it, from the jobs' logs."""
        leased = defaultdict(list)
        line = re.compile(
            r"^(\S+ \S+) INFO vtclip.runtime.devices: GPU (\S+), slot \d+: (taken|given back)"
        )
        for log in (self.folder / "logs").rglob("*.log"):
            taken = {}
            for found in filter(None, map(line.match, log.read_text().splitlines())):
                when = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f")
                if found[3] == "taken":
                    taken[found[2]] = when
                else:
                    leased[found[2]].append((taken.pop(found[2]), when))
        return leased

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new))

    def copy(self, folder: Path) -> "Project":
        """Copy it with results and modification times."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)


def make_interpreter(folder: Path) -> tuple[Path, Path]:
    """A new Python without packages: the interpreter, and where they go."""
    venv.create(folder, symlinks=True, with_pip=False)
    return folder / "bin" / "python", next(folder.glob("lib/python*/site-packages"))

"""The pages that users read, and the commands in them."""

import re
from pathlib import Path

from tests.project import ROOT

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [ROOT / "README.md", CONTRIBUTING, *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """The commands of a page; continued lines are one command."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [" ".join(line.split()) for line in lines if line]


def not_run() -> dict[str, str]:
    """The commands that no test runs, according to CONTRIBUTING.md -> why."""
    table = CONTRIBUTING.read_text().partition("| command that no test runs |")[2]
    rows = re.findall(r"^\| `(.*?)` \| (.*?) \|$", table, re.MULTILINE)
    return dict(rows)

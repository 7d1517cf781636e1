"""The pages that users read, and the commands in them."""

import re
from pathlib import Path

from tests.project import ROOT

CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [ROOT / "README.md", CONTRIBUTING, *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> list[str]:
    """The commands of a page; one that goes on in the next line is one."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [" ".join(line.split()) for line in lines if line]


def not_run() -> dict[str, str]:
    """The commands that CONTRIBUTING.md says no test runs, each with its reason."""
    table = CONTRIBUTING.read_text().partition("| command that no test runs |")[2]
    rows = re.findall(r"^\| `(.*?)` \| (.*?) \|$", table, re.MULTILINE)
    return dict(rows)

"""Copy the package's configurations and profiles into a folder, to be edited there.

FOLDER gets config/ and profiles/. What lies there comes before what the package has: experiments,
datasets, published numbers, and the default profile. Your own methods go into FOLDER/methods/.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from vtclip import paths
from vtclip.settings import ConfigError

HELP = "copy configurations and profiles, to be edited"
EXAMPLES = """examples:
  vtclip init few-shot
  vtclip init .
"""

PARTS = ("config", "profiles")
LEFT_OUT = "backbones"  # weights of the demo, which nobody edits


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("folder", metavar="FOLDER", help="a folder, which is made if needed")


def run(given: argparse.Namespace) -> int:
    """Copy the files; a folder that is there already is refused."""
    folder = Path(given.folder)
    for part in PARTS:
        if (folder / part).exists():
            raise ConfigError(
                f"{folder / part} already exists: choose another folder, or move it away."
            )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".init.", dir=folder) as private:
        for part in PARTS:
            copy_files((paths.PROJECT / part).resolve(), Path(private, part))
        for part in PARTS:
            Path(private, part).rename(folder / part)
    print(
        f"Wrote {folder / 'config'} and {folder / 'profiles'}.\n"
        f"Next: vtclip run demo, in {folder.absolute()}"
    )
    return 0


def copy_files(source: Path, destination: Path) -> None:
    """Copy the contents of files, and not their permissions: a package may be read-only."""
    for file in source.rglob("*"):
        if file.is_file() and LEFT_OUT not in file.parts:
            copy = destination / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)

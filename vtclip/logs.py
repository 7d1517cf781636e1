"""What a job says: everything into its log, an error also, in short, to the person who waits."""

import logging
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO, TypeVar

from tqdm import tqdm

TOLD = logging.getLogger(f"{__name__}.told")

Item = TypeVar("Item")


@contextmanager
def job_log(path: str | Path) -> Iterator[None]:
    """Send a job's output to its log file, and name log and reason on the terminal if it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", buffering=1) as log, _telling(sys.__stderr__):
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
        with redirect_stdout(log), redirect_stderr(log):
            try:
                yield
            except Exception as error:
                traceback.print_exc()
                _tell(sys.__stderr__, path, error)
                raise SystemExit(1) from None


def progress(items: Iterable[Item], *, what: str, total: int | None = None) -> Iterator[Item]:
    """Go through `items` with a bar on a terminal, and a plain line every 10 s in a log."""
    terminal = sys.stderr.isatty()
    bar = tqdm(
        items,
        desc=what,
        total=total,
        file=sys.stderr,
        mininterval=0.1 if terminal else 10,
        maxinterval=10,
        ascii=not terminal,
        leave=True,
        bar_format=None
        if terminal
        else "{desc}: {n_fmt}/{total_fmt} {rate_fmt} {remaining} left\n",
    )
    yield from bar


def tell(message: str) -> None:
    """Say something in a job's log, and on the terminal too, for the person who waits."""
    TOLD.warning(message)


@contextmanager
def _telling(terminal: TextIO | None) -> Iterator[None]:
    """Let `tell` reach the terminal."""
    handler = logging.StreamHandler(terminal)
    TOLD.addHandler(handler)
    try:
        yield
    finally:
        TOLD.removeHandler(handler)


def _tell(terminal: TextIO | None, log: Path, error: Exception) -> None:
    if terminal is not None:
        print(f"\n{type(error).__name__}: {error}\n(the whole story: {log})\n", file=terminal)

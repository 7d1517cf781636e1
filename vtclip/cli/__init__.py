"""The subcommands of `vtclip`: what each takes and prints; here, the options of several."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def add_backbone(parser: argparse.ArgumentParser) -> None:
    """Add the option of the weights that a head goes with."""
    parser.add_argument(
        "--backbone",
        metavar="FILE",
        help="the backbone's weights (default: those in HEAD or in resources/backbones/)",
    )


def add_device(parser: argparse.ArgumentParser, *, to: str = "compute") -> None:
    """Add the option of the device."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "mps"),
        default="auto",
        help=f"where to {to} (default: a GPU if there is one)",
    )


def add_rules(parser: argparse.ArgumentParser) -> None:
    """Add the options of sets and refusals."""
    parser.add_argument(
        "--coverage",
        type=float,
        metavar="C",
        help="share of images whose set is to contain the true class, such as 0.9",
    )
    parser.add_argument(
        "--by-class",
        action="store_true",
        help="with --coverage: for each class that has enough calibration images by itself",
    )
    parser.add_argument(
        "--refuse",
        type=float,
        metavar="R",
        help="share of images of the known classes that may be refused, such as 0.05",
    )


@contextmanager
def take_device(wanted: str) -> Iterator[torch.device | str]:
    """Lease a device; with "auto" the CPU, and not a wait, where no GPU is free."""
    from vtclip.runtime.devices import lease_device
    from vtclip.runtime.gpus import NoDeviceError

    with ExitStack() as leases:
        device: torch.device | str = "cpu"
        try:
            device = leases.enter_context(lease_device(wanted, slots=None, waits=wanted != "auto"))
        except NoDeviceError as error:
            if wanted != "auto":
                raise
            print(f"{error}\nComputing on the CPU.", file=sys.stderr)
        yield device


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, found '{text}'")
    return int(text)

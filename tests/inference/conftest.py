"""The heads of the command line's tests."""

from tests.cli.conftest import here, made

__all__ = ["here", "made"]

"""The command line: `condery`."""

from registry.cli.app import main

__all__ = ["main"]

"""The directories of the user who runs condery, by the XDG base directory specification."""

from __future__ import annotations

import os
from pathlib import Path


def default_data_directory() -> Path:
    """`$XDG_DATA_HOME/condery`."""
    return _user_directory("XDG_DATA_HOME", ".local/share")


def cache_directory() -> Path:
    """`$XDG_CACHE_HOME/condery`: files that can be fetched again, shared by everything that one user runs."""
    return _user_directory("XDG_CACHE_HOME", ".cache")


def _user_directory(variable: str, otherwise: str) -> Path:
    home = os.environ.get(variable)
    return (Path(home) if home else Path.home() / otherwise) / "condery"

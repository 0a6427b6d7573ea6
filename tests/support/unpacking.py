"""Unpacks archives that the tests made themselves."""

from __future__ import annotations

import tarfile
from pathlib import Path


def extract_all(archive: tarfile.TarFile, directory: Path, *, numeric_owner: bool = False) -> None:
    """Extract as archived, owners and modes included; Debian 12's Python lacks filters, newer ones require one."""
    if hasattr(tarfile, "fully_trusted_filter"):
        archive.extractall(directory, numeric_owner=numeric_owner, filter="fully_trusted")
    else:
        archive.extractall(directory, numeric_owner=numeric_owner)

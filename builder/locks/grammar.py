"""What a package's names may consist of. They become file names, addresses and documents."""

from __future__ import annotations

import re

NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*")
VERSION = re.compile(r"[A-Za-z0-9_.!+-]+")
BUILD = re.compile(r"[A-Za-z0-9_.+]+")
FILE_NAME = re.compile(r"[A-Za-z0-9_.!+-]+\.(conda|tar\.bz2)")
SITE_PACKAGES = re.compile(r"(?!/)[A-Za-z0-9_./+-]+")
LONGEST = 240
"""Characters of a name with its version and build. With `.json` appended, it is a file name in the image."""
LARGEST = 1 << 40
"""Bytes of an archive."""


def is_site_packages(path: str) -> bool:
    """Whether it is a path under the prefix."""
    return SITE_PACKAGES.fullmatch(path) is not None and ".." not in path.split("/")

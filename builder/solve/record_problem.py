"""What is wrong with a package's record in a channel's index, which becomes file names, addresses and documents."""

from __future__ import annotations

import re

from builder.locks.lock import LockedPackage

_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*")
_VERSION = re.compile(r"[A-Za-z0-9_.!+-]+")
_BUILD = re.compile(r"[A-Za-z0-9_.+]+")
_FILE_NAME = re.compile(r"[A-Za-z0-9_.!+-]+\.(conda|tar\.bz2)")
_SITE_PACKAGES = re.compile(r"(?!/)[A-Za-z0-9_./+-]+")
_LONGEST = 240
"""Characters of a name with its version and build: with `.json` behind it, it is a file in the image."""
_LARGEST = 1 << 40
"""Bytes."""
_SHOWN = 60


def find_record_problem(package: LockedPackage, platform: str) -> str | None:
    """Why `package` must not be had from a channel for `platform`, as the end of a sentence; None when it is sound."""
    for what, value, pattern in (
        ("name", package.name, _NAME),
        ("version", package.version, _VERSION),
        ("build", package.build, _BUILD),
        ("file name", package.file_name, _FILE_NAME),
    ):
        if not pattern.fullmatch(value):
            return f"its channel's index says that its {what} is {quote(value)}, which is none"
    if max(len(str(package)), len(package.file_name)) > _LONGEST:
        return f"its name, version and build have more than {_LONGEST} characters in its channel's index"
    if package.subdir not in (platform, "noarch"):
        return f"its channel's index has it for {platform} and says that it is for {quote(package.subdir)}"
    if not (package.sha256 or package.md5):
        return "its channel's index has neither sha256 nor md5 of it"
    if package.size is not None and not 0 < package.size <= _LARGEST:
        return f"its channel's index says that it has {package.size} bytes"
    site_packages = package.python_site_packages_path
    if site_packages is not None and not (
        _SITE_PACKAGES.fullmatch(site_packages) and ".." not in site_packages.split("/")
    ):
        return (
            f"its channel's index says that python packages go to {quote(site_packages)}, which is not a path below it"
        )
    return None


def quote(text: str) -> str:
    """Foreign text for a terminal: quoted, with no control characters, not long."""
    return ascii(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")

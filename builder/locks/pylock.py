"""The PyPI packages of a lock as a `pylock.toml` (PEP 751), for one platform and its version of python."""

from __future__ import annotations

import datetime
from typing import Any

import tomli_w

from builder.errors import FormatUnsuitable
from builder.locks.lock import Lock, LockedPackage, list_wheels

FILE_NAME = "pylock.toml"
VERSION = "1.0"


def write_pylock(lock: Lock, platform: str) -> bytes:
    """Write the wheels of `platform`. What conda provides is no part of it. Equal locks give equal bytes.

    Raises FormatUnsuitable for a lock without PyPI packages.
    """
    packages = lock.packages[platform]
    wheels = sorted(list_wheels(packages), key=lambda package: package.title)
    if not wheels:
        raise FormatUnsuitable(FILE_NAME, "the format holds PyPI packages, and this environment has none")
    python = next((package.version for package in packages if package.name == "python"), None)
    document: dict[str, Any] = {
        "lock-version": VERSION,
        **({"requires-python": f"=={'.'.join(python.split('.')[:2])}.*"} if python else {}),
        "created-by": "condery",
        "packages": [_write_package(package) for package in wheels],
        "tool": {"condery": {"lock": f"lock-{lock.key}", "platform": platform}},
    }
    return tomli_w.dumps(document).encode()


def _write_package(package: LockedPackage) -> dict[str, Any]:
    return {
        "name": package.title,
        "version": package.version,
        **({"requires-python": package.requires_python} if package.requires_python else {}),
        "index": package.channel,
        "wheels": [_write_wheel(package)],
    }


def _write_wheel(package: LockedPackage) -> dict[str, Any]:
    uploaded = package.dates.timestamp
    return {
        "name": package.file_name,
        **({"upload-time": datetime.datetime.fromtimestamp(uploaded / 1000, datetime.UTC)} if uploaded else {}),
        "url": package.url,
        **({"size": package.size} if package.size is not None else {}),
        "hashes": {"sha256": package.sha256},
    }

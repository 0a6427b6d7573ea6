"""What an archive's own `info/index.json` says of the package, for locks that come from nobody's index.

A lock that somebody sent names archives by address and hash. Whether it has another package's hash, and what it says of
licence, age and dependencies, is found out here: rules judge what the archive says, and so does whoever reads
`conda-meta` later. A channel's index may say something newer; a lock has no index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builder.archives.archive import ArchiveLimits, InfoFile, read_info, verify
from builder.errors import PackageRefused
from builder.locks.grammar import is_site_packages
from builder.locks.lock import LockedPackage
from builder.packages.listing import read_json, read_noarch
from builder.work.worker import working_on
from storage.errors import quote

_INDEX = "index.json"
_MOST_SPECS = 1000
_LONGEST = 1000
_LARGEST_NUMBER = 1 << 53


def complete_all(
    packages: Sequence[LockedPackage], paths: Sequence[Path], limits: ArchiveLimits
) -> list[LockedPackage]:
    """Complete several packages, so that a worker process is called once for all of them."""
    return [complete(package, path, limits) for package, path in zip(packages, paths, strict=True)]


def complete(package: LockedPackage, path: Path, limits: ArchiveLimits) -> LockedPackage:
    """Return `package` with what its archive at `path` says.

    Raises PackageRefused for an archive of another hash, or of another name, version or build.
    """
    name = str(package)
    with working_on(name):
        verify(path, name, package.size, package.sha256, package.md5)
        found = read_info(path, name, (_INDEX,), _has_index, limits).files
        index = read_json(name, found, _INDEX)
    for key in ("name", "version", "build"):
        if index.get(key) != getattr(package, key):
            raise PackageRefused(name, f"the archive that its lock names says {key} {quote(str(index.get(key)), 80)}")
    return replace(
        package,
        build_number=_read_number(name, index, "build_number") or 0,
        size=path.stat().st_size,
        depends=_read_specs(name, index, "depends"),
        constrains=_read_specs(name, index, "constrains"),
        license=_read_text(name, index, "license"),
        timestamp=_read_number(name, index, "timestamp"),
        noarch=read_noarch(name, index),
        python_site_packages_path=_read_site_packages(name, index),
    )


def _has_index(found: Mapping[str, InfoFile]) -> bool:
    return _INDEX in found


def _read_number(package: str, index: Mapping[str, Any], key: str) -> int | None:
    value = index.get(key)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _LARGEST_NUMBER:
        raise PackageRefused(package, f"its info/index.json has a {key} that is not a number")
    return int(value)


def _read_text(package: str, index: Mapping[str, Any], key: str) -> str | None:
    value = index.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise PackageRefused(package, f"its info/index.json has a {key} that is not a short text")
    return value


def _read_specs(package: str, index: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = index.get(key) or []
    if not isinstance(value, list) or len(value) > _MOST_SPECS:
        raise PackageRefused(package, f"its info/index.json has {key} that are not a list of at most {_MOST_SPECS}")
    if not all(isinstance(each, str) and 0 < len(each) <= _LONGEST for each in value):
        raise PackageRefused(package, f"its info/index.json has {key} that are not match specs")
    return tuple(value)


def _read_site_packages(package: str, index: Mapping[str, Any]) -> str | None:
    path = _read_text(package, index, "python_site_packages_path")
    if path is not None and not is_site_packages(path):
        raise PackageRefused(package, f"{quote(path, 80)}, its place of site-packages, is not a path under the prefix")
    return path

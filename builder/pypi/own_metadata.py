"""What a wheel's own METADATA says of it, for locks that come from nobody's index.

See `builder.packages.own_record`, which does the same for conda packages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from builder.archives.archive import ArchiveLimits, verify
from builder.errors import PackageRefused
from builder.locks.lock import LockedPackage
from builder.packages.wheels.listing import read_metadata
from builder.pypi.core_metadata import parse_metadata
from builder.work.worker import working_on


def complete_wheels(
    packages: Sequence[LockedPackage], paths: Sequence[Path], limits: ArchiveLimits
) -> list[LockedPackage]:
    """Complete several wheels, so that a worker process is called once for all of them."""
    return [_complete(package, path, limits) for package, path in zip(packages, paths, strict=True)]


def _complete(package: LockedPackage, path: Path, limits: ArchiveLimits) -> LockedPackage:
    """Return `package` with what its wheel says. When it was uploaded, nobody says who can be believed.

    Raises PackageRefused for a wheel of another hash, or of another name, version or tags.
    """
    name = str(package)
    if not package.file_name.endswith(f"-{package.build}.whl"):
        raise PackageRefused(name, "its file name has other tags than its lock says")
    with working_on(name):
        verify(path, name, package.size, package.sha256, package.md5)
        metadata = parse_metadata(read_metadata(path, package, limits), name)
    return replace(
        package,
        size=path.stat().st_size,
        depends=metadata.requires,
        constrains=(),
        license=metadata.license,
        timestamp=None,
        noarch=None,
        python_site_packages_path=None,
        requires_python=metadata.requires_python,
    )

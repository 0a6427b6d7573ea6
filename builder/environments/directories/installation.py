"""What is installed where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from builder.archives.archive import ArchiveLimits
from builder.environments.directories.cache import locate, set_aside
from builder.locks.lock import Lock, LockedPackage
from builder.packages.contents import PackageContents, PythonLayout
from builder.packages.placement import place
from storage.errors import PackagesGone

META = "conda-meta"
FROZEN = f"{META}/frozen"
"""The mark of CEP 22."""


@dataclass(frozen=True)
class Installation:
    """One platform's packages to install at `prefix`, in picklable form. They go into `folder`, which moves there."""

    packages: Path
    """The cache."""
    lock: Lock
    platform: str
    folder: Path
    prefix: Path
    limits: ArchiveLimits

    @property
    def python(self) -> PythonLayout | None:
        return PythonLayout.among(self.lock.packages[self.platform])

    def place(
        self, contents: PackageContents | None, package: LockedPackage, python: PythonLayout | None
    ) -> PackageContents:
        """Place what was read of a package. Raises PackageRefused, and PackagesGone if there was nothing to read."""
        if contents is None:
            set_aside(locate(self.packages, package))
            raise PackagesGone([str(package)])
        return place(contents, python, self.limits)

"""Where the paths of a package go for an environment's python."""

from __future__ import annotations

from dataclasses import replace

from builder.archives.archive import ArchiveLimits
from builder.errors import PackageRefused
from builder.packages.contents import PackageContents, PythonLayout
from builder.packages.paths import list_directories
from builder.packages.wheels.placement import place_wheel


def place(contents: PackageContents, python: PythonLayout | None, limits: ArchiveLimits) -> PackageContents:
    """Move the paths of a noarch python package or a wheel to where `python` looks for them. Raises PackageRefused."""
    if contents.wheel is not None:
        return place_wheel(contents, contents.wheel, python, limits)
    if contents.noarch != "python":
        return contents
    if python is None:
        raise PackageRefused(
            contents.package, "it is a noarch python package and the environment has no python; ask for python too"
        )
    site = f"{python.site_packages}/"
    targets = [
        site + source[14:]
        if source.startswith("site-packages/")
        else f"bin/{source[15:]}"
        if source.startswith("python-scripts/")
        else source
        for source in contents.sources
    ]
    placed = replace(contents, targets=targets, python=python)
    directories = list_directories(contents.package, targets, contents.kinds, bool(contents.entry_points), limits)
    return replace(placed, directories=directories)

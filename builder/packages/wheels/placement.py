"""Where the files of a wheel go (PEP 427; the scheme `posix_prefix` of Python's `sysconfig`)."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from builder.archives.archive import ArchiveLimits
from builder.errors import PackageRefused
from builder.packages.contents import PackageContents, PythonLayout, WheelFacts
from builder.packages.paths import list_directories
from builder.packages.wheels.commands import check_scripts, complete_commands
from storage.errors import quote

GENERATED = ("INSTALLER", "RECORD", "REQUESTED")
"""Files of the `.dist-info` directory that are written at installation, whatever the wheel has there."""

_FORBIDDEN = ("conda-meta/", "etc/conda/")
"""Where the records of conda packages are, and the scripts that run when an environment starts."""


def place_wheel(
    contents: PackageContents, facts: WheelFacts, python: PythonLayout | None, limits: ArchiveLimits
) -> PackageContents:
    """Move a wheel's paths to where `python` looks for them. Raises PackageRefused."""
    package = contents.package
    if python is None:
        raise PackageRefused(package, "it is a wheel and the environment has no python; ask for python too")
    move = _make_mover(facts, python)
    targets = [move(source) for source in contents.sources]
    folders = sorted({folder for each in facts.folders if (folder := move(each))})
    commands = complete_commands(contents.entry_points, python)
    own = f"{python.site_packages}/{facts.information}"
    generated = [f"{own}/{name}" for name in GENERATED]
    made = [*generated, *(f"bin/{entry.command}" for entry in commands)]
    files = [*targets, *made]
    _check(package, files, folders, python, own)
    directories = list_directories(package, [*files, *folders], "f" * len(files) + "d" * len(folders), False, limits)
    return replace(
        contents,
        targets=targets,
        directories=directories,
        entry_points=commands,
        python=python,
        wheel=replace(facts, folders=folders, generated=generated),
    )


def _make_mover(facts: WheelFacts, python: PythonLayout) -> Callable[[str], str]:
    site = python.site_packages
    data = facts.information.removesuffix(".dist-info") + ".data"
    headers = f"include/{site.split('/')[-2] if '/' in site else f'python{python.version}'}/{facts.distribution}"
    places = {"purelib": site, "platlib": site, "headers": headers, "scripts": "bin", "data": ""}

    def move(source: str) -> str:
        """Return where a file or directory goes; empty for what is a place itself."""
        top, _, rest = source.partition("/")
        if top != data:
            return f"{site}/{source}"
        scheme, _, path = rest.partition("/")
        return f"{places[scheme]}/{path}".strip("/") if path else ""

    return move


def _check(package: str, files: list[str], folders: list[str], python: PythonLayout, own: str) -> None:
    check_scripts(package, files)
    for path in (*files, *(f"{folder}/" for folder in folders)):
        if path.startswith(_FORBIDDEN):
            raise PackageRefused(package, f"it has {quote(path, 200)}, where only conda packages have files")
        if path.startswith(f"{python.site_packages}/"):
            top = path[len(python.site_packages) + 1 :].partition("/")[0]
            if top.endswith(".dist-info") and f"{python.site_packages}/{top}" != own:
                raise PackageRefused(package, f"it has {quote(path, 200)}, which is another distribution's")


def name_in_record(target: str, site_packages: str) -> str:
    """Name a path under the prefix as RECORD does: from site-packages."""
    if target.startswith(f"{site_packages}/"):
        return target[len(site_packages) + 1 :]
    return posixpath.relpath(target, site_packages)


def read_facts(document: Mapping[str, Any]) -> WheelFacts:
    return WheelFacts(
        document["information"],
        document["distribution"],
        document["folders"],
        frozenset(document["unlisted"]),
        frozenset(document["signatures"]),
        frozenset(document["unsized"]),
        document["executable_record"],
    )


def write_facts(facts: WheelFacts) -> dict[str, Any]:
    """Write the facts of a wheel that is not placed as JSON."""
    return {
        "information": facts.information,
        "distribution": facts.distribution,
        "folders": list(facts.folders),
        "unlisted": sorted(facts.unlisted),
        "signatures": sorted(facts.signatures),
        "unsized": sorted(facts.unsized),
        "executable_record": facts.executable_record,
    }

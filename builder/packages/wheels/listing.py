"""What a wheel has, read once and remembered: the same document as of a conda package, before anything is placed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from builder.archives.archive import ArchiveLimits
from builder.errors import PackageRefused
from builder.locks.lock import LockedPackage
from builder.packages.contents import EntryPoint
from builder.packages.paths import check_amount, check_paths, list_directories
from builder.packages.wheels.commands import read_commands
from builder.packages.wheels.metadata import check_metadata, check_name, check_wheel, find_information
from builder.packages.wheels.placement import GENERATED
from builder.packages.wheels.record import Row, read_record
from builder.packages.wheels.zip_archive import ZipArchive, ZipError, ZipMember
from storage.errors import quote

_REPLACED = frozenset([*GENERATED, "direct_url.json"])
_SIGNATURES = ("RECORD.jws", "RECORD.p7s")
"""Signatures of RECORD, which cannot be in it."""
_SCHEMES = frozenset(["purelib", "platlib", "headers", "scripts", "data"])

_LARGEST_METADATA = 16 << 20
_LARGEST_WHEEL = 1 << 20
_LARGEST_ENTRY_POINTS = 4 << 20


def refuse(package: str, error: ZipError) -> PackageRefused:
    """Make the error for what is wrong with a zip file."""
    return PackageRefused(package, f"its archive is not sound: {error}")


@contextlib.contextmanager
def open_wheel(path: Path, package: str, limits: ArchiveLimits) -> Iterator[ZipArchive]:
    """Open the wheel at `path`. Raises PackageRefused, also for what the block finds wrong with the zip."""
    try:
        with ZipArchive.open(path, limits) as archive:
            yield archive
    except ZipError as error:
        raise refuse(package, error) from None


def read_wheel(path: Path, package: LockedPackage, limits: ArchiveLimits) -> dict[str, Any]:
    """Read the facts to remember about a wheel, as JSON. Raises PackageRefused."""
    name = str(package)
    check_name(package)
    with open_wheel(path, name, limits) as archive:
        return _read(package, archive, limits)


def read_metadata(path: Path, package: LockedPackage, limits: ArchiveLimits) -> bytes:
    """Read the METADATA of a wheel, if it is the wheel that the package says. Raises PackageRefused."""
    name = str(package)
    check_name(package)
    with open_wheel(path, name, limits) as archive:
        members = {member.name: member for member in archive.members}
        documents = _Documents(name, archive, members, find_information(package, list(members)))
        check_wheel(name, documents.read("WHEEL", _LARGEST_WHEEL))
        content = documents.read("METADATA", _LARGEST_METADATA)
    check_metadata(package, content)
    return content


def _read(package: LockedPackage, archive: ZipArchive, limits: ArchiveLimits) -> dict[str, Any]:
    name = str(package)
    members = {member.name: member for member in archive.members}
    check_amount(name, list(members), limits)
    check_paths(name, [each.removesuffix("/") for each in members])
    information = find_information(package, list(members))
    documents = _Documents(name, archive, members, information)
    check_wheel(name, documents.read("WHEEL", _LARGEST_WHEEL))
    check_metadata(package, documents.read("METADATA", _LARGEST_METADATA))
    record = read_record(name, documents.read("RECORD", limits.info), limits.paths + 10)
    _check_record(name, record, members)
    entries: list[EntryPoint] = []
    if documents.has("entry_points.txt"):
        entries = read_commands(name, documents.read("entry_points.txt", _LARGEST_ENTRY_POINTS))
    data = information.removesuffix(".dist-info") + ".data"
    _check_data(name, data, members)
    commands = frozenset(entry.command for entry in entries)
    files = [each for each in archive.members if not each.name.endswith("/")]
    kept = [each for each in files if not _is_replaced(each.name, information, data, commands)]
    paths = [each.name for each in kept]
    rows = [record.get(path) for path in paths]
    unlisted = [index for index, row in enumerate(rows) if row is None]
    signatures = [index for index in unlisted if paths[index] in {f"{information}/{each}" for each in _SIGNATURES}]
    return {
        "paths": paths,
        "kinds": "f" * len(paths),
        "sizes": [each.size for each in kept],
        "sha256": [row.sha256 if row else None for row in rows],
        "placeholders": [],
        "no_link": [],
        "directories": list_directories(name, paths, "", bool(commands), limits),
        "parts": [],
        "entry_points": [list(entry) for entry in entries],
        "link_scripts": [],
        "timestamp": max(each.mtime for each in files),
        "noarch": None,
        "wheel": {
            "information": information,
            "distribution": package.title,
            "folders": [each.removesuffix("/") for each in members if each.endswith("/")],
            "unlisted": [index for index in unlisted if index not in signatures],
            "signatures": signatures,
            "unsized": [index for index, row in enumerate(rows) if row and row.size is None],
            "executable_record": members[f"{information}/RECORD"].executable,
        },
    }


class _Documents:
    """Reads the documents of the `.dist-info` directory."""

    def __init__(self, package: str, archive: ZipArchive, members: Mapping[str, ZipMember], information: str) -> None:
        self._package = package
        self._archive = archive
        self._members = members
        self._information = information

    def has(self, name: str) -> bool:
        return f"{self._information}/{name}" in self._members

    def read(self, name: str, most: int) -> bytes:
        if not self.has(name):
            raise PackageRefused(self._package, f"it has no {name} in its .dist-info directory")
        return self._archive.read(self._members[f"{self._information}/{name}"], most)


def _check_record(package: str, record: Mapping[str, Row], members: Mapping[str, ZipMember]) -> None:
    """Raises PackageRefused if RECORD has what the wheel does not have, or of another size."""
    for row in record.values():
        member = members.get(row.path)
        if member is None:
            raise PackageRefused(package, f"its RECORD lists {quote(row.path, 200)}, which it does not have")
        if row.size is not None and row.size != member.size:
            raise PackageRefused(
                package, f"{quote(row.path, 200)} has {member.size} bytes, but {row.size} in its RECORD"
            )


def _check_data(package: str, data: str, members: Iterable[str]) -> None:
    """Raises PackageRefused for what nobody knows how to install."""
    for name in members:
        top, _, rest = name.partition("/")
        if top != data or not rest:
            continue
        scheme, slash, path = rest.partition("/")
        if scheme not in _SCHEMES or not slash:
            raise PackageRefused(package, f"it has {quote(name, 200)}, which no installer knows where to put")
        if scheme == "scripts" and "/" in path:
            raise PackageRefused(package, f"its program {quote(name, 200)} is in a directory of its own")


def _is_replaced(name: str, information: str, data: str, commands: Collection[str]) -> bool:
    """Whether something else is written instead of a file at installation."""
    folder, _, last = name.rpartition("/")
    if folder == information:
        return last in _REPLACED
    if folder == f"{data}/scripts":
        # older builders pack the scripts that installers make
        command = re.sub(r"(\.exe|-script\.py|\.pya)$", "", last)
        return command in commands or last in commands
    return False

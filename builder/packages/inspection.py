"""Read a package's archive once and remember its contents."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson

from builder.archives.archive import DEFAULT_LIMITS, ArchiveLimits, verify
from builder.canonical import make_key
from builder.locks.lock import LockedPackage
from builder.packages.bounded_json import JsonRefused, load_trusted
from builder.packages.contents import EntryPoint, PackageContents, Placeholder, PythonLayout
from builder.packages.listing import read_listing
from builder.packages.path_marks import PathMarks
from builder.packages.paths import check_reserved
from builder.packages.placement import place
from builder.packages.wheels.listing import read_wheel
from builder.packages.wheels.placement import read_facts
from builder.work.worker import working_on
from storage.disk.files import atomic_write, mark_used

FORMAT = 2
"""Part of every inspection's key: raise it when the same archive must be read differently."""

WHEEL_FORMAT = 1
"""The same for wheels."""


def inspect(
    path: Path, package: LockedPackage, python: PythonLayout | None, cache: Path, limits: ArchiveLimits = DEFAULT_LIMITS
) -> PackageContents:
    """Return what the archive at `path` installs where. The folder `cache` remembers it.

    The archive is verified against its record before it is first read, and again if the file has changed since. The
    contents of an archive that is gone stay remembered. `python` matters to noarch python packages only. Raises
    PackageRefused.
    """
    with working_on(str(package)):
        contents = place(_inspect(path, package, cache, limits), python, limits)
        check_reserved(contents.package, contents.targets, contents.directories)
        return contents


def inspect_archive(path: Path, package: LockedPackage, cache: Path, limits: ArchiveLimits) -> PackageContents:
    """Return the same before anything is placed: `targets` are as in the archive. Raises PackageRefused."""
    with working_on(str(package)):
        return _inspect(path, package, cache, limits)


def _inspect(path: Path, package: LockedPackage, cache: Path, limits: ArchiveLimits) -> PackageContents:
    name = str(package)
    remembered = cache / _name_cached(package)
    document = _recall(remembered)
    state = _stat(path)
    if document is None or (state and document.get("archive") != state):
        verify(path, name, package.size, package.sha256, package.md5)
        document = {**(document or _read_document(path, package, limits)), "archive": state}
        with atomic_write(remembered, durable=False, scratch=cache) as file:
            file.write(orjson.dumps(document))
    return _read_contents(name, document)


def _read_document(path: Path, package: LockedPackage, limits: ArchiveLimits) -> dict[str, Any]:
    return read_wheel(path, package, limits) if package.is_wheel else read_listing(path, str(package), limits)


def inspect_all(
    packages: Sequence[LockedPackage],
    paths: Sequence[Path],
    python: PythonLayout | None,
    cache: Path,
    limits: ArchiveLimits,
) -> list[tuple[PackageContents, PathMarks]]:
    """Return the outlines and marks of several packages, so that a worker process is called once for all of them."""
    found = []
    for package, path in zip(packages, paths, strict=True):
        contents = inspect(path, package, python, cache, limits)
        found.append((contents.make_outline(), PathMarks.of(contents)))
    return found


def _name_cached(package: LockedPackage) -> str:
    """Name the cached file by the archive, and whether it is read as a wheel: a zip file can be both.

    Where the files go for a given python is computed anew each time.
    """
    if package.is_wheel:
        # what it is named decides whether it is read at all
        key = make_key("wheel contents", [WHEEL_FORMAT, package.archive_key, package.title, package.version])
    else:
        key = make_key("contents", [FORMAT, package.archive_key])
    return f"{key[:2]}/{key}.json"


def _recall(path: Path) -> dict[str, Any] | None:
    mark_used(path)
    with contextlib.suppress(FileNotFoundError, JsonRefused):
        return cast(dict[str, Any], load_trusted(path.read_bytes()))
    return None


def _stat(path: Path) -> list[int] | None:
    """Return values that change when the file does, or None if the file is gone."""
    with contextlib.suppress(FileNotFoundError):
        status = path.stat()
        return [status.st_ino, status.st_size, status.st_mtime_ns]
    return None


def _read_contents(name: str, document: dict[str, Any]) -> PackageContents:
    contents = recall_contents(name, document["paths"], document)
    return replace(contents, sizes=document["sizes"], sha256=document["sha256"], parts=document["parts"])


def recall_contents(name: str, sources: Sequence[str], document: Mapping[str, Any]) -> PackageContents:
    """Return what a remembered document says of a package's paths, but for their sizes and hashes.

    `name` is the package's, for messages. Raises KeyError, TypeError and ValueError for another document.
    """
    return PackageContents(
        package=name,
        sources=sources,
        targets=sources,
        kinds=document["kinds"],
        sizes=(),
        sha256=(),
        placeholders={index: Placeholder(text, mode) for index, text, mode in document["placeholders"]},
        no_link=frozenset(document["no_link"]),
        directories=document["directories"],
        entry_points=[EntryPoint(*entry) for entry in document["entry_points"]],
        link_scripts=document["link_scripts"],
        timestamp=document["timestamp"],
        noarch=document["noarch"],
        # what earlier versions remember of packages says nothing of wheels
        wheel=read_facts(document["wheel"]) if document.get("wheel") else None,
    )

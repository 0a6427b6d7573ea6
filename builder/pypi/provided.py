"""Which distributions the conda packages of a lock have, by what is installed: their `*.dist-info` or `*.egg-info`.

A conda package may have another name than what it installs, several distributions or none. So their own METADATA says
it, read in a worker process from the archives and kept by the archive's key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from builder.archives.archive import ArchiveLimits, check_name, payload
from builder.archives.tar import FILE
from builder.canonical import make_key
from builder.errors import PackageRefused
from builder.locks.lock import LockedPackage
from builder.packages.inspection import inspect_archive
from builder.pypi.core_metadata import LARGEST, find_name, parse_metadata
from builder.work.worker import working_on
from storage.disk.files import atomic_write, mark_used

PROVIDED_FORMAT = 1
"""Part of the key of what is kept: raise it when the same archive must be read differently."""

MOST_OF_ONE = 200
"""Distributions of one package. The largest real ones have a dozen."""

_METADATA = re.compile(
    r"(?:lib/python[0-9.]+t?/)?site-packages/[^/]+(?:\.dist-info/METADATA|\.egg-info/PKG-INFO|\.egg-info)"
)


@dataclass(frozen=True)
class Distribution:
    """What pip would see. `package` is the conda package, as people call it.

    The version is empty where it is none of PEP 440: it cannot be compared, but is in the way of a wheel of that name.
    """

    name: str
    version: str
    package: str
    extras: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    """Those of its extras alone: conda saw to the others."""


def may_provide(package: LockedPackage) -> bool:
    """Whether it is worth a look: what has a distribution needs python."""
    return not package.is_wheel and (
        package.noarch == "python" or package.name == "python" or not {"python", "python_abi"}.isdisjoint(package.needs)
    )


def find_all_provided(
    packages: Sequence[LockedPackage], paths: Sequence[Path], contents: Path, cache: Path, limits: ArchiveLimits
) -> list[list[Distribution]]:
    """What each package provides, so that a worker process is called once for several. Raises PackageRefused."""
    return [
        find_provided(package, path, contents, cache, limits) for package, path in zip(packages, paths, strict=True)
    ]


def find_provided(
    package: LockedPackage, path: Path, contents: Path, cache: Path, limits: ArchiveLimits
) -> list[Distribution]:
    """Read the archive at `path`. `contents` remembers its listing, `cache` the distributions."""
    remembered = cache / _name_cached(package)
    if (found := recall_provided(package, cache)) is not None:
        return found
    with working_on(str(package)):
        sources = [
            each for each in inspect_archive(path, package, contents, limits).sources if _METADATA.fullmatch(each)
        ]
        read = _read_members(path, package, set(sources), limits) if sources else []
    found = _unite(read)
    remembered.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(remembered, durable=False) as file:
        file.write(orjson.dumps([asdict(each) for each in found]))
    return found


def recall_provided(package: LockedPackage, cache: Path) -> list[Distribution] | None:
    """What is remembered of a package; None if nothing is."""
    path = cache / _name_cached(package)
    try:
        document = orjson.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    mark_used(path)
    return [_read(each) for each in document]


def _read(document: dict[str, Any]) -> Distribution:
    return Distribution(
        document["name"],
        document["version"],
        document["package"],
        tuple(document["extras"]),
        tuple(document["requires"]),
    )


def _name_cached(package: LockedPackage) -> str:
    key = make_key("provided", [PROVIDED_FORMAT, package.archive_key])
    return f"{key[:2]}/{key}.provided"


def _read_members(path: Path, package: LockedPackage, wanted: set[str], limits: ArchiveLimits) -> list[Distribution]:
    name = str(package)
    if len(wanted) > MOST_OF_ONE:
        raise PackageRefused(name, f"it has {len(wanted)} Python distributions; at most {MOST_OF_ONE} are allowed")
    found: list[Distribution] = []
    with payload(path, name, limits) as members:
        for member in members:
            source = check_name(member.name)
            if source not in wanted or member.kind != FILE or member.size > LARGEST:
                continue
            wanted.discard(source)
            content = b"".join(map(bytes, members.chunks()))
            try:
                metadata = parse_metadata(content, name)
            except PackageRefused:
                if its := find_name(content):
                    found.append(Distribution(its, "", name))
                continue
            extra = tuple(each for each in metadata.requires if re.search(r"\bextra\b", each.partition(";")[2]))
            found.append(Distribution(metadata.name, metadata.version, name, metadata.extras, extra))
            if not wanted:
                break
    return found


def _unite(found: Iterable[Distribution]) -> list[Distribution]:
    """Each distribution once, in the order of names."""
    by_name = {each.name: each for each in found}
    return [by_name[name] for name in sorted(by_name)]

"""Paths that several packages of an environment contain, and which package wins each.

The winner is the package that comes last in rattler's topological order (`PackageRecord::sort_topologically`). Its file
is the one that `rattler.install` leaves under the prefix after `clobber_registry.rs` has renamed the others'. In words:
a package wins over its dependencies. Of packages that do not depend on each other, usually the first by name wins,
because that order visits roots and dependencies from the last name to the first. The order differs from that of
`Lock.packages`, so it is computed here from `depends`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from builder.archives.archive import DEFAULT_LIMITS, ArchiveLimits
from builder.errors import PackageRefused, PathConflict
from builder.locks.lock import LockedPackage, order_by_dependency
from builder.packages.contents import PackageContents, PythonLayout
from builder.packages.inspection import inspect

MANY = 4
"""How many times the paths, and the characters in them, of the largest allowed package an environment may have."""

LOST = 50_000
"""Paths that the packages of an environment may lose in all. They become part of fragments' keys."""

LOST_TEXT = 4 << 20
"""Characters in those paths."""

IN_CYCLES = 10_000
"""Packages in all cycles that are looked at. Packages that all need each other have the cube of their number."""

MOST_REPORTED = 1000
"""Paths that a report lists."""


@dataclass(frozen=True)
class Overlap:
    """One path under the prefix that several packages contain. Packages are named `name-version-build`."""

    path: str
    winner: str
    losers: tuple[str, ...]


@dataclass(frozen=True)
class Overlaps:
    excluded: Mapping[str, tuple[str, ...]]
    """By package name: the sorted paths that its fragment leaves out. Packages that lose nothing are absent."""
    rows: tuple[Overlap, ...]
    """For the image's report, sorted by path: the first MOST_REPORTED."""


NONE = Overlaps({}, ())


def read_overlaps(
    packages: Sequence[LockedPackage],
    archives: Mapping[str, Path],
    python: PythonLayout | None,
    cache: Path,
    limits: ArchiveLimits,
    among: Collection[str],
) -> Overlaps:
    """Find the overlaps among the packages that `among` names. A worker does it, as their paths are many.

    `archives` are by archive key. Which package wins depends on all of `packages`.
    """
    some = [package for package in packages if package.name in among]
    pairs = read_contents(some, [archives[package.archive_key] for package in some], python, cache, limits)
    return find_overlaps(pairs, order_for_installation(packages))


def read_contents(
    packages: Sequence[LockedPackage],
    archives: Sequence[Path],
    python: PythonLayout | None,
    cache: Path,
    limits: ArchiveLimits = DEFAULT_LIMITS,
) -> list[tuple[LockedPackage, PackageContents]]:
    """Read the contents of an environment's packages, in a worker.

    Raises PackageRefused if they are too large together.
    """
    pairs = []
    room = PathRoom(limits)
    for package, archive in zip(packages, archives, strict=True):
        contents = inspect(archive, package, python, cache, limits)
        room.take(str(package), len(contents.targets), sum(map(len, contents.targets)))
        pairs.append((package, replace(contents, sources=(), sizes=(), sha256=(), placeholders={})))
    return pairs


class PathRoom:
    """How many paths, and characters in paths, an environment's packages may still add."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._limits = limits
        self._paths = self._text = 0

    def take(self, package: str, paths: int, text: int) -> None:
        """Count the paths of `package`. Raises PackageRefused if they exceed the limit."""
        self._paths += paths
        self._text += text
        most, most_text = MANY * self._limits.paths, MANY * self._limits.text
        if self._paths > most or self._text > most_text:
            raise PackageRefused(
                package,
                f"with it the environment has {self._paths} paths of {self._text} characters; at most "
                f"{most} of {most_text} are allowed ({MANY} times max_paths)",
            )


def find_overlaps(
    packages: Sequence[tuple[LockedPackage, PackageContents]], ranks: Sequence[str] | None = None
) -> Overlaps:
    """Find the paths that several packages of one platform contain.

    If `packages` are only some of an environment's, `ranks` names all of them in the order of installation. Raises
    PathConflict for a file against a directory, PackageRefused for a package that shares too many paths.
    """
    by_name = {package.name: (package, contents) for package, contents in packages}
    names = order_for_installation([package for package, _ in packages]) if ranks is None else ranks
    order = [by_name[name] for name in reversed(names) if name in by_name]
    _check_directories(order)
    taken: set[str] = set()
    excluded: dict[str, tuple[str, ...]] = {}
    count = text = 0
    for package, contents in order:
        paths = set(contents.list_installed())
        lost = paths & taken
        if lost:
            excluded[package.name] = tuple(sorted(lost))
            count += len(lost)
            text += sum(map(len, lost))
            if count > LOST or text > LOST_TEXT:
                raise PackageRefused(
                    str(package), f"{len(lost)} of its paths are in other packages too, too many to resolve"
                )
        taken |= paths
    return Overlaps(excluded, _write_rows(order, {path for paths in excluded.values() for path in paths}))


def _write_rows(order: Iterable[tuple[LockedPackage, PackageContents]], lost: set[str]) -> tuple[Overlap, ...]:
    carriers: dict[str, list[str]] = {path: [] for path in islice(sorted(lost), MOST_REPORTED)}
    if lost:
        for package, contents in order:
            for path in carriers.keys() & contents.list_installed():
                carriers[path].append(str(package))
    return tuple(Overlap(path, names[0], tuple(names[1:])) for path, names in carriers.items())


def _check_directories(packages: Sequence[tuple[LockedPackage, PackageContents]]) -> None:
    directories: set[str] = set()
    for _, contents in packages:
        directories.update(contents.directories)
    for package, contents in packages:
        clash = directories.intersection(contents.list_installed())
        if clash:
            path = min(clash)
            other = next(str(each) for each, its in packages if path in its.directories)
            raise PathConflict(path, (str(package), other))


def order_for_installation(packages: Sequence[LockedPackage]) -> list[str]:
    """Return package names in rattler's topological order, dependencies first (`repo_data/topological_sort.rs`).

    Wheels come after all conda packages, as they are installed into an environment that is there.
    """
    wheels = order_by_dependency(package for package in packages if package.is_wheel)
    return [
        *_order_conda([package for package in packages if not package.is_wheel]),
        *(package.name for package in wheels),
    ]


def _order_conda(packages: Sequence[LockedPackage]) -> list[str]:
    noarch = {package.name: package.noarch is not None for package in packages}
    recorded = {
        package.name: [name for spec in package.depends if (name := _read_name(spec)) in noarch] for package in packages
    }
    depends = {name: sorted(set(names)) for name, names in recorded.items()}
    for name, dependency in _break_cycles(recorded, noarch):
        depends[name] = [each for each in depends[name] if each != dependency]
    needed = {name for names in depends.values() for name in names}
    order: list[str] = []
    visited: set[str] = set()
    _visit(sorted(depends.keys() - needed), depends, visited, order)
    # What no root leads to are cycles on which nothing else depends.
    while rest := sorted(depends.keys() - visited):
        _visit(rest, depends, visited, order)
    return order


def _visit(roots: list[str], depends: Mapping[str, Sequence[str]], visited: set[str], order: list[str]) -> None:
    stack = [(name, False) for name in roots]
    while stack:
        name, resolved = stack.pop()
        if resolved:
            order.append(name)
        elif name not in visited:
            visited.add(name)
            stack.append((name, True))
            stack.extend((dependency, False) for dependency in depends[name])


def _break_cycles(depends: Mapping[str, Sequence[str]], noarch: Mapping[str, bool]) -> list[tuple[str, str]]:
    """Return the edges that rattler leaves out so that, in a cycle, a noarch package is installed last."""
    breaks = []
    for cycle in _find_cycles(depends):
        for index, name in enumerate(cycle):
            following = cycle[(index + 1) % len(cycle)]
            if not noarch[name] and noarch[following]:
                breaks.append((name, following))
                break
            if (noarch[name] and not noarch[following]) or index == len(cycle) - 1:
                breaks.append((following, name))
                break
    return breaks


def _find_cycles(depends: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Find the cycles that a depth-first walk meets: packages by name, dependencies in their recorded order.

    The last one exceeds the limit at most.
    """
    cycles: list[list[str]] = []
    room = IN_CYCLES
    visited: set[str] = set()
    for root in sorted(depends):
        path: dict[str, int] = {}
        stack: list[tuple[str, bool]] = [(root, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.popitem()
            elif name in path:
                if room > 0:
                    cycles.append(list(path)[path[name] :])
                    room -= len(cycles[-1])
            elif name not in visited:
                visited.add(name)
                path[name] = len(path)
                stack.append((name, True))
                stack.extend((dependency, False) for dependency in reversed(depends[name]))
    return cycles


def _read_name(spec: str) -> str:
    """Return the package name at the start of a match spec."""
    return re.split(r"[\s=<>!~\[;,]", spec.rpartition("::")[2].strip(), maxsplit=1)[0].lower()

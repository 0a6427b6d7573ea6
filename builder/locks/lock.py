"""What was decided: a `Lock`, with one list of `LockedPackage` per platform."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Self

from packaging.tags import Tag

from builder.canonical import make_key
from builder.locks.dates import Dates, read_dates
from builder.names.spec import EnvironmentSpec

WHEEL_PREFIX = "pypi:"
"""What the name of a PyPI package starts with in a lock. No conda package can have it: their names have no colon. So
the two packages graphviz, of which one is a program and one a Python module, can be in one environment."""


@dataclass(frozen=True)
class LockedPackage:
    """One package archive, as recorded in its channel's repodata, or a wheel, as recorded in its index.

    Sizes are in bytes, the timestamp in milliseconds UTC. Of a wheel the name is WHEEL_PREFIX and the normalized name
    of the distribution (PEP 503), the build its tags with the build number before them (`py3-none-any`), the channel
    its index, `depends` its requirements (PEP 508), and the timestamp when it was uploaded.
    """

    name: str
    version: str
    build: str
    build_number: int
    subdir: str
    channel: str
    """The channel's name or URL, without credentials."""
    url: str
    """The archive's address, without credentials."""
    file_name: str
    size: int | None
    sha256: str | None
    md5: str | None
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    license: str | None = None
    timestamp: int | None = None
    noarch: str | None = None
    """`python`, `generic` or None."""
    python_site_packages_path: str | None = None
    """For a python package: where noarch packages go under the prefix (CEP 17)."""
    since: int | None = field(default=None, compare=False)
    """When the channel indexed it (CEP 47), in milliseconds UTC. It is no part of the lock's key: a channel that is
    indexed anew has the same packages."""
    owner: str = field(default="", compare=False)
    """The namespace with whose credentials it is fetched, if so. The lock's key has it with the spec."""
    requires_python: str | None = None
    """Of a wheel: the versions of python that it supports (PEP 440)."""

    def __str__(self) -> str:
        return f"{self.title}-{self.version}-{self.build}"

    @property
    def is_wheel(self) -> bool:
        return self.name.startswith(WHEEL_PREFIX)

    @property
    def title(self) -> str:
        """The name without what tells a wheel from a conda package."""
        return self.name.removeprefix(WHEEL_PREFIX)

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The names, as they would be in a lock, of the packages that it depends on, in their recorded order."""
        if self.is_wheel:
            return ("python", *dict.fromkeys(WHEEL_PREFIX + name_distribution(each) for each in self.depends))
        return tuple(map(name_dependency, self.depends))

    @property
    def archive_key(self) -> str:
        """Identifies the archive's content: its sha256, or its md5 if the record has only that.

        One that has an owner has a key of its own, so that nobody gets it by knowing its hash.
        """
        if self.owner:
            return make_key("owned archive", [self.owner, self.sha256, self.md5])
        if self.sha256:
            return self.sha256
        if self.md5:
            return f"md5-{self.md5}"
        raise ValueError(f"{self.file_name} has neither sha256 nor md5")

    @property
    def source_key(self) -> str:
        """Identifies where the archive comes from, and what its record says of it.

        A channel may write another's hash into its index. What comes from its own address, or differs from its own
        record, is then no matter of the other's.
        """
        return make_key("source", [self.archive_key, self.channel, self.url, self.file_name, self.size])

    @property
    def dates(self) -> Dates:
        """In milliseconds, also those of a lock that has what its channel wrote."""
        return read_dates(self.timestamp, self.since)

    def to_json(self) -> dict[str, Any]:
        # not `asdict`, which copies every value: a hundred packages take it 3 ms while everything waits for the lock
        own: dict[str, Any] = {"since": self.since} if self.since is not None else {}
        own |= {"owner": self.owner} if self.owner else {}
        return self.identify() | own

    def identify(self) -> dict[str, Any]:
        """What the keys of locks are made of."""
        # packages without it keep the keys of before
        own = {"requires_python": self.requires_python} if self.requires_python is not None else {}
        return {name: getattr(self, name) for name in _FIELDS} | own

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in document.items() if name in known}
        values["depends"] = tuple(values.get("depends", ()))
        values["constrains"] = tuple(values.get("constrains", ()))
        return cls(**values)


_FIELDS = tuple(each.name for each in fields(LockedPackage) if each.compare and each.name != "requires_python")


@dataclass(frozen=True)
class Lock:
    """The packages of every platform, in dependency order (a package after all its dependencies, ties by name).

    It holds the spec without its cut-off date. So a dated tag and `latest` that choose the same packages are one lock,
    and the same lock makes the same bytes, labels included.
    """

    spec: EnvironmentSpec
    packages: Mapping[str, tuple[LockedPackage, ...]]

    def to_json(self) -> dict[str, Any]:
        return {
            "spec": self.spec.to_json(),
            "packages": {
                platform: [package.to_json() for package in packages] for platform, packages in self.packages.items()
            },
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        return cls(
            spec=EnvironmentSpec.from_json(document["spec"]),
            packages={
                platform: tuple(LockedPackage.from_json(package) for package in packages)
                for platform, packages in document["packages"].items()
            },
        )

    @cached_property
    def key(self) -> str:
        """The lock's hash, 64 hex digits: the `<hex>` in the tag `lock-<hex>`."""
        packages = {platform: [each.identify() for each in packages] for platform, packages in self.packages.items()}
        return make_key("lock", {"spec": self.spec.to_json(), "packages": packages})


def describe_wheel(file_name: str, tags: Iterable[Tag], platform: str) -> tuple[str, str]:
    """The build and the subdir of a wheel that was chosen for a platform, by its file's name and its tags."""
    build = "-".join(file_name.removesuffix(".whl").split("-")[2:])
    return build, "noarch" if all(tag.platform == "any" for tag in tags) else platform


def list_conda(packages: Iterable[LockedPackage]) -> list[LockedPackage]:
    return [package for package in packages if not package.is_wheel]


def list_wheels(packages: Iterable[LockedPackage]) -> list[LockedPackage]:
    return [package for package in packages if package.is_wheel]


def has_wheels(lock: Lock) -> bool:
    return any(package.is_wheel for packages in lock.packages.values() for package in packages)


MOST_CIRCLES = 50
"""Circles of dependencies that are followed to choose their first package. Real environments have one or two."""


def order_by_dependency(packages: Iterable[LockedPackage]) -> tuple[LockedPackage, ...]:
    """Order `packages` so that each comes after all its dependencies, ties by name. Their given order has no effect.

    In a cycle of dependencies, such as python and pip, python comes first, or else the first by name.
    """
    by_name = {package.name: package for package in packages}
    waiting = {
        name: {dependency for dependency in package.needs if dependency in by_name} - {name}
        for name, package in by_name.items()
    }
    wanted_by: dict[str, list[str]] = {name: [] for name in by_name}
    for name, dependencies in waiting.items():
        for dependency in dependencies:
            wanted_by[dependency].append(name)
    ready = [name for name, dependencies in waiting.items() if not dependencies]
    heapq.heapify(ready)
    ordered: list[LockedPackage] = []
    circles = 0
    while waiting:
        if ready:
            name = heapq.heappop(ready)
        else:
            circles += 1
            # following the circles of a channel that means harm takes the cube of their packages
            name = _choose_in_circle(waiting) if circles <= MOST_CIRCLES else min(waiting)
        del waiting[name]
        ordered.append(by_name[name])
        for dependant in wanted_by[name]:
            if dependant in waiting:
                waiting[dependant].discard(name)
                if not waiting[dependant]:
                    heapq.heappush(ready, dependant)
    return tuple(ordered)


def name_dependency(match_spec: str) -> str:
    """Return the package name in a match spec from a record."""
    return re.split(r"[\s=<>!~\[]", match_spec.rpartition("::")[2].strip(), maxsplit=1)[0].lower()


def name_distribution(requirement: str) -> str:
    """Return the normalized name (PEP 503) at the start of a requirement (PEP 508)."""
    name = re.split(r"[^A-Za-z0-9._-]", requirement.strip(), maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def _choose_in_circle(waiting: Mapping[str, set[str]]) -> str:
    """Choose the package at which to break a cycle. Every package here waits for another."""
    trail: dict[str, int] = {}
    name = min(waiting)
    while name not in trail:
        trail[name] = len(trail)
        name = min(waiting[name])
    circle = list(trail)[trail[name] :]
    return min(circle, key=lambda each: (each != "python", each))

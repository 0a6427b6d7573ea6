"""What one lock changes against another, by platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from builder.locks.lock import Lock, LockedPackage
from builder.policy.versions import compare as compare_versions
from builder.policy.versions import parse_version


@dataclass(frozen=True)
class Change:
    before: LockedPackage
    after: LockedPackage


@dataclass(frozen=True)
class Difference:
    """Of one platform, each in the order of names. Sizes are in bytes of archives."""

    added: tuple[LockedPackage, ...] = ()
    removed: tuple[LockedPackage, ...] = ()
    up: tuple[Change, ...] = ()
    """To a later version, or a later build of the same."""
    down: tuple[Change, ...] = ()
    other: tuple[Change, ...] = ()
    """The same version and build number in another build, from another channel, or with other content."""
    size: int = 0
    """How much more, or less, all packages have."""
    download: int = 0
    """Of archives that are new."""

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.removed or self.up or self.down or self.other)


def compare(before: Lock | None, after: Lock) -> dict[str, Difference]:
    """What `after` has that `before` has not, and the reverse, for every platform of either."""
    old: Mapping[str, tuple[LockedPackage, ...]] = before.packages if before else {}
    return {
        platform: _compare(old.get(platform, ()), after.packages.get(platform, ()))
        for platform in sorted(old.keys() | after.packages.keys())
    }


def _compare(before: tuple[LockedPackage, ...], after: tuple[LockedPackage, ...]) -> Difference:
    old = {package.name: package for package in before}
    new = {package.name: package for package in after}
    changed: dict[int, list[Change]] = {1: [], -1: [], 0: []}
    for name in sorted(old.keys() & new.keys()):
        if _identify(old[name]) != _identify(new[name]):
            changed[_order(old[name], new[name])].append(Change(old[name], new[name]))
    known = {_identify(package)[-1] for package in before}
    return Difference(
        added=tuple(new[name] for name in sorted(new.keys() - old.keys())),
        removed=tuple(old[name] for name in sorted(old.keys() - new.keys())),
        up=tuple(changed[1]),
        down=tuple(changed[-1]),
        other=tuple(changed[0]),
        size=_sum(after) - _sum(before),
        download=_sum(tuple(package for package in after if _identify(package)[-1] not in known)),
    )


def _identify(package: LockedPackage) -> tuple[object, ...]:
    """Not by the whole record: channels correct dependencies of packages that stay as they are."""
    return (
        package.version,
        package.build,
        package.build_number,
        package.subdir,
        package.sha256 or package.md5 or package.url,
    )


def _order(before: LockedPackage, after: LockedPackage) -> int:
    """1 for a later one, -1 for an earlier one, 0 for neither, also where versions make no sense."""
    try:
        order = compare_versions(parse_version(after.version), parse_version(before.version))
    except ValueError:
        return 0
    if order:
        return 1 if order > 0 else -1
    return (after.build_number > before.build_number) - (after.build_number < before.build_number)


def _sum(packages: tuple[LockedPackage, ...]) -> int:
    return sum(package.size or 0 for package in packages)

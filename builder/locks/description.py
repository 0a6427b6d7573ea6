"""What is said of a lock in files and images: its name, what was asked for, its channels, its time."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from builder.locks.lock import Lock, LockedPackage
from builder.names.spec import EnvironmentSpec


def suggest_name(spec: EnvironmentSpec, longest: int = 60) -> str:
    """A name people recognise, of at most `longest` characters: the packages asked for, joined by dashes."""
    name = ""
    for item in spec.items:
        longer = f"{name}-{item.name}" if name else item.name
        if len(longer) > longest:
            break
        name = longer
    return name or (spec.items[0].name[:longest] if spec.items else "empty")


def describe_spec(spec: EnvironmentSpec) -> str:
    """The packages asked for, as one line."""
    return ", ".join(spec.match_specs()) or "an empty environment"


def list_channels(lock: Lock) -> list[str]:
    """The spec's channels in their order, then those of packages that come from elsewhere."""
    used = (package.channel for packages in lock.packages.values() for package in packages)
    return list(dict.fromkeys([*lock.spec.channels, *used]))


def find_newest(packages: Iterable[LockedPackage]) -> int:
    """The time in milliseconds UTC when the youngest of `packages` was made; 0 where none says."""
    return max((package.timestamp or 0 for package in packages), default=0)


def format_time(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds // 1000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

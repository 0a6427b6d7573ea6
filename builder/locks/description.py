"""How files and images describe a lock: its name, the requested packages, its channels, its time."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from builder.locks.lock import Lock, LockedPackage, list_conda
from builder.names.requirement import read_name
from builder.names.spec import EnvironmentSpec


def suggest_name(spec: EnvironmentSpec, longest: int = 60) -> str:
    """Suggest a recognisable name of at most `longest` characters: the requested packages, joined by dashes."""
    name = ""
    for asked in [*(item.name for item in spec.items), *map(read_name, spec.requirements)]:
        longer = f"{name}-{asked}" if name else asked
        if len(longer) > longest:
            break
        name = longer
    return name or (spec.items[0].name[:longest] if spec.items else "environment")


def describe_spec(spec: EnvironmentSpec) -> str:
    """List the requested packages in one line. A lock that somebody sent was not made for any."""
    return ", ".join(spec.list_wishes()) or "the packages of a lock"


def list_channels(lock: Lock) -> list[str]:
    """List the spec's channels in order, then the channels of packages that come from elsewhere."""
    used = (package.channel for packages in lock.packages.values() for package in list_conda(packages))
    return list(dict.fromkeys([*lock.spec.channels, *used]))


def find_newest(packages: Iterable[LockedPackage]) -> int:
    """Return when the newest of `packages` was built, in milliseconds UTC; 0 if none says."""
    return max((package.dates.timestamp or 0 for package in packages), default=0)


def format_time(milliseconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(milliseconds // 1000, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

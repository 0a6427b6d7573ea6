"""Small channels, specs for their packages, and solvers that may use them."""

from __future__ import annotations

import datetime
from pathlib import Path

from rattler.index import index_fs

from builder.channels.policy import ChannelPolicy
from builder.locks.lock import Lock
from builder.names.spec import Constraint, EnvironmentSpec, PackageItem
from tests.support.builder.packages import Package

SECRET = "s3cret"
ANY_CHANNEL = ChannelPolicy(others="all")
"""The test channels are on this machine."""
DAY = 86_400_000


async def make_channel(path: Path, *packages: Package) -> Path:
    (path / "noarch").mkdir(parents=True, exist_ok=True)
    for package in packages:
        package.conda(path)
    await index_fs(path)
    return path


def spec(*items: str | PackageItem, channel: str, until: datetime.date | None = None) -> EnvironmentSpec:
    wishes = tuple(PackageItem(item) if isinstance(item, str) else item for item in items)
    return EnvironmentSpec(wishes, (channel,), until=until)


def lib(*channels: str) -> EnvironmentSpec:
    return EnvironmentSpec((PackageItem("lib"),), channels)


def item(name: str, *constraints: tuple[str, str], build: str | None = None, channel: str | None = None) -> PackageItem:
    return PackageItem(name, channel, tuple(Constraint(*constraint) for constraint in constraints), build)


def stems(lock: Lock, platform: str = "linux-64") -> list[str]:
    return [str(package) for package in lock.packages[platform]]

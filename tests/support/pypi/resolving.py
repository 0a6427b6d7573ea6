"""A resolver over a few conda packages, without a server, a database or a solver of conda's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builder.channels.channel import Credentials
from builder.channels.download import Downloader, DownloadSettings
from builder.channels.index_policy import IndexPolicy
from builder.channels.logins import NO_LOGINS, Logins
from builder.channels.policy import ChannelPolicy
from builder.locks.lock import Lock, LockedPackage
from builder.names.spec import EnvironmentSpec
from builder.policy.policy import NO_POLICY, Policy
from builder.policy.rules import Rules
from builder.pypi.opening import open_pypi
from builder.pypi.provided import find_provided
from builder.pypi.resolver import PypiResolver, PypiSolve
from builder.settings import BuilderSettings
from builder.work.pool import WorkerPool
from storage.disk.files import make_folders
from storage.layout import DataDirectory
from tests.support.builder.packages import Package

ALIAS = "https://conda.anaconda.org"
SITE = "lib/python3.12/site-packages"


def provide(name: str, version: str, distribution: str = "", *lines: str) -> Package:
    """A conda package that installs a distribution."""
    its = distribution or name
    text = "".join(f"{each}\n" for each in ("Metadata-Version: 2.1", f"Name: {its}", f"Version: {version}", *lines))
    path = f"{SITE}/{its}-{version}.dist-info/METADATA"
    return Package(name, version, depends=("python",), files={path: text.encode()})


PYTHON = Package("python", "3.12.3", build="h1_0_cpython", files={"bin/python3.12": b"python"})


def rules(**document: Any) -> Policy:
    return Policy((Rules.of_document(document, "the settings", ALIAS),), ALIAS)


@dataclass
class Resolving:
    """`packages` are those of the lock."""

    resolver: PypiResolver
    packages: tuple[LockedPackage, ...]
    channel: tuple[str, ...] = ()
    """Names of conda packages that the channel has."""
    archives: Mapping[str, Path] = field(default_factory=dict)

    async def solve(
        self, *requirements: str, policy: Policy = NO_POLICY, logins: Logins = NO_LOGINS, **fields: Any
    ) -> list[LockedPackage]:
        """The wheels."""
        spec = EnvironmentSpec((), (), requirements=tuple(sorted(requirements)), **fields)

        async def fetch(packages: Iterable[LockedPackage]) -> Mapping[str, Path]:
            return self.archives

        async def find_conda(name: str) -> bool:
            return name in self.channel

        lock = Lock(replace(spec, until=None), {"linux-64": self.packages})
        solve = PypiSolve(spec, {"linux-64": "2.28"}, policy, logins, fetch, find_conda)
        return [each for each in (await self.resolver.add(lock, solve)).packages["linux-64"] if each.is_wheel]


def names(wheels: Iterable[LockedPackage]) -> list[str]:
    return [f"{package.title} {package.version}" for package in wheels]


@contextlib.asynccontextmanager
async def resolving(
    root: Path,
    *indexes: str,
    packages: Iterable[Package] = (PYTHON,),
    policy: IndexPolicy | None = None,
    **settings: Any,
) -> AsyncIterator[Resolving]:
    chosen = BuilderSettings(pypi_indexes=indexes, **settings)
    data = DataDirectory(root / "data")
    make_folders(data.contents)
    made = [each.conda(root / "channel") for each in packages]
    allowed = policy or IndexPolicy(indexes)
    channels = ChannelPolicy(others="all", indexes=allowed)
    async with (
        WorkerPool(1) as pool,
        Downloader(DownloadSettings(data.archives, channels, seconds=5, attempts=1), Credentials()) as downloader,
    ):
        resolver = open_pypi(chosen, data, allowed, Credentials(), pool, downloader, ["requests", "numpy"])
        for each in made:
            # here, and not in a worker, which takes as long to start as all the rest
            find_provided(each.record, each.path, data.contents, resolver.folders.provided, resolver.limits)
        try:
            yield Resolving(resolver, tuple(each.record for each in made))
        finally:
            await resolver.close()

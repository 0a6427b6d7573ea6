"""Adds wheels to a lock: what its spec requires of PyPI, over what its conda packages provide."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from cachetools import LRUCache
from packaging.requirements import InvalidRequirement, Requirement

from builder.archives.archive import ArchiveLimits
from builder.canonical import make_key
from builder.channels.index_policy import IndexPolicy
from builder.channels.logins import Logins
from builder.errors import BuilderError, PolicyRefusal, RequirementRefused, SolveError
from builder.locks.lock import WHEEL_PREFIX, Lock, LockedPackage, order_by_dependency
from builder.names.spec import EnvironmentSpec
from builder.names.wheel_name import parse_wheel_name
from builder.policy.policy import ASK_OTHERWISE, Policy, describe_package, find_moment, join_refusals
from builder.pypi.client import IndexClient
from builder.pypi.core_metadata import CoreMetadata
from builder.pypi.gateway import Gateway, Session
from builder.pypi.platform import DEFAULT_GLIBC, WheelPlatform
from builder.pypi.provided import Distribution, find_all_provided, may_provide, recall_provided
from builder.pypi.pylock import ChosenWheel, read_pylock
from builder.pypi.reasons import Failure, FindConda, explain, explain_briefly
from builder.pypi.stubs import write_stubs
from builder.pypi.uv import Question, Uv, UvFailed, find_version
from builder.pypi.view import Link, View
from builder.pypi.wheel_metadata import WheelMetadata
from builder.work.gather import gather_all
from builder.work.pool import WorkerPool
from builder.work.turns import Lane
from storage.errors import quote

RESOLVER_FORMAT = 1
"""Part of the key of what is solved: raise it when the same requirements must be solved again."""

FetchArchives = Callable[[Iterable[LockedPackage]], Awaitable[Mapping[str, Path]]]
"""`Builder.fetch_archives`."""


_MOST_KNOWN = 1 << 13

_ATTEMPTS = 5
"""Solves of one platform, each without what the last one chose and rules deny."""

_EXPLAINING = 20.0
"""Seconds for finding out why there is no solution."""

_SHARE = 8
"""Packages whose distributions are read by one call of a worker process."""


@dataclass(frozen=True)
class PypiFolders:
    """`root` has what is kept of indexes; the others are those of the data directory."""

    root: Path
    contents: Path
    working: Path

    @property
    def provided(self) -> Path:
        return self.root / "provided"

    @property
    def stubs(self) -> Path:
        return self.root / "stubs"

    @property
    def metadata(self) -> Path:
        return self.root / "metadata"

    def cache_of(self, logins: str) -> Path:
        """uv's own, for those who show the same credentials: another one each day, as only whole ones are evicted."""
        return self.root / "uv" / f"{logins[:32] or 'shared'}-{int(time.time()) // 86_400}"


@dataclass(frozen=True)
class PypiSolve:
    """One request: `spec` with its last day, and whatever else decides what is chosen."""

    spec: EnvironmentSpec
    glibc: Mapping[str, str]
    policy: Policy
    logins: Logins
    fetch_archives: FetchArchives
    find_conda: FindConda

    def find_glibc(self, platform: str) -> str:
        return dict(self.spec.virtual_packages).get("__glibc") or self.glibc.get(platform) or DEFAULT_GLIBC


@dataclass(frozen=True)
class PypiResolver:
    folders: PypiFolders
    policy: IndexPolicy
    client: IndexClient
    metadata: WheelMetadata
    pool: WorkerPool
    limits: ArchiveLimits
    popular: Iterable[str]
    """Names that people probably mean."""
    turns: Lane
    """Processes of uv that run at a time."""
    seconds: float = 120
    memory: int = 2 << 30
    _known: LRUCache[str, tuple[Distribution, ...]] = field(default_factory=lambda: LRUCache(_MOST_KNOWN))
    """What conda packages provide, by the keys of their archives."""

    async def close(self) -> None:
        await self.metadata.close()
        await self.client.close()

    def key(self, spec: EnvironmentSpec) -> str:
        """What a solve of its requirements depends on beside the spec; empty if there are none."""
        if not spec.requirements:
            return ""
        return make_key("pypi", [RESOLVER_FORMAT, find_version(), spec.indexes or self.policy.indexes])

    async def add(self, lock: Lock, solve: PypiSolve) -> Lock:
        """The lock with wheels after the conda packages of every platform.

        Raises RequirementRefused, UnknownPackage, SolveLimit, IndexUnavailable, IndexNotAllowed, IndexRefused, and what
        fetching archives raises.
        """
        if not solve.spec.requirements:
            return lock
        _check(solve.spec.requirements)
        view = self._make_view(solve)
        wheels = await gather_all(
            self._solve_allowed(platform, packages, view, solve) for platform, packages in lock.packages.items()
        )
        return replace(
            lock,
            packages={
                platform: (*packages, *order_by_dependency(added))
                for (platform, packages), added in zip(lock.packages.items(), wheels, strict=True)
            },
        )

    def _make_view(self, solve: PypiSolve) -> View:
        spec = solve.spec
        until = find_moment(spec, math.inf) if spec.until else None
        at = find_moment(spec, time.time())
        return View(self.policy.list_asked(spec.indexes), solve.policy, until, at, solve.logins.key, hashes=spec.hashes)

    async def _solve_allowed(
        self, platform: str, packages: Sequence[LockedPackage], view: View, solve: PypiSolve
    ) -> list[LockedPackage]:
        """Solve, and again without those whose metadata says that the rules deny them. Raises PolicyRefusal."""
        refused: dict[tuple[str, str], str] = {}
        for _ in range(_ATTEMPTS):
            try:
                wheels = await self._solve(platform, packages, view, solve)
            except SolveError:
                if refused:
                    break
                raise
            found = _find_refusals(wheels, view)
            if not found:
                return wheels
            refused |= found
            view = replace(view, without=view.without | found.keys())
        raise PolicyRefusal(f"{join_refusals(list(refused.values()))}; {ASK_OTHERWISE}")

    async def _solve(
        self, platform: str, packages: Sequence[LockedPackage], view: View, solve: PypiSolve
    ) -> list[LockedPackage]:
        target = WheelPlatform.of(
            platform, packages, solve.find_glibc(platform), ", ".join(solve.spec.requirements[:3])
        )
        provided = await self._find_provided(packages, solve.fetch_archives)
        comparable = [each for each in provided.values() if each.version]
        constraints = await asyncio.to_thread(write_stubs, comparable, self.folders.stubs)
        session = Session(view, solve.logins, self.client, self.metadata)
        uv = Uv(self.folders.cache_of(solve.logins.key), self.folders.working, self.seconds, self.memory)
        async with Gateway(session) as gateway:
            question = Question(
                solve.spec.requirements, constraints, target.python, target.target, view.url, gateway.url
            )
            try:
                async with self.turns.turn():
                    answer = await uv.solve(question)
            except UvFailed as error:
                failure = Failure(
                    str(error), solve.spec.requirements, session, provided, target.python, platform, self.popular
                )
                raise await _explain(failure, solve.find_conda) from None
        chosen = await asyncio.to_thread(read_pylock, answer, target)
        if both := next((each.name for each in chosen if each.name in provided), None):
            raise RequirementRefused(
                both,
                f"the conda package {provided[both].package} provides it in a version that cannot be compared; ask for "
                "another version of that",
            )
        return await gather_all(self._lock(each, view, session) for each in chosen)

    async def _lock(self, wheel: ChosenWheel, view: View, session: Session) -> LockedPackage:
        metadata = await self.metadata.parse(view.indexes[wheel.link.index], wheel.link, session.logins)
        if (metadata.name, metadata.version) != (wheel.name, wheel.version):
            raise RequirementRefused(
                wheel.name, f"the metadata of {wheel.file_name} is that of {metadata.name} {metadata.version}"
            )
        return make_locked(wheel, view.indexes[wheel.link.index], metadata)

    async def _find_provided(
        self, packages: Sequence[LockedPackage], fetch_archives: FetchArchives
    ) -> dict[str, Distribution]:
        """What conda provides, by name. Only archives that were never looked into are fetched."""
        candidates = [package for package in packages if may_provide(package)]
        new = [package for package in candidates if package.archive_key not in self._known]
        kept = await asyncio.to_thread(lambda: [recall_provided(each, self.folders.provided) for each in new])
        self._known.update(
            {each.archive_key: tuple(some) for each, some in zip(new, kept, strict=True) if some is not None}
        )
        known = [self._known.get(package.archive_key) for package in candidates]
        unknown = [package for package, some in zip(candidates, known, strict=True) if some is None]
        found = [each for some in known if some is not None for each in some]
        if unknown:
            archives = await fetch_archives(unknown)
            shares = [unknown[start : start + _SHARE] for start in range(0, len(unknown), _SHARE)]
            for lists in await gather_all(self._read_provided(share, archives) for share in shares):
                found += [each for some in lists for each in some]
        return {each.name: each for each in found}

    async def _read_provided(
        self, packages: Sequence[LockedPackage], archives: Mapping[str, Path]
    ) -> list[list[Distribution]]:
        return await self.pool.run_sized(
            sum(package.size or 0 for package in packages),
            f"looking for Python distributions in {packages[0]}",
            find_all_provided,
            packages,
            [archives[package.archive_key] for package in packages],
            self.folders.contents,
            self.folders.provided,
            self.limits,
        )


async def _explain(failure: Failure, find_conda: FindConda) -> BuilderError:
    """Why there is no solution, or what uv says of it if finding out takes too long."""
    try:
        async with asyncio.timeout(_EXPLAINING):
            return await explain(failure, find_conda)
    except TimeoutError:
        return explain_briefly(failure)


def make_unlocked(index: str, link: Link) -> LockedPackage:
    """What a wheel is downloaded by whose metadata is not known yet."""
    file_name = unquote(link.url.rpartition("/")[2])
    name, version, build, _ = parse_wheel_name(file_name)
    return LockedPackage(
        name=f"{WHEEL_PREFIX}{name}",
        version=str(version),
        build="",
        build_number=build[0] if build else 0,
        subdir="noarch",
        channel=index,
        url=link.url,
        file_name=file_name,
        size=None,
        sha256=link.sha256,
        md5=None,
    )


def _find_refusals(wheels: Iterable[LockedPackage], view: View) -> dict[tuple[str, str], str]:
    """Why wheels are refused that uv chose, by name and version: their licences were not known before."""
    if not view.policy.layers:
        return {}
    described = ((each, describe_package(each, view.policy.alias)) for each in wheels)
    return {
        (each.title, each.version): f"{candidate} {refusal}"
        for each, candidate in described
        if (refusal := view.policy.find_refusal(candidate, view.at))
    }


def make_locked(wheel: ChosenWheel, index: str, metadata: CoreMetadata) -> LockedPackage:
    """A wheel as locks have it."""
    return LockedPackage(
        name=f"{WHEEL_PREFIX}{wheel.name}",
        version=wheel.version,
        build=wheel.tags,
        build_number=wheel.build_number,
        subdir=wheel.subdir,
        channel=index,
        url=wheel.link.url,
        file_name=wheel.file_name,
        size=wheel.size,
        sha256=wheel.link.sha256,
        md5=None,
        depends=metadata.requires,
        license=metadata.license,
        timestamp=wheel.uploaded,
        requires_python=metadata.requires_python,
    )


def _check(requirements: Sequence[str]) -> None:
    """Raises RequirementRefused for what uv must not be asked."""
    for text in requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            raise RequirementRefused(quote(text), "it is not a requirement, such as requests>=2") from None
        if not text.isprintable():
            raise RequirementRefused(quote(text), "it has characters that no requirement has")
        if requirement.url:
            raise RequirementRefused(
                requirement.name, "a requirement with an address is not supported; ask for a version of an index"
            )

"""Dry runs: what a build of now would hold, what it would change, and what of it is here already.

A preview takes turns like a build, counts as one of its caller, and has its time. It records and downloads nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

from builder.build import Builder, Place
from builder.channels.policy import ChannelPolicy
from builder.environments.difference import Difference, compare
from builder.environments.handles import taking_turn
from builder.environments.inputs.input import EnvironmentInput
from builder.environments.request import BuildRequest
from builder.environments.wanted import Wanted
from builder.layers.fragment import FragmentRecipe
from builder.locks.aside import read_lock, work_on
from builder.locks.lock import Lock, LockedPackage
from builder.names.spec import EnvironmentSpec
from builder.packages.contents import PythonLayout
from builder.queue.protocol import BuildQueue
from builder.work.claims import Caller
from storage.environments.vocabulary import EnvironmentBuild
from storage.errors import EnvironmentUnknown


@dataclass(frozen=True)
class Cached:
    """What of a lock this machine has already."""

    archives: frozenset[str]
    """Keys of packages' archives that need no download."""
    fragments: frozenset[str]
    """Those whose layers' parts are made. Of packages that share paths with others it is not known."""
    image: bool
    """Whether the whole image is there."""


@dataclass(frozen=True)
class Preview:
    lock: Lock
    against: EnvironmentBuild | None
    """The environment's current build, if it has one that is complete."""
    difference: Mapping[str, Difference]
    cached: Cached


@dataclass(frozen=True)
class Previews:
    wanted: Wanted
    builder: Builder
    channels: ChannelPolicy
    queue: BuildQueue

    async def make(
        self, namespace: str, name: str, wanted: EnvironmentInput, caller: Caller, *, compared: bool = True
    ) -> Preview:
        """What a build of `wanted` would be, `compared` with the current one. Raises BuilderError, TooManyBuilds."""
        lock = await self.solve(namespace, name, wanted, caller)
        against, before = await self._find_current(namespace, name) if compared else (None, None)
        difference = await work_on(lambda: compare(before, lock), before, lock)
        return Preview(lock, against, difference, await self._find_cached(lock, before))

    async def solve(self, namespace: str, name: str, wanted: EnvironmentInput, caller: Caller) -> Lock:
        """The lock that a build would have. An empty namespace has only the server's rules, and no credentials."""
        async with taking_turn(self.builder, self.queue, caller):
            return await self._solve(namespace, name, wanted)

    async def _solve(self, namespace: str, name: str, wanted: EnvironmentInput) -> Lock:
        self.channels.check(wanted.spec)
        if wanted.lock is not None:
            lock = wanted.lock
            await work_on(lambda: self.channels.check_lock(lock), lock)
            await self.builder.admission.of(namespace, name).check_lock(lock)
            base = self.wanted.settings.find_base((await self.wanted.settings.find(namespace, name)).values)
            return replace(lock, spec=replace(lock.spec, base=base))
        request = BuildRequest(wanted.spec, None, wanted.pip, wanted.extends)
        spec: EnvironmentSpec = await self.wanted.find_spec(request, namespace, name)
        self.channels.check(spec)
        return await self.builder.preview(spec, Place(namespace, "", name))

    async def _find_current(self, namespace: str, name: str) -> tuple[EnvironmentBuild | None, Lock | None]:
        try:
            found = await self.wanted.store.environments.find(namespace, name)
        except EnvironmentUnknown:
            return None, None
        build = await self.wanted.store.builds.find(found.current_build) if found.current_build is not None else None
        lock = await self.find_lock(build) if build else None
        return (build, lock) if lock else (None, None)

    async def find_lock(self, build: EnvironmentBuild) -> Lock | None:
        """The lock of a build; None if it has none, or it is not kept."""
        document = await self.builder.catalog.locks.find(build.lock_key) if build.lock_key else None
        return await read_lock(document) if document else None

    async def _find_cached(self, lock: Lock, before: Lock | None) -> Cached:
        lock_key = await work_on(lambda: lock.key, lock)
        key = self.builder.image_key(lock_key, tuple(lock.packages), lock.spec.base)
        # whether somebody else's image has the same variables is theirs: they could be guessed one by one
        may_tell = not lock.spec.variables or (
            before is not None and await work_on(lambda: before.key, before) == lock_key
        )
        image = may_tell and key is not None and await self.builder.catalog.images.find(key) is not None
        return await asyncio.to_thread(self._look, lock, image=image)

    def _look(self, lock: Lock, *, image: bool) -> Cached:
        archives, fragments = set(), set()
        for packages in lock.packages.values():
            python = PythonLayout.among(packages)
            for package in packages:
                if not (package.sha256 or package.md5 or package.owner):
                    continue
                if self.builder.downloader.has(package):
                    archives.add(package.archive_key)
                if self.builder.data.fragment(self._key_of(package, lock.spec.prefix, python)).exists():
                    fragments.add(package.archive_key)
        return Cached(frozenset(archives), frozenset(fragments), image)

    @staticmethod
    def _key_of(package: LockedPackage, prefix: str, python: PythonLayout | None) -> str:
        layout = python if package.noarch == "python" or package.is_wheel else None
        return FragmentRecipe(package.archive_key, prefix, layout, wheel=package.is_wheel).key

"""Handles of images: what somebody wrote down gets a name on demand, `<root>/spec.<hash>`.

A handle is found by a stored lock of its spec, so a spec is solved before it has one. A lock that somebody sent is
completed from its archives first, because an image on demand is built of a stored lock as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from builder.build import Builder
from builder.channels.policy import ChannelPolicy
from builder.environments.inputs.input import EnvironmentInput
from builder.environments.wanted import write_completed_key
from builder.errors import EnvironmentUnusable, StageLimit
from builder.image.finished import FinishedImage
from builder.locks.aside import read_lock, work_on, write_lock
from builder.locks.lock import Lock
from builder.names.image_name import HANDLE_DIGITS
from builder.progress import show_nothing
from builder.queue.job import Job
from builder.queue.protocol import BuildQueue
from builder.work.claims import Caller, Claim, on_behalf_of
from storage.catalog.locks import write_lock_tag


@dataclass(frozen=True)
class Handle:
    """`name` is `spec.<hash>`, `repository` the whole name, `tag` what is meant there now."""

    name: str
    repository: str
    tag: str
    lock_key: str
    digest: str | None
    """Of the image; None if it is not built yet."""

    @property
    def lock_tag(self) -> str:
        return write_lock_tag(self.lock_key)


@dataclass(frozen=True)
class Handles:
    builder: Builder
    channels: ChannelPolicy
    queue: BuildQueue

    async def make(self, wanted: EnvironmentInput, caller: Caller) -> Handle:
        """Store a lock of what is `wanted`, and name it. Raises BuilderError, TooManyBuilds."""
        if wanted.extends is not None:
            raise EnvironmentUnusable("extends: a handle is of a whole specification; write an environment instead")
        if wanted.lock is None and not (wanted.spec.items or wanted.spec.requirements):
            raise EnvironmentUnusable("dependencies: there are none, so there is nothing to make an image of")
        self.channels.check(wanted.spec)
        async with taking_turn(self.builder, self.queue, caller):
            lock = await (self._solve(wanted) if wanted.lock is None else self._complete(wanted.lock))
        name = f"spec.{lock.spec.key[:HANDLE_DIGITS]}"
        repository = f"{self.builder.settings.root}/{name}"
        # a completed lock that was read has its key yet to be made
        lock_key = await work_on(lambda: lock.key, lock)
        handle = Handle(name, repository, "latest", lock_key, await self._find_digest(lock))
        return handle if wanted.lock is None else replace(handle, tag=handle.lock_tag)

    async def _solve(self, wanted: EnvironmentInput) -> Lock:
        root = self.builder.settings.root
        spec = await self.builder.logins.give_owner(wanted.spec, root)
        await self.builder.admission.check_spec(spec)
        return await self.builder.lock(Job("image", spec))

    async def _complete(self, sent: Lock) -> Lock:
        builder = self.builder
        spec = await builder.logins.give_owner(sent.spec, builder.settings.root)
        lock = await builder.logins.own(replace(sent, spec=spec))
        await work_on(lambda: self.channels.check_lock(lock), lock)
        known = write_completed_key(await work_on(lambda: lock.key, lock))
        if (found := await builder.catalog.locks.find_resolution(known)) is not None:
            document = await builder.catalog.locks.find(found.lock_key)
            if document is not None:
                completed = await read_lock(document)
                await builder.admission.check_lock(completed)
                return completed
        done = await builder.complete(lock, show_nothing)
        lock_key, text = await write_lock(done)
        await builder.catalog.locks.put_solve(
            known, None, time.time(), lock_key=lock_key, spec_key=done.spec.key, document=text
        )
        return done

    async def _find_digest(self, lock: Lock) -> str | None:
        key = self.builder.image_key(lock.key, tuple(lock.packages))
        document = await self.builder.catalog.images.find(key) if key else None
        return str(FinishedImage.from_json(document["image"]).variants[0].digest) if document else None


@contextlib.asynccontextmanager
async def taking_turn(builder: Builder, queue: BuildQueue, caller: Caller) -> AsyncIterator[None]:
    """Work for `caller` that is no build, but waits for its turn and counts as one. Raises TooManyBuilds, StageLimit.

    All of it has the time for reading channels and two solves.
    """
    seconds = builder.settings.channel_seconds + 2 * builder.settings.solve_seconds
    claim = Claim(caller)
    with queue.holding(caller), on_behalf_of(claim), claim.waited_for(caller):
        try:
            async with asyncio.timeout(seconds) as limit, builder.stages.begun.turn():
                yield
        except TimeoutError:
            if limit.expired():
                raise StageLimit("a solve", seconds, "solve_seconds") from None
            raise

"""The work of one build of an environment: to a lock, an image, and the environment's repository.

    begin -> solve -> image (as on demand, and shared with it) -> publish

One that would make what an earlier build of its environment has does none of these: it only ends.

The queue ends the build when the work is done, and with it the environment's build, in one transaction. All steps are
idempotent: whoever takes the build over from a dead process does them again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from builder.build import Builder, Place
from builder.environments.at_hand import AtHand
from builder.environments.journal import Journal, Journals
from builder.environments.repetition import Repetitions
from builder.environments.request import BuildRequest
from builder.environments.transfer.origin import Origin
from builder.environments.transfer.remaking import compare, find_lock
from builder.environments.wanted import Wanted, write_completed_key
from builder.errors import BuildCanceled, BuildFailed, UnknownLock
from builder.image.finished import FinishedImage
from builder.locks.aside import read_lock, write_lock
from builder.locks.lock import Lock
from builder.progress import Progress
from builder.queue.ended import Announce, EndedBuild
from builder.queue.job import Job
from builder.queue.protocol import CompletedBuild
from builder.work.claims import current_claim
from storage.cancellation import to_end
from storage.catalog.locks import write_lock_tag
from storage.environments.parts import EnvironmentStore
from storage.environments.vocabulary import BuildStatus, Cause, EnvironmentBuild, Made, Repetition, make_job_key
from storage.errors import (
    ConderyError,
    EnvironmentBuildUnknown,
    ManifestBlobUnknown,
    ManifestUnknown,
    StorageError,
    StorageUnavailable,
)
from storage.events.outbox import Record

log = structlog.get_logger(__name__)

ATTEMPTS = 3
"""How often an image is made whose parts are deleted before they are published."""
OUTAGE_SECONDS = 60.0
"""A build goes on after so long without a database, such as while it restarts."""
OUTAGE_PAUSE = 1.0


@dataclass(frozen=True)
class EnvironmentWork:
    """Does the jobs of environments' builds."""

    builder: Builder
    store: EnvironmentStore
    journals: Journals
    wanted: Wanted
    at_hand: AtHand
    repetitions: Repetitions
    _journals: dict[int, Journal] = field(default_factory=dict)
    """Those of builds that have a turn, or wait for one."""
    _repositories: dict[int, str] = field(default_factory=dict)
    """Where the images of builds are that are about to end here."""
    _begun: dict[int, EnvironmentBuild] = field(default_factory=dict)
    """Builds that have a turn here, as they were before."""
    _notes: dict[int, str] = field(default_factory=dict)
    """What is remarkable about them."""
    _requests: dict[int, BuildRequest] = field(default_factory=dict)
    """What they are made of, where that is known."""
    _repeated: dict[int, Repetition] = field(default_factory=dict)
    """What an earlier build has that they are about to end with."""

    @contextlib.asynccontextmanager
    async def turn(self, job: Job) -> AsyncIterator[None]:
        """Take a turn to `run` the job. The build's log is open meanwhile, and says how long there was none."""
        build = await self._take(_number_of(job))
        resumed = build.status == BuildStatus.BUILDING
        async with self.journals.keeping(build.id, current_claim(), resumed=resumed) as journal:
            if not resumed:
                journal.change_state("QUEUED", f"{build.namespace}/{build.name}, asked for by {build.created_by}")
            self._journals[build.id], self._begun[build.id] = journal, build
            try:
                async with self.builder.stages.begun.turn():
                    yield
            except asyncio.CancelledError:
                row = await to_end(self.builder.catalog.builds.last(make_job_key(build.id)))
                if row is not None and row.status == "CANCELED":
                    journal.change_state("CANCELED", row.error_message or "")
                raise
            finally:
                del self._journals[build.id], self._begun[build.id]
                self._requests.pop(build.id, None)

    async def _take(self, number: int) -> EnvironmentBuild:
        """A build as it was when it was recorded, or is now."""
        at_hand = self.at_hand.take(number)
        if at_hand is None:
            return await self.store.builds.find(number)
        build, self._requests[number] = at_hand
        return build

    async def _find_request(self, build: EnvironmentBuild) -> BuildRequest:
        if build.id not in self._requests:
            specification = await self.store.builds.find_specification(build.specification)
            self._requests[build.id] = BuildRequest.from_json(specification.request)
        return self._requests[build.id]

    async def find_known(self, job: Job) -> str | None:
        """The key of the image that a build in its `turn` ends with at once, because an earlier one has it."""
        build = self._begun[_number_of(job)]
        try:
            found = await self.repetitions.find(build, await self._find_request(build))
        except StorageError:
            # `run` waits until the storage answers
            return None
        if found is None:
            return None
        self._repeated[build.id] = found
        return found.image_key

    def record_beginning(self, job: Job) -> Record[None]:
        """What to record in the transaction that says that the queue's build begins."""
        self._repeated.pop(_number_of(job), None)
        return lambda connection, _: self.store.building.begin(connection, _number_of(job))

    async def run(self, job: Job) -> str:
        """Do the work of a build in its `turn`; return the key of its image. Raises BuilderError, StorageError."""
        build = self._begun[_number_of(job)]
        journal = self._journals[build.id]
        journal.change_state("BUILDING")
        try:
            key = await self._do_through_outages(job, build, journal)
        except ConderyError as error:
            journal.change_state("FAILED", str(error))
            raise
        except Exception:
            journal.change_state("FAILED", "internal error; the server's log has the details")
            raise
        journal.change_state("COMPLETED")
        return key

    async def _do_through_outages(self, job: Job, build: EnvironmentBuild, journal: Journal) -> str:
        """Do the work, and again while the storage does not answer: nobody asks again for what has failed."""
        last = time.monotonic() + OUTAGE_SECONDS
        while True:
            try:
                return await self._do(job, build, journal)
            except StorageUnavailable as error:
                if time.monotonic() > last:
                    raise
                log.warning("a build waits for the storage", build=build.id, reason=str(error))
            await asyncio.sleep(OUTAGE_PAUSE)

    async def _do(self, job: Job, build: EnvironmentBuild, progress: Progress) -> str:
        request = await self._find_request(build)
        if build.cause is Cause.IMPORT and request.origin is not None:
            return await self._remake(job, build, Origin.from_json(request.origin), progress)
        # the credentials of now: they may have changed since it was asked for
        spec = await self.wanted.find_spec(request, build.namespace, build.name)
        lock_key = await self._complete(request.lock_key, spec.base, build, progress) if request.lock_key else None
        return await self._make(replace(job, spec=spec, lock_key=lock_key), build, progress)

    async def _remake(self, job: Job, build: EnvironmentBuild, origin: Origin, progress: Progress) -> str:
        """Make an imported build's image of its lock, and note whether it is what it was elsewhere."""
        remade = await find_lock(self.builder, build, progress)
        spec = remade.lock.spec
        key = await self._make(replace(job, spec=spec, lock_key=remade.lock.key), build, progress)
        self._notes[build.id] = await compare(self.builder, self.store.builds, origin, remade, key)
        return key

    async def _complete(self, key: str, base: str, build: EnvironmentBuild, progress: Progress) -> str:
        """The key of a lock that somebody sent, with what its archives say of themselves, and with the base of now.

        Raises UnknownLock.
        """
        locks = self.builder.catalog.locks
        known = write_completed_key(key, base)
        if (found := await locks.find_resolution(known)) is not None:
            return found.lock_key
        document = await locks.find(key)
        if document is None:
            raise UnknownLock(write_lock_tag(key), "it was deleted; send the lock file again")
        place = Place(build.namespace, build.repository, build.name)
        sent = await read_lock(document)
        lock = await self.builder.complete(replace(sent, spec=replace(sent.spec, base=base)), progress, place)
        lock_key, text = await write_lock(lock)
        await locks.put_solve(known, None, time.time(), lock_key=lock_key, spec_key=lock.spec.key, document=text)
        return lock_key

    async def _make(self, job: Job, build: EnvironmentBuild, progress: Progress) -> str:
        place = Place(build.namespace, build.repository, build.name, anew=build.cause is Cause.REBUILD)
        for _ in range(ATTEMPTS):
            lock, key, image = await self.builder.make_named(job, place, progress)
            try:
                await self.store.building.publish(build.id, describe_made(lock, key), image.variants[0].digest)
            except (ManifestUnknown, ManifestBlobUnknown) as error:
                gone = error
                continue
            return key
        raise StorageUnavailable("the image", "its parts are deleted before they can be used") from gone

    async def describe_end(
        self, job: Job, build_id: str, seconds: float, end: CompletedBuild | BuildFailed, announce: Announce | None
    ) -> Record[None]:
        """What to record in the transaction that ends the queue's build: the end of the environment's, and an event."""
        assert job.environment_build is not None
        number = job.environment_build
        repetition = None if isinstance(end, BuildFailed) else self._repeated.get(number)
        if repetition is not None:
            repository = self._begun[number].repository
            described = EndedBuild(
                build_id, "environment", repository, seconds, tag=str(number), manifest=repetition.manifest
            )
        else:
            described = await self._describe(number, build_id, seconds, end)
        self._repositories[number] = described.repository
        told = announce(described) if announce else None

        async def record(connection: AsyncConnection, nothing: None) -> None:
            if isinstance(end, BuildFailed):
                canceled = isinstance(end, BuildCanceled)
                await self.store.building.fail(connection, number, end.message, canceled=canceled)
            else:
                await self.store.building.complete(connection, number, self._notes.get(number), repetition)
            if told is not None:
                await told(connection, nothing)

        return record

    def note_ended(self, job: Job) -> None:
        """Void what is remembered of the repository's tags, once the end of a build is recorded."""
        number = job.environment_build or 0
        self._notes.pop(number, None)
        if self._repeated.pop(number, None) is not None and (journal := self._journals.get(number)) is not None:
            journal.change_state("BUILDING")
            journal.change_state("COMPLETED", "an earlier build has the same image")
        if (repository := self._repositories.pop(number, None)) is not None:
            self.store.building.changes.mark(repository)

    async def _describe(
        self, number: int, build_id: str, seconds: float, end: CompletedBuild | BuildFailed
    ) -> EndedBuild:
        try:
            build = await self.store.builds.find(number)
        except EnvironmentBuildUnknown:
            return EndedBuild(build_id, "environment", "", seconds, end if isinstance(end, BuildFailed) else None)
        if isinstance(end, BuildFailed):
            return EndedBuild(build_id, "environment", build.repository, seconds, end)
        document = await self.builder.catalog.images.find(end.made) if end.made else None
        manifest = FinishedImage.from_json(document["image"]).variants[0] if document else None
        return EndedBuild(build_id, "environment", build.repository, seconds, tag=str(number), manifest=manifest)


def _number_of(job: Job) -> int:
    assert job.environment_build is not None
    return job.environment_build


def describe_made(lock: Lock, image_key: str) -> Made:
    """What is recorded of a lock's image."""
    packages = [package for group in lock.packages.values() for package in group]
    unique = {package.archive_key: package.size or 0 for package in packages}
    return Made(lock.key, image_key, sum(unique.values()), tuple(sorted({package.name for package in packages})))

"""The life of named environments: asked for, built, followed, moved between builds, deleted.

A build is recorded before it is submitted to the queue. If the process dies in between, or the queue forgets it, the
next one to look submits it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from builder.artifacts.artifact import Artifact
from builder.build import Builder, Place
from builder.channels.policy import ChannelPolicy
from builder.environments.at_hand import AtHand
from builder.environments.extending import check_extends
from builder.environments.handles import Handles
from builder.environments.inputs.input import EnvironmentInput
from builder.environments.previews import Previews
from builder.environments.repository import write_repository
from builder.environments.request import BuildRequest
from builder.environments.wanted import Wanted
from builder.errors import BuildFailed, EnvironmentUnusable, TooManyBuilds
from builder.image.finished import FinishedImage
from builder.locks.aside import read_spec, work_on, write_lock
from builder.names.spec import EnvironmentSpec
from builder.queue.job import Job
from builder.queue.protocol import BuildQueue, CompletedBuild, Priority, SubmittedBuild
from builder.ticket import Ticket
from builder.work.claims import OURSELVES, Caller, Claim, Permit, on_behalf_of, permit_all
from storage.background import in_background
from storage.environments.parts import EnvironmentStore
from storage.environments.vocabulary import (
    BuildStatus,
    Cause,
    Environment,
    EnvironmentBuild,
    NewSpecification,
    make_job_key,
)
from storage.errors import ConderyError, StorageError, TagOfNoBuild
from storage.events.outbox import Record

log = structlog.get_logger(__name__)

LEFT_SECONDS = 10.0
"""How old an unfinished build is before the queue is asked again to do it."""
LOOK_SECONDS = 15.0


class Files(Protocol):
    """Makes files of locks, as `builder.demand.Demand` does."""

    async def artifact_of_lock(
        self, lock_key: str, name: str, namespace: str, caller: Caller, permit: Permit = permit_all
    ) -> Ticket[Artifact]: ...


@dataclass(frozen=True)
class NamedEnvironments:
    """Named environments of a server."""

    store: EnvironmentStore
    builder: Builder
    queue: BuildQueue
    channels: ChannelPolicy
    files: Files
    wanted: Wanted
    previews: Previews
    handles: Handles
    at_hand: AtHand

    # asking

    async def create(
        self,
        namespace: str,
        name: str,
        wanted: EnvironmentInput,
        *,
        by: str,
        caller: Caller = OURSELVES,
        cause: Cause = Cause.REQUEST,
        description: str | None = None,
        record: Record[EnvironmentBuild] | None = None,
    ) -> EnvironmentBuild:
        """Have a build made of what somebody wrote down, in a new environment or as a new build of an old one.

        The build is the current one if the environment is new.

        Raises ChannelNotAllowed, PolicyRefusal, PolicyUnavailable, TooManyBuilds, EnvironmentTaken.
        """
        repository = write_repository(namespace, name)
        check_extends(wanted.extends, repository)
        found = await self.wanted.settings.find(namespace, name)
        await self.wanted.check_room(found, namespace, name)
        request = BuildRequest(wanted.spec, None, wanted.pip, wanted.extends)
        spec, lock_key = await self._check(request, namespace, name), None
        if wanted.lock is not None:
            lock = await self.builder.logins.own(replace(wanted.lock, spec=spec))
            # rules are asked when the archives have said what they are: a lock may say anything of them
            await work_on(lambda: self.channels.check_lock(lock), lock)
            lock_key, text = await write_lock(lock)
            await self.builder.catalog.locks.put_text(lock_key, spec.key, text)
            request = BuildRequest(spec, lock_key, wanted.pip)
        specification = NewSpecification(name, wanted.document, request.to_json())
        await work_on(lambda: specification.texts, wanted.lock)
        build = await self.store.environments.ask_for_build(
            namespace,
            name,
            repository,
            specification,
            by=by,
            cause=cause,
            description=wanted.description if description is None else description,
            record=self.wanted.record_within(found, namespace, name, record),
        )
        self.at_hand.put(build, request)
        await self._submit_or_take_back(build, spec, caller)
        return build

    async def _check(self, request: BuildRequest, namespace: str, name: str) -> EnvironmentSpec:
        """What would be solved. Raises ChannelNotAllowed, PolicyRefusal, PolicyUnavailable."""
        self.channels.check(request.spec)
        try:
            spec = await self.wanted.find_spec(request, namespace, name)
        except EnvironmentUnusable:
            # the environment that it extends may be there when it is built; else the build says so itself
            spec = await self.builder.logins.give_owner(request.spec, namespace)
        self.channels.check(spec)
        if spec.items:
            await self.builder.admission.of(namespace, name).check_spec(spec)
        return spec

    async def rebuild(
        self,
        build_id: int,
        *,
        by: str,
        caller: Caller = OURSELVES,
        cause: Cause = Cause.REBUILD,
        record: Record[EnvironmentBuild] | None = None,
    ) -> EnvironmentBuild:
        """Have the specification of a build solved and built again.

        Raises EnvironmentBuildUnknown, PolicyRefusal, TooManyBuilds.
        """
        earlier = await self.store.builds.find(build_id)
        found = await self.wanted.settings.find(earlier.namespace, earlier.name)
        await self.wanted.check_room(found, earlier.namespace, earlier.name)
        within = self.wanted.record_within(found, earlier.namespace, earlier.name, record)
        build = await self.store.environments.ask_again(build_id, by=by, cause=cause, record=within)
        await self._submit_or_take_back(build, await self._read_spec(build), caller)
        return build

    async def has_news(self, build: EnvironmentBuild) -> bool:
        """Whether a solve of now gives another lock than a build has. Raises what the solve raises."""
        specification = await self.store.builds.find_specification(build.specification)
        request = BuildRequest.from_json(specification.request)
        if request.lock_key is not None:
            return False
        spec = await self.wanted.find_spec(request, build.namespace, build.name)
        place = Place(build.namespace, build.repository, build.name)
        with on_behalf_of(Claim(priority=Priority.LOW)):
            lock = await self.builder.lock(Job("image", spec, namespace=build.namespace), place=place)
        return lock.key != build.lock_key

    async def _submit_or_take_back(self, build: EnvironmentBuild, spec: EnvironmentSpec, caller: Caller) -> None:
        try:
            await self._submit(build, spec, caller)
        except TooManyBuilds:
            await self.store.environments.take_back(build.id)
            raise

    async def _submit(self, build: EnvironmentBuild, spec: EnvironmentSpec, caller: Caller) -> SubmittedBuild:
        is_asked = build.cause in (Cause.REQUEST, Cause.REBUILD)
        job = Job("environment", spec, environment_build=build.id)
        return await self.queue.submit(job, caller, Priority.NORMAL if is_asked else Priority.LOW)

    async def _read_spec(self, build: EnvironmentBuild) -> EnvironmentSpec:
        specification = await self.store.builds.find_specification(build.specification)
        request = BuildRequest.from_json(specification.request)
        if build.cause is Cause.IMPORT and build.lock_key is not None:
            # it is what was built, which its image begins with
            document = await self.builder.catalog.locks.find(build.lock_key)
            return read_spec(document) if document else request.spec
        try:
            return await self.wanted.find_spec(request, build.namespace, build.name)
        except EnvironmentUnusable:
            # the build says so itself
            return request.spec

    # following and ending

    async def follow(self, build: EnvironmentBuild) -> SubmittedBuild | None:
        """The queue's build that does the work, to wait for; None if there is none any more."""
        row = await self.builder.catalog.builds.last(make_job_key(build.id))
        return await self.queue.follow(row.id) if row else None

    async def find_ticket(self, repository: str, tag: str, caller: Caller) -> Ticket[FinishedImage] | None:
        """A ticket for the image that a tag of an environment means; None if it means none.

        Where its build has not ended the ticket waits for it, unless an earlier build answers for `latest`. Raises
        BuildFailed for one that has failed, and PolicyRefusal for one that holds what is not allowed any more.
        """
        build = await self.store.builds.find_for_tag(repository, tag)
        if build is None:
            return None
        spec = await self._read_spec(build)
        with contextlib.suppress(StorageError):
            await self.store.builds.note_pull(build)
        if build.is_finished:
            if build.lock_key is not None:
                await self.builder.admission.of(build.namespace, build.name).check_stored(build.lock_key)
            return Ticket(spec, caller, ready=await self._get_image(build))
        running = await self.follow(build)
        if running is None:
            # it was recorded a moment ago, or its process died before it was submitted
            running = await self._submit(build, spec, caller)

        async def fetch(_completed: CompletedBuild) -> FinishedImage | None:
            return await self._get_image(await self.store.builds.find(build.id))

        return Ticket(spec, caller, build=running, fetch=fetch)

    async def find_file(self, repository: str, tag: str, name: str, caller: Caller) -> Ticket[Artifact]:
        """A ticket for a file beside the image that a tag means. Raises ManifestUnknown, and as `make_file`."""
        build = await self.store.builds.find_for_tag(repository, tag)
        if build is None:
            raise TagOfNoBuild(repository, tag)
        return await self.make_file(build, name, caller)

    async def make_file(self, build: EnvironmentBuild, name: str, caller: Caller) -> Ticket[Artifact]:
        """A ticket for a file of a build.

        Raises EnvironmentUnusable if the build has no lock yet, BuildFailed if it never will, and what
        `Files.artifact_of_lock` raises.
        """
        if build.lock_key is None and build.is_finished:
            raise BuildFailed(str(build.id), build.status, build.status_info or "it made nothing")
        if build.lock_key is None:
            raise EnvironmentUnusable(f"build {build.id} is {build.status} and has no files yet; ask again")
        await self.builder.admission.of(build.namespace, build.name).check_stored(build.lock_key)
        return await self.files.artifact_of_lock(build.lock_key, name, build.namespace, caller)

    async def _get_image(self, build: EnvironmentBuild) -> FinishedImage:
        """The image of a build that has ended. Raises BuildFailed."""
        if build.status != BuildStatus.COMPLETED or build.image_key is None:
            raise BuildFailed(str(build.id), build.status, build.status_info or "it made nothing")
        document = await self.store.builds.find_image(build.image_key)
        if document is None:
            raise BuildFailed(str(build.id), "Collected", "its image was lost; build it again")
        return FinishedImage.from_json(document["image"])

    async def cancel(self, build: EnvironmentBuild, reason: str) -> bool:
        """End an unfinished build; False if it has ended already. `reason` is a whole sentence."""
        row = await self.builder.catalog.builds.last(make_job_key(build.id))
        if row is not None and row.ended is None and await self.queue.cancel(row.id, reason):
            return True
        if (await self.store.builds.find(build.id)).is_finished:
            return False
        await self.store.building.end_left(build.id, reason, canceled=True)
        return True

    async def delete(self, namespace: str, name: str, *, by: str, record: Record[Environment] | None = None) -> None:
        """Delete an environment, and cancel its builds that have not ended. Raises EnvironmentUnknown."""
        for build in await self.store.environments.delete(namespace, name, record):
            row = await self.builder.catalog.builds.last(make_job_key(build.id))
            if row is not None and row.ended is None:
                await self.queue.cancel(row.id, f"its environment was deleted by {by}")

    # keeping alive

    @contextlib.asynccontextmanager
    async def keeping(self) -> AsyncIterator[None]:
        """Submit again, while the block runs, what was recorded and not submitted."""
        async with in_background(self._keep()):
            yield

    async def _keep(self) -> None:
        while True:
            try:
                await self.submit_left()
            except ConderyError as error:
                log.warning("cannot look for builds that nobody works on", reason=str(error))
            except Exception:
                # without the look nobody would ever work on them
                log.exception("cannot look for builds that nobody works on")
            await asyncio.sleep(LOOK_SECONDS)

    async def submit_left(self) -> None:
        """Submit the unfinished builds that the queue does not have; one that cannot be submitted stops no other."""
        for build in await self.store.builds.list_left(time.time() - LEFT_SECONDS):
            log.info("build of an environment submitted again", build=build.id, environment=build.repository)
            try:
                await self.submit(build)
            except ConderyError as error:
                log.warning("build of an environment is not submitted", build=build.id, reason=str(error))

    async def submit(self, build: EnvironmentBuild) -> SubmittedBuild:
        """Have the queue do a build that is recorded."""
        return await self._submit(build, await self._read_spec(build), OURSELVES)

"""Environments with a history that was made elsewhere: all of it becomes visible in one transaction, or nothing.

Locks and blobs are stored before. What is stored and never named here is garbage.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog.images import record_manifests
from storage.catalog.locks import write_lock_tag
from storage.database.engine import Database
from storage.database.environment_tables import (
    environment,
    environment_build,
    environment_image,
    environment_manifest,
)
from storage.digest import Digest
from storage.environments.environments import Environments, find_build, lock_environment
from storage.environments.lists.contents import note_packages
from storage.environments.logs import put_kept
from storage.environments.names import CHANNEL
from storage.environments.publishing import LATEST, set_tags, write_day
from storage.environments.settings import change_layer
from storage.environments.vocabulary import (
    BuildStatus,
    Cause,
    Document,
    EnvironmentBuild,
    NewSpecification,
    make_job_key,
)
from storage.errors import EnvironmentTaken
from storage.events.announcements import announce
from storage.events.hints import hint
from storage.events.outbox import Record
from storage.quotas.bounds import find_bounds
from storage.quotas.held import check_bounds, lock_bounds, sum_held
from storage.quotas.limits import Limits
from storage.quotas.room import Room
from storage.repositories.rows import Push


@dataclass(frozen=True)
class ImportedImage:
    """An image whose blobs are stored. `load` reads its manifests, so that not all are in memory at once."""

    key: str
    digest: Digest
    document: Document
    load: Callable[[], Awaitable[Sequence[Push]]]


@dataclass(frozen=True)
class ImportedBuild:
    """A build as it becomes one of ours. Times are UNIX seconds; `same_as` is the place of an earlier one."""

    specification: NewSpecification
    status: BuildStatus
    status_info: str | None
    lock_key: str | None
    packages: Sequence[str]
    same_as: int | None
    size: int
    scheduled: float
    started: float | None
    ended: float | None
    image: ImportedImage | None
    log: tuple[Digest, int] | None = None
    """The blob that is the log of one that has ended, and its bytes."""


@dataclass(frozen=True)
class ImportedEnvironment:
    namespace: str
    name: str
    repository: str
    description: str
    builds: Sequence[ImportedBuild]
    """In the order of their age."""
    current: int
    """The place of the current one."""
    settings: Document = field(default_factory=dict)
    """What is set for it."""


class EnvironmentImports:
    """Records what was imported."""

    def __init__(
        self, database: Database, environments: Environments, room: Room, limits: Limits | None = None
    ) -> None:
        self._database = database
        self._environments = environments
        self._room = room
        self._limits = limits or Limits()

    async def check(self, namespace: str, name: str, repository: str) -> None:
        """Raises EnvironmentTaken if there is an environment of this name, or of this image name."""
        async with self._database.reading() as connection:
            await self._check(connection, namespace, name, repository)

    async def put(
        self, wanted: ImportedEnvironment, *, by: str, record: Record[EnvironmentBuild] | None = None
    ) -> list[EnvironmentBuild]:
        """Record a new environment with its builds, and images in its repository; `record` gets the current build.

        Raises EnvironmentTaken, QuotaExceeded, SizeMismatch, and ManifestBlobUnknown or BlobUnknown if a blob is gone
        again.
        """
        builds: list[EnvironmentBuild] = []

        async def attempt() -> None:
            async with self._database.writing() as connection:
                builds[:] = await self._put(connection, wanted, by)
                if record is not None:
                    await record(connection, builds[wanted.current])
                await announce(connection, wanted.repository)
                await hint(connection, CHANNEL)

        await self._room.within(wanted.repository, attempt)
        self._environments.names.add(wanted.repository)
        self._environments.changes.mark(wanted.repository)
        if wanted.settings:
            self._environments.changes.mark_all()
        return builds

    async def _put(self, connection: AsyncConnection, wanted: ImportedEnvironment, by: str) -> list[EnvironmentBuild]:
        repository = wanted.repository
        await lock_environment(self._database, connection, repository)
        await self._check(connection, wanted.namespace, wanted.name, repository)
        await self._environments.ensure_namespace(connection, wanted.namespace, by)
        made = await self._environments.ensure_environment(connection, wanted.namespace, wanted.name, repository, by)
        bounds = await find_bounds(connection, self._limits, repository)
        await lock_bounds(self._database, connection, bounds)
        held = [await sum_held(connection, bound) for bound in bounds]
        ids: list[int] = []
        images = {build.image.key: build.image for build in wanted.builds if build.image is not None}
        for image in images.values():
            await self._put_image(connection, repository, image)
        numbers = await self._note_packages(connection, wanted.builds)
        for build in wanted.builds:
            ids.append(await self._put_build(connection, made, build, ids, numbers, by))
        ended = zip(ids, wanted.builds, strict=True)
        await put_kept(self._database, connection, {number: build.log for number, build in ended if build.log})
        if wanted.settings:
            await change_layer(self._database, connection, wanted.settings, wanted.namespace, wanted.name)
        values = {
            "description": wanted.description,
            "current_build": ids[wanted.current],
            "last_build": ids[-1],
        }
        await connection.execute(update(environment).where(environment.c.id == made).values(**values))
        await self._set_tags(connection, wanted, ids)
        await check_bounds(connection, bounds, held)
        return [await find_build(connection, each) for each in ids]

    async def _check(self, connection: AsyncConnection, namespace: str, name: str, repository: str) -> None:
        alive = environment.c.deleted.is_(None)
        query = select(environment.c.name).where(alive, environment.c.repository == repository)
        found = (await connection.execute(query)).scalar()
        if found is not None:
            raise EnvironmentTaken(
                namespace, name, f"there is the environment {found} already; import it under another name"
            )

    async def _put_image(self, connection: AsyncConnection, repository: str, image: ImportedImage) -> None:
        """Record an image. It is no on-demand image, so whoever asks for its lock gets what is made of that here."""
        pushes = await image.load()
        await record_manifests(self._database, connection, repository, pushes)
        values = {"key": image.key, "document": json.dumps(image.document)}
        await connection.execute(self._database.insert(environment_image).values(**values).on_conflict_do_nothing())
        rows = [{"image": image.key, "digest": push.manifest.digest} for push in pushes]
        await connection.execute(self._database.insert(environment_manifest).on_conflict_do_nothing(), rows)

    async def _put_build(
        self,
        connection: AsyncConnection,
        environment_id: int,
        build: ImportedBuild,
        earlier: Sequence[int],
        numbers: Mapping[str, int],
        by: str,
    ) -> int:
        specified = await self._environments.ensure_specification(connection, environment_id, build.specification)
        row = environment_build
        values = {
            "environment": environment_id,
            "specification": specified,
            "status": build.status,
            "status_info": build.status_info,
            "cause": Cause.IMPORT,
            "lock_key": build.lock_key,
            "lock_number": None if build.lock_key is None else numbers[build.lock_key],
            "image_key": build.image.key if build.image else None,
            "same_as": earlier[build.same_as] if build.same_as is not None else None,
            "size": build.size,
            "scheduled": build.scheduled,
            "started": build.started,
            "ended": build.ended,
            "created_by": by,
            # so that retention leaves time to look at it
            "pulled": time.time() if build.image else None,
        }
        build_id = int((await connection.execute(insert(row).values(**values).returning(row.c.id))).scalar_one())
        job_key = make_job_key(build_id)
        await connection.execute(update(row).where(row.c.id == build_id).values(job_key=job_key))
        return build_id

    async def _note_packages(self, connection: AsyncConnection, builds: Sequence[ImportedBuild]) -> dict[str, int]:
        """The number of each lock."""
        packages = {build.lock_key: build.packages for build in builds if build.lock_key is not None}
        # in one order, so that two imports do not wait for each other
        return {key: await note_packages(self._database, connection, key, packages[key]) for key in sorted(packages)}

    async def _set_tags(self, connection: AsyncConnection, wanted: ImportedEnvironment, ids: Sequence[int]) -> None:
        """The tags that the builds would have got one after the other."""
        for place, (build, build_id) in enumerate(zip(wanted.builds, ids, strict=True)):
            if build.image is None:
                continue
            assert build.lock_key is not None, "an image is of a lock"
            assert build.ended is not None, "an image is of a build that has ended"
            tags = [str(build_id), write_lock_tag(build.lock_key), write_day(build.ended)]
            tags += [LATEST] if place == wanted.current else []
            await set_tags(self._database, connection, wanted.repository, build.image.digest, tags)

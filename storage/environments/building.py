"""What the queue does with a build of an environment: it begins, its image is published, and it ends.

The queue's build (`storage.catalog.builds`) does the work. It ends in the same transaction as the environment's build,
so neither is ever seen to go on when the other has ended.
"""

from __future__ import annotations

import json
import time
from typing import Any

from sqlalchemy import exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.catalog.locks import write_lock_tag
from storage.database import tables
from storage.database.engine import Database
from storage.database.environment_tables import environment, environment_build, listed_lock, specification
from storage.digest import Digest
from storage.environments.environments import find_build, lock_environment
from storage.environments.lists.contents import note_packages
from storage.environments.names import CHANNEL
from storage.environments.publishing import (
    LATEST,
    drop_tags,
    drop_unneeded,
    find_repeated,
    forget_lost_images,
    give_image,
    set_tags,
    write_day,
)
from storage.environments.rows import read_build, select_builds
from storage.environments.vocabulary import (
    DESCRIPTION,
    UNFINISHED,
    BuildStatus,
    Cause,
    EnvironmentBuild,
    Made,
    Repetition,
)
from storage.errors import EnvironmentBuildUnknown, ManifestUnknown, QuotaExceeded
from storage.events.announcements import announce
from storage.events.changes import Changes
from storage.events.hints import hint
from storage.quotas.limits import Limits
from storage.quotas.room import Room
from storage.repositories.rows import lock_manifests


class Building:
    """From the beginning of a build's work to its end; each method is one transaction unless it takes a connection."""

    def __init__(self, database: Database, changes: Changes, room: Room, limits: Limits | None = None) -> None:
        self._database = database
        self.changes = changes
        self._room = room
        self._limits = limits or Limits()

    async def begin(self, connection: AsyncConnection, build_id: int) -> None:
        """Record that the work has begun, in the transaction that says so of the queue's build.

        Raises EnvironmentBuildUnknown if the build was deleted meanwhile.
        """
        row = environment_build
        values = {"status": BuildStatus.BUILDING, "started": func.coalesce(row.c.started, time.time())}
        these = (row.c.id == build_id) & row.c.deleted.is_(None) & row.c.status.in_(UNFINISHED)
        if (await connection.execute(update(row).where(these).values(**values))).rowcount != 1:
            raise EnvironmentBuildUnknown(build_id)

    async def publish(self, build_id: int, made: Made, digest: Digest) -> None:
        """Give the image to the environment's repository and tag it with the build's id.

        `digest` is that of the image's index. Nobody is told before the build is complete. Raises
        EnvironmentBuildUnknown if the build was deleted or has ended, ManifestUnknown or ManifestBlobUnknown if the
        image is gone again, QuotaExceeded.
        """
        async with self._database.reading() as connection:
            build = await find_build(connection, build_id)

        async def attempt() -> None:
            async with self._database.writing() as connection:
                await lock_environment(self._database, connection, build.repository)
                if await self._find_unfinished(connection, build_id) is None:
                    raise EnvironmentBuildUnknown(build_id)
                await give_image(self._database, connection, self._limits, build.repository, made.image_key)
                await set_tags(self._database, connection, build.repository, digest, [str(build_id)])
                number = await note_packages(self._database, connection, made.lock_key, made.packages)
                row = environment_build
                values = {
                    "lock_key": made.lock_key,
                    "lock_number": number,
                    "image_key": made.image_key,
                    "size": made.size,
                }
                await connection.execute(update(row).where(row.c.id == build_id).values(**values))
                await announce(connection, build.repository)

        try:
            await self._room.within(build.repository, attempt)
        except QuotaExceeded as error:
            await self._drop_refused(build.repository, made.image_key)
            raise QuotaExceeded(
                error.prefix, error.what, error.limit, error.needed, _make_room(error.prefix, build.namespace),
                held=error.held,
            ) from error  # fmt: skip
        except ManifestUnknown:
            # its row alone would keep it from being made again
            async with self._database.writing() as connection:
                made_of = tables.image_manifest
                query = select(made_of.c.digest).where(made_of.c.image == made.image_key)
                await forget_lost_images(connection, list((await connection.execute(query)).scalars()))
            raise

    async def _drop_refused(self, repository: str, image_key: str) -> None:
        """Delete what was made in the repository itself, of an image that no build there has."""
        made, row = tables.image_manifest, tables.repository_manifest
        async with self._database.writing() as connection:
            await lock_environment(self._database, connection, repository)
            await lock_manifests(self._database, connection, repository)
            of_image = select(made.c.digest).where(made.c.image == image_key)
            digests = list((await connection.execute(of_image)).scalars())
            await drop_unneeded(connection, repository, row.c.digest.in_(digests))
            await announce(connection, repository)
        self.changes.mark(repository)

    async def complete(
        self,
        connection: AsyncConnection,
        build_id: int,
        note: str | None = None,
        repetition: Repetition | None = None,
    ) -> None:
        """End a published build, in the transaction that ends the queue's. `note` is what is remarkable about it.

        One that is a `repetition` was not published: it gets what an earlier build has, which may be gone meanwhile;
        then this raises ManifestUnknown.

        It becomes the current build unless a later one is complete already: two that run at once end in any order. An
        imported one becomes what it was elsewhere. Nothing happens if it was deleted or has ended meanwhile.
        """
        row, now = environment_build, time.time()
        build = await self._lock_unfinished(connection, build_id)
        if build is None:
            return
        if repetition is None:
            lock_key, digest = build.lock_key, await self._find_published(connection, build)
            values, tags = dict[str, Any](), list[str]()
        else:
            lock_key, digest = repetition.lock_key, await self._check_repeated(connection, build, repetition)
            values, tags = _take_over(repetition, now), [str(build_id)]
        assert lock_key is not None, "a published build has a lock"
        first, last, is_last = await self._find_others(connection, build, lock_key)
        info = f"the same lock as build {first}, so nothing was made anew" if first is not None else None
        info = note if note is not None else info
        values |= {"status": BuildStatus.COMPLETED, "ended": now, "same_as": first, "status_info": info}
        await connection.execute(update(row).where(row.c.id == build_id).values(**values))
        tags += [LATEST, write_day(now)] if is_last else []
        if last is None or last < build_id:
            tags.append(write_lock_tag(lock_key))
        if tags:
            await set_tags(self._database, connection, build.repository, digest, tags)
        if is_last:
            this = environment.c.id == build.environment
            await connection.execute(update(environment).where(this).values(current_build=build_id))
            await self._describe(connection, build)
        await hint(connection, CHANNEL)
        await announce(connection, build.repository)

    async def _find_others(
        self, connection: AsyncConnection, build: EnvironmentBuild, lock_key: str
    ) -> tuple[int | None, int | None, bool]:
        """The first and the last other complete build with a lock, and whether `build` becomes the current one."""
        row = environment_build
        others = (
            (row.c.environment == build.environment)
            & (row.c.id != build.id)
            & (row.c.status == BuildStatus.COMPLETED)
            & row.c.deleted.is_(None)
        )
        same_lock = others & (row.c.lock_key == lock_key)
        query = select(func.min(row.c.id), func.max(row.c.id)).where(same_lock)
        first, last = (await connection.execute(query)).one()
        if build.cause is Cause.IMPORT:
            return first, last, build.is_current
        later = select(exists().where(others, row.c.id > build.id))
        return first, last, not (await connection.execute(later)).scalar()

    async def _find_published(self, connection: AsyncConnection, build: EnvironmentBuild) -> str:
        """The digest of what was published for a build."""
        tag = tables.tag
        await lock_manifests(self._database, connection, build.repository)
        query = select(tag.c.digest).where(tag.c.repository == build.repository, tag.c.name == str(build.id))
        digest: str = (await connection.execute(query)).scalar_one()
        return digest

    async def _check_repeated(
        self, connection: AsyncConnection, build: EnvironmentBuild, repetition: Repetition
    ) -> str:
        """The digest of what an earlier build still has. Raises ManifestUnknown."""
        await lock_manifests(self._database, connection, build.repository)
        lock_key, image_key = repetition.lock_key, repetition.image_key
        if await find_repeated(connection, build.environment, lock_key, image_key) != repetition:
            raise ManifestUnknown(build.repository, repetition.manifest.digest)
        return repetition.manifest.digest

    async def _describe(self, connection: AsyncConnection, build: EnvironmentBuild) -> None:
        """Describe the environment as was asked for with the build, unless somebody has described it since."""
        query = select(specification.c.request).where(specification.c.id == build.specification)
        change = json.loads((await connection.execute(query)).scalar_one()).get(DESCRIPTION)
        if change is not None:
            this = (environment.c.id == build.environment) & (environment.c.description == change["before"])
            await connection.execute(update(environment).where(this).values(description=change["after"]))

    async def fail(self, connection: AsyncConnection, build_id: int, reason: str, *, canceled: bool = False) -> None:
        """End a build that made nothing, with a sentence that somebody can act on; what it published goes.

        Nothing happens if it was deleted or has ended meanwhile.
        """
        row = environment_build
        build = await self._lock_unfinished(connection, build_id)
        if build is None:
            return
        values = {
            "status": BuildStatus.CANCELED if canceled else BuildStatus.FAILED,
            "status_info": reason,
            "ended": time.time(),
            "lock_key": None,
            "lock_number": None,
            "image_key": None,
            "size": 0,
        }
        await connection.execute(update(row).where(row.c.id == build_id).values(**values))
        if build.image_key is not None:
            await lock_manifests(self._database, connection, build.repository)
            await drop_tags(connection, build.repository, [str(build_id)])
        await announce(connection, build.repository)

    async def end_left(self, build_id: int, reason: str, *, canceled: bool = False) -> None:
        """End a build that no build of the queue works on, as `fail`."""
        async with self._database.writing() as connection:
            await self.fail(connection, build_id, reason, canceled=canceled)

    async def _lock_unfinished(self, connection: AsyncConnection, build_id: int) -> EnvironmentBuild | None:
        """A build that has not ended, which nobody else ends or deletes until the transaction ends."""
        build = await self._find_unfinished(connection, build_id)
        if build is None or self._database.dialect == "sqlite":
            # there it holds the lock of the whole database
            return build
        await lock_environment(self._database, connection, build.repository)
        return await self._find_unfinished(connection, build_id)

    async def _find_unfinished(self, connection: AsyncConnection, build_id: int) -> EnvironmentBuild | None:
        row = environment_build
        query = select_builds().where(row.c.id == build_id, row.c.status.in_(UNFINISHED))
        found = (await connection.execute(query)).first()
        return read_build(found) if found else None


def _take_over(repetition: Repetition, now: float) -> dict[str, Any]:
    """What the row of a build gets that has what an earlier one has."""
    number = select(listed_lock.c.number).where(listed_lock.c.lock_key == repetition.lock_key).scalar_subquery()
    return {
        "lock_key": repetition.lock_key,
        "lock_number": number,
        "image_key": repetition.image_key,
        "size": repetition.size,
        "started": func.coalesce(environment_build.c.started, now),
    }


def _make_room(prefix: str, namespace: str) -> str:
    """What somebody does whose build does not fit."""
    advice = f"delete builds or environments of {namespace} that nobody needs, and build it again"
    if prefix == f"namespace {namespace}":
        return f"{advice}; an administrator can raise it with: condery namespace quota {namespace} SIZE"
    return f"{advice}; an administrator can raise quotas"

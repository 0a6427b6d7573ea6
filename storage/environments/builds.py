"""Builds of environments as they are stored: found by what they are and by what their tags mean, and lists of them."""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cachetools import LRUCache
from sqlalchemy import case, exists, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.clock import USE_SECONDS, is_within
from storage.database import tables
from storage.database.engine import Database, batches
from storage.database.environment_tables import (
    environment,
    environment_build,
    environment_image,
    environment_manifest,
    specification,
)
from storage.digest import Digest
from storage.environments.environments import find_build
from storage.environments.lists.builds import find_all, find_page
from storage.environments.lists.scope import Scope
from storage.environments.publishing import DAY_SECONDS, LATEST, find_repeated
from storage.environments.rows import SPECIFICATION_COLUMNS, read_build, read_specification, select_builds
from storage.environments.usage import Usage, sum_namespaces
from storage.environments.vocabulary import (
    LARGEST_ID,
    UNFINISHED,
    BuildFilter,
    BuildStatus,
    EnvironmentBuild,
    Listed,
    Paging,
    Repetition,
    Specification,
)
from storage.repositories.rows import StoredManifest

MOST_REMEMBERED = 128
LONGEST_REMEMBERED = 32 << 10
"""Characters of a specification that is remembered: a lock is not."""
_LOCK_TAG = re.compile(r"lock-([0-9a-f]{12,64})")


class EnvironmentBuilds:
    """The table of environments' builds; each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._specifications: LRUCache[int, Specification] = LRUCache(MOST_REMEMBERED)

    async def find(self, build_id: int) -> EnvironmentBuild:
        """Raises EnvironmentBuildUnknown."""
        async with self._database.reading() as connection:
            return await find_build(connection, build_id)

    async def find_lock_text(self, lock_key: str) -> str | None:
        """The document of a lock as JSON text, for a thread to parse."""
        async with self._database.reading() as connection:
            query = select(tables.lock.c.document).where(tables.lock.c.key == lock_key)
            text: str | None = (await connection.execute(query)).scalar()
        return text

    async def find_image(self, key: str) -> Mapping[str, Any] | None:
        """The document of an image that a build has, as `Images` has it; None if no build was ever published with it.

        It is there as long as the build, also when the image itself gave way to others that are made on demand.
        """
        query = select(environment_image.c.document).where(environment_image.c.key == key)
        async with self._database.reading() as connection:
            text: str | None = (await connection.execute(query)).scalar()
        return None if text is None else json.loads(text)

    async def list_manifests(self, key: str) -> list[StoredManifest]:
        """The manifests of an image that a build has, sorted by digest."""
        kept, row, body = environment_manifest, tables.repository_manifest, tables.manifest
        query = (
            select(row.c.digest, row.c.media_type, body.c.body)
            .distinct()
            .join(kept, kept.c.digest == row.c.digest)
            .join(body, body.c.digest == row.c.digest)
            .where(kept.c.image == key)
            .order_by(row.c.digest)
        )
        async with self._database.reading() as connection:
            rows = await connection.execute(query)
            return [StoredManifest(Digest(found.digest), found.media_type, found.body) for found in rows]

    async def find_specification(self, specification_id: int) -> Specification:
        # it never changes, and whoever waits for a build asks for it again and again
        if (known := self._specifications.get(specification_id)) is not None:
            return known
        async with self._database.reading() as connection:
            query = select(*SPECIFICATION_COLUMNS).where(specification.c.id == specification_id)
            row = (await connection.execute(query)).one()
        found = read_specification(row)
        if len(row.document) + len(row.request) <= LONGEST_REMEMBERED:
            self._specifications[specification_id] = found
        return found

    async def find_for_tag(self, repository: str, tag: str) -> EnvironmentBuild | None:
        """The build that a tag means: the current one for `latest`, else by its id, its lock or its day.

        A day means the last build that was complete at its end. The build may be unfinished or have failed.
        """
        row = environment_build
        query = select_builds().where(environment.c.repository == repository, environment.c.deleted.is_(None))
        complete, newest = row.c.status == BuildStatus.COMPLETED, row.c.id.desc()
        if tag == LATEST:
            # one that could never be pulled gives way to the last one that was asked for
            query = query.where(or_(row.c.id == environment.c.current_build, row.c.id == environment.c.last_build))
            query = query.order_by(case(((row.c.id == environment.c.current_build) & complete, 0), else_=1), newest)
        elif (number := _read_id(tag)) is not None:
            query = query.where(row.c.id == number)
        elif found_lock := _LOCK_TAG.fullmatch(tag):
            prefix = found_lock[1]
            query = query.where(complete, row.c.lock_key >= prefix, row.c.lock_key < prefix + "g").order_by(newest)
        elif (end := _end_of_day(tag)) is not None:
            query = query.where(complete, row.c.ended < end).order_by(newest)
        else:
            return None
        async with self._database.reading() as connection:
            found = (await connection.execute(query.limit(1))).first()
        return read_build(found) if found else None

    async def list_all(
        self, scope: Scope, which: BuildFilter | None = None, paging: Paging | None = None
    ) -> Listed[EnvironmentBuild]:
        """The builds in `scope` that match, on one page, and how many there are."""
        which, paging = which or BuildFilter(), paging or Paging()
        async with self._database.reading() as connection:
            ids, total = await find_page(connection, scope, which, paging)
            return Listed(await _read_many(connection, ids), total)

    async def list_ids(self, scope: Scope, which: BuildFilter | None = None, paging: Paging | None = None) -> list[int]:
        """The ids of all builds in `scope` that match, in the wanted order, to be read some at a time."""
        async with self._database.reading() as connection:
            return await find_all(connection, scope, which or BuildFilter(), paging or Paging())

    async def find_many(self, ids: Sequence[int]) -> list[EnvironmentBuild]:
        """Builds by their ids, in this order, also those that were deleted meanwhile."""
        async with self._database.reading() as connection:
            return await _read_many(connection, ids)

    async def find_before(self, build: EnvironmentBuild) -> EnvironmentBuild | None:
        """The last complete build of the same environment that is older than `build`."""
        row = environment_build
        earlier = (row.c.environment == build.environment) & (row.c.id < build.id)
        complete = row.c.status == BuildStatus.COMPLETED
        query = select_builds().where(earlier, complete).order_by(row.c.id.desc()).limit(1)
        async with self._database.reading() as connection:
            found = (await connection.execute(query)).first()
        return read_build(found) if found else None

    async def sum_usage(self) -> list[Usage]:
        async with self._database.reading() as connection:
            return await sum_namespaces(connection)

    async def list_left(self, before: float) -> list[EnvironmentBuild]:
        """Unfinished builds requested before a time (UNIX seconds) that no unfinished build of the queue works on."""
        row, job = environment_build, tables.build
        working = exists().where(job.c.key == row.c.job_key, job.c.ended.is_(None))
        query = select_builds().where(row.c.status.in_(UNFINISHED), row.c.scheduled < before, ~working)
        async with self._database.reading() as connection:
            return [read_build(each) for each in await connection.execute(query.order_by(row.c.id))]

    async def find_repeated(self, environment_id: int, lock_key: str, image_key: str) -> Repetition | None:
        """What a complete build of an environment has, if it has this lock and this image."""
        async with self._database.reading() as connection:
            return await find_repeated(connection, environment_id, lock_key, image_key)

    async def note_pull(self, build: EnvironmentBuild) -> None:
        """Record that a build was pulled, at most once in USE_SECONDS."""
        if build.pulled is not None and is_within(USE_SECONDS, build.pulled, time.time()):
            return
        row = environment_build
        async with self._database.writing() as connection:
            await connection.execute(update(row).where(row.c.id == build.id).values(pulled=time.time()))


async def _read_many(connection: AsyncConnection, ids: Sequence[int]) -> list[EnvironmentBuild]:
    found: dict[int, EnvironmentBuild] = {}
    for batch in batches(ids):
        query = select_builds(deleted=True).where(environment_build.c.id.in_(batch))
        found |= {row.id: read_build(row) for row in await connection.execute(query)}
    return [found[each] for each in ids if each in found]


def _read_id(tag: str) -> int | None:
    """The id of a build that a tag is, as we write it: 7, not 007."""
    if not tag.isascii() or not tag.isdecimal() or len(tag) > len(str(LARGEST_ID)) or str(int(tag)) != tag:
        return None
    return int(tag) if int(tag) <= LARGEST_ID else None


def _end_of_day(tag: str) -> float | None:
    """The end of a day (UNIX seconds), if `tag` is one as we write it: 2026-01-02, not 2026-1-2."""
    try:
        day = datetime.date.fromisoformat(tag)
    except ValueError:
        return None
    if day.isoformat() != tag:
        return None
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp() + DAY_SECONDS

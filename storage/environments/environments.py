"""Named environments: asking for a build, moving between builds, describing and deleting.

Each method is one transaction. All that changes one environment happens under one lock, so of two writers neither is
lost. A method that moves or deletes a tag marks the repository as changed before it returns.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.database import tables
from storage.database.account_tables import namespace as namespaces
from storage.database.engine import Database, batches
from storage.database.environment_tables import environment, environment_build, specification
from storage.environments.lists.environments import find_all, find_page
from storage.environments.lists.scope import Scope
from storage.environments.names import CHANNEL, EnvironmentNames
from storage.environments.publishing import drop_build, drop_repository, set_latest
from storage.environments.rows import read_build, read_environment, select_builds, select_environments
from storage.environments.settings import drop_settings
from storage.environments.vocabulary import (
    DESCRIPTION,
    UNFINISHED,
    BuildStatus,
    Cause,
    Environment,
    EnvironmentBuild,
    EnvironmentFilter,
    Listed,
    NewSpecification,
    Paging,
    make_job_key,
)
from storage.errors import BuildStateWrong, EnvironmentBuildUnknown, EnvironmentTaken, EnvironmentUnknown
from storage.events.announcements import announce
from storage.events.changes import Changes
from storage.events.hints import hint
from storage.events.outbox import Record
from storage.repositories.rows import lock_manifests
from storage.suggestions import did_you_mean, find_near

MOST_LIKE = 200
"""Names that are compared with one that there is not."""


class Environments:
    """The table of environments."""

    def __init__(self, database: Database, changes: Changes, names: EnvironmentNames) -> None:
        self._database = database
        self.changes = changes
        self.names = names

    # reading

    async def find(self, namespace: str, name: str) -> Environment:
        """Raises EnvironmentUnknown."""
        async with self._database.reading() as connection:
            return await find_environment(connection, namespace, name)

    async def find_of_repository(self, repository: str) -> Environment | None:
        """The environment whose images are in `repository`."""
        query = select_environments().where(environment.c.repository == repository)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        return read_environment(row) if row else None

    async def list_like(self, namespace: str, repository: str) -> list[str]:
        """Repositories of environments of a namespace that begin as a name does that is none of them: some of them."""
        column, begins = environment.c.repository, repository[: len(namespace) + 2]
        of_namespace = (environment.c.namespace == namespace) & environment.c.deleted.is_(None)
        query = select(column).where(of_namespace, func.substr(column, 1, len(begins)) == begins).limit(MOST_LIKE)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def list_all(
        self, scope: Scope, which: EnvironmentFilter | None = None, paging: Paging | None = None
    ) -> Listed[Environment]:
        """The environments in `scope` that match, on one page, and how many there are."""
        which, paging = which or EnvironmentFilter(), paging or Paging()
        async with self._database.reading() as connection:
            ids, total = await find_page(connection, scope, which, paging)
            return Listed(await _read_many(connection, ids), total)

    async def list_ids(
        self, scope: Scope, which: EnvironmentFilter | None = None, paging: Paging | None = None
    ) -> list[int]:
        """The ids of all environments in `scope` that match, in the wanted order, to be read some at a time."""
        async with self._database.reading() as connection:
            return await find_all(connection, scope, which or EnvironmentFilter(), paging or Paging())

    async def find_many(self, ids: Sequence[int]) -> list[Environment]:
        """Environments by their ids, in this order, also those that were deleted meanwhile."""
        async with self._database.reading() as connection:
            return await _read_many(connection, ids)

    # changing

    async def ask_for_build(
        self,
        namespace: str,
        name: str,
        repository: str,
        wanted: NewSpecification,
        *,
        by: str,
        cause: Cause = Cause.REQUEST,
        description: str | None = None,
        record: Record[EnvironmentBuild] | None = None,
    ) -> EnvironmentBuild:
        """Record a build of a specification, and the environment and its namespace if they are new.

        `description` is the environment's once the build is complete, or at once if no build of it is yet. Raises
        EnvironmentTaken if another environment has this image name, or it is a repository that was pushed to.
        """
        async with self._database.writing() as connection:
            await lock_environment(self._database, connection, repository)
            await self.ensure_namespace(connection, namespace, by)
            found = await self.ensure_environment(connection, namespace, name, repository, by)
            if description is not None:
                wanted = await self._describe_when_complete(connection, found, description, wanted)
            specified = await self.ensure_specification(connection, found, wanted)
            build = await self._insert_build(connection, found, specified, cause, by)
            if record is not None:
                await record(connection, build)
            await announce(connection, repository)
            await hint(connection, CHANNEL)
        self.names.add(repository)
        self.changes.mark(repository)
        return build

    async def ask_again(
        self, build_id: int, *, by: str, cause: Cause = Cause.REBUILD, record: Record[EnvironmentBuild] | None = None
    ) -> EnvironmentBuild:
        """Record another build of a build's specification. Raises EnvironmentBuildUnknown."""
        async with self._database.writing() as connection:
            earlier = await self._lock_build(connection, build_id)
            build = await self._insert_build(connection, earlier.environment, earlier.specification, cause, by)
            if record is not None:
                await record(connection, build)
            await announce(connection, earlier.repository)
        self.changes.mark(earlier.repository)
        return build

    async def take_back(self, build_id: int) -> None:
        """Undo `ask_for_build` or `ask_again`, whose build the queue did not take; nothing if it was deleted."""
        with contextlib.suppress(EnvironmentBuildUnknown):
            await self._take_back(build_id)

    async def _take_back(self, build_id: int) -> None:
        async with self._database.writing() as connection:
            build = await self._lock_build(connection, build_id)
            # with the file that it was asked for with, if that was pushed
            await self._delete_build(connection, build)
        await self._tell_deleted(build)

    async def change(
        self,
        namespace: str,
        name: str,
        *,
        build_id: int | None = None,
        description: str | None = None,
        record: Record[Environment] | None = None,
    ) -> Environment:
        """Set what is not None, both or neither. The current build may be an earlier or a later one.

        Raises EnvironmentUnknown, EnvironmentBuildUnknown for a build that is not the environment's, BuildStateWrong
        for one that is not complete.
        """
        async with self._database.writing() as connection:
            found = await self._lock_environment(connection, namespace, name)
            if build_id is not None:
                await self._move(connection, found, build_id)
                await hint(connection, CHANNEL)
            if description is not None:
                this = environment.c.id == found.id
                await connection.execute(update(environment).where(this).values(description=description))
            await announce(connection, found.repository)
            changed = await find_environment(connection, namespace, name)
            if record is not None:
                await record(connection, changed)
        self.changes.mark(found.repository)
        return changed

    async def _move(self, connection: AsyncConnection, found: Environment, build_id: int) -> None:
        build = await find_build(connection, build_id)
        if build.environment != found.id:
            raise EnvironmentBuildUnknown(build_id)
        if build.status != BuildStatus.COMPLETED:
            raise BuildStateWrong(
                build_id, f"it is {build.status}, and only a build that is COMPLETED can become the current one"
            )
        this = environment.c.id == found.id
        await connection.execute(update(environment).where(this).values(current_build=build_id))
        await set_latest(self._database, connection, found.repository, build_id)

    async def delete(
        self, namespace: str, name: str, record: Record[Environment] | None = None
    ) -> list[EnvironmentBuild]:
        """Delete an environment with its builds, images and tags; return the builds that were unfinished.

        The rows stay for what is kept of deleted builds. Raises EnvironmentUnknown.
        """
        now = time.time()
        async with self._database.writing() as connection:
            found = await self._lock_environment(connection, namespace, name)
            row = environment_build
            query = select_builds().where(row.c.environment == found.id, row.c.status.in_(UNFINISHED))
            unfinished = [read_build(each) for each in await connection.execute(query)]
            these = (row.c.environment == found.id) & row.c.deleted.is_(None)
            await connection.execute(update(row).where(these).values(deleted=now))
            await connection.execute(update(environment).where(environment.c.id == found.id).values(deleted=now))
            await drop_settings(connection, namespace, name)
            # what was set for it is remembered by its namespace
            await announce(connection, namespace)
            await drop_repository(self._database, connection, found.repository)
            if record is not None:
                await record(connection, found)
            await announce(connection, found.repository)
            await hint(connection, CHANNEL)
        self.names.discard(found.repository)
        self.changes.mark(found.repository)
        self.changes.mark(namespace)
        return unfinished

    async def delete_build(self, build_id: int, record: Record[EnvironmentBuild] | None = None) -> EnvironmentBuild:
        """Delete a build that has ended, with its tags and what only it had of the images.

        Raises EnvironmentBuildUnknown, BuildStateWrong for one that has not ended, or that `latest` means.
        """
        async with self._database.writing() as connection:
            build = await self._lock_build(connection, build_id)
            if not build.is_finished:
                raise BuildStateWrong(build_id, f"it is {build.status}; cancel it first")
            if build.is_current and build.status == BuildStatus.COMPLETED:
                raise BuildStateWrong(
                    build_id,
                    f"it is the current build of {build.namespace}/{build.name}; make another one the current build, "
                    "or delete the environment",
                )
            await self._delete_build(connection, build)
            if record is not None:
                await record(connection, build)
        await self._tell_deleted(build)
        return build

    async def _delete_build(self, connection: AsyncConnection, build: EnvironmentBuild) -> None:
        row = environment_build
        await connection.execute(update(row).where(row.c.id == build.id).values(deleted=time.time()))
        await drop_build(self._database, connection, build)
        await self._leave(connection, build)
        await announce(connection, build.repository)
        await hint(connection, CHANNEL)

    async def _tell_deleted(self, build: EnvironmentBuild) -> None:
        """Void what is remembered: a deleted build may have been the last one of its environment."""
        await self.names.load()
        self.changes.mark(build.repository)
        self.changes.mark(build.namespace)

    async def _lock_environment(self, connection: AsyncConnection, namespace: str, name: str) -> Environment:
        """An environment that nobody else changes until the transaction ends. Raises EnvironmentUnknown."""
        found = await find_environment(connection, namespace, name)
        await lock_environment(self._database, connection, found.repository)
        # it may be deleted, and another one be there, since we looked
        return await find_environment(connection, namespace, name)

    async def _lock_build(self, connection: AsyncConnection, build_id: int) -> EnvironmentBuild:
        """A build of an environment that nobody else changes until the transaction ends.

        Raises EnvironmentBuildUnknown.
        """
        build = await find_build(connection, build_id)
        await lock_environment(self._database, connection, build.repository)
        return await find_build(connection, build_id)

    async def _leave(self, connection: AsyncConnection, build: EnvironmentBuild) -> None:
        """Let the environment of a deleted build name others as its current and its last build.

        One that has no build any more never had a complete one, so nobody could use it: it goes, too.
        """
        row, this = environment_build, environment.c.id == build.environment
        alive = (row.c.environment == build.environment) & row.c.deleted.is_(None)
        complete = alive & (row.c.status == BuildStatus.COMPLETED)
        last = (await connection.execute(select(func.max(row.c.id)).where(alive))).scalar()
        if last is None:
            await connection.execute(update(environment).where(this).values(deleted=time.time()))
            await drop_settings(connection, build.namespace, build.name)
            await announce(connection, build.namespace)
            await drop_repository(self._database, connection, build.repository)
            return
        values = {"last_build": last}
        if build.is_current:
            best = (await connection.execute(select(func.max(row.c.id)).where(complete))).scalar()
            values["current_build"] = last if best is None else best
        await connection.execute(update(environment).where(this).values(**values))

    # parts of transactions

    async def ensure_namespace(self, connection: AsyncConnection, name: str, by: str) -> None:
        row = self._database.insert(namespaces).values(name=name, created=time.time(), created_by=by)
        await connection.execute(row.on_conflict_do_nothing())

    async def ensure_environment(
        self, connection: AsyncConnection, namespace: str, name: str, repository: str, by: str
    ) -> int:
        query = select(environment.c.id, environment.c.namespace, environment.c.name).where(
            environment.c.deleted.is_(None), environment.c.repository == repository
        )
        found = (await connection.execute(query)).first()
        if found is not None and (found.namespace, found.name) != (namespace, name):
            raise EnvironmentTaken(
                namespace, name, f"its images would be {repository}, as those of {found.name} are; choose another name"
            )
        if found is not None:
            return int(found.id)
        row = tables.repository_manifest
        pushed = exists().where(row.c.repository == repository)
        # nobody pushes there meanwhile
        await lock_manifests(self._database, connection, repository)
        if (await connection.execute(select(pushed))).scalar():
            raise EnvironmentTaken(
                namespace, name, f"{repository} is a repository of pushed images; delete those, or choose another name"
            )
        values = {
            "namespace": namespace,
            "name": name,
            "repository": repository,
            "created": time.time(),
            "created_by": by,
        }
        statement = insert(environment).values(**values).returning(environment.c.id)
        return int((await connection.execute(statement)).scalar_one())

    async def _describe_when_complete(
        self, connection: AsyncConnection, environment_id: int, description: str, wanted: NewSpecification
    ) -> NewSpecification:
        """What is recorded so that a build that fails does not change how its environment is described."""
        row, build, this = environment, environment_build, environment.c.id == environment_id
        query = (
            select(row.c.description, build.c.status).outerjoin(build, build.c.id == row.c.current_build).where(this)
        )
        found = (await connection.execute(query)).one()
        if found.status != BuildStatus.COMPLETED:
            await connection.execute(update(row).where(this).values(description=description))
            return wanted
        if found.description == description:
            return wanted
        change = {"before": found.description, "after": description}
        return replace(wanted, request={**wanted.request, DESCRIPTION: change})

    async def ensure_specification(
        self, connection: AsyncConnection, environment_id: int, wanted: NewSpecification
    ) -> int:
        """The one row of what is written down for an environment, which is never a row of another one."""
        document, request = wanted.texts
        key = hashlib.sha256(json.dumps([wanted.name, document, request]).encode()).hexdigest()
        values = {
            "environment": environment_id,
            "sha256": key,
            "name": wanted.name,
            "document": document,
            "request": request,
            "created": time.time(),
        }
        statement = self._database.insert(specification).values(**values)
        # updated, so that nobody deletes it who has seen that nothing needs it
        statement = statement.on_conflict_do_update(
            index_elements=["environment", "sha256"], set_={"name": statement.excluded.name}
        )
        return int((await connection.execute(statement.returning(specification.c.id))).scalar_one())

    async def _insert_build(
        self, connection: AsyncConnection, environment_id: int, specification_id: int, cause: Cause, by: str
    ) -> EnvironmentBuild:
        values: dict[str, Any] = {
            "environment": environment_id,
            "specification": specification_id,
            "status": BuildStatus.QUEUED,
            "cause": cause,
            "scheduled": time.time(),
            "created_by": by,
        }
        statement = insert(environment_build).values(**values).returning(environment_build.c.id)
        build_id = int((await connection.execute(statement)).scalar_one())
        row = environment_build
        await connection.execute(update(row).where(row.c.id == build_id).values(job_key=make_job_key(build_id)))
        await connection.execute(
            update(environment)
            .where(environment.c.id == environment_id)
            .values(
                last_build=build_id,
                current_build=func.coalesce(environment.c.current_build, build_id),
                # what is built now says itself whether it can be solved
                resolve_error=None,
            )
        )
        return await find_build(connection, build_id)


async def _read_many(connection: AsyncConnection, ids: Sequence[int]) -> list[Environment]:
    found: dict[int, Environment] = {}
    for batch in batches(ids):
        query = select_environments(deleted=True).where(environment.c.id.in_(batch))
        found |= {row.id: read_environment(row) for row in await connection.execute(query)}
    return [found[each] for each in ids if each in found]


async def lock_environment(database: Database, connection: AsyncConnection, repository: str) -> None:
    """Hold off all others who change the environment of `repository`, until the transaction ends."""
    await database.lock(connection, f"environment {repository}")


async def find_environment(connection: AsyncConnection, namespace: str, name: str) -> Environment:
    """Raises EnvironmentUnknown."""
    query = select_environments().where(environment.c.namespace == namespace, environment.c.name == name)
    row = (await connection.execute(query)).first()
    if row is None:
        raise EnvironmentUnknown(namespace, name, did_you_mean(await _find_near(connection, namespace, name)))
    return read_environment(row)


async def _find_near(connection: AsyncConnection, namespace: str, name: str) -> list[str]:
    """Names that may be meant, of those that begin as `name` does or are another case of it."""
    column = environment.c.name
    begins = or_(func.substr(column, 1, 1) == name[:1], func.lower(column) == name.lower())
    query = select(column).where(environment.c.deleted.is_(None), environment.c.namespace == namespace, begins)
    known = list((await connection.execute(query.limit(1000))).scalars())
    return [each for each in known if each.lower() == name.lower()] or find_near(name, known)


async def find_build(connection: AsyncConnection, build_id: int) -> EnvironmentBuild:
    """Raises EnvironmentBuildUnknown."""
    row = (await connection.execute(select_builds().where(environment_build.c.id == build_id))).first()
    if row is None:
        raise EnvironmentBuildUnknown(build_id)
    return read_build(row)

"""What is done to environments that nobody asked for: old builds go, others are looked at again."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Table, and_, cast, delete, exists, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import lock_rows
from storage.database.engine import Database, batches
from storage.database.environment_tables import (
    environment,
    environment_alarm,
    environment_build,
    environment_image,
    specification,
)
from storage.environments.lists.contents import forget_packages
from storage.environments.rows import make_build, read_build, read_environment, select_builds, select_environments
from storage.environments.vocabulary import UNFINISHED, BuildStatus, Environment, EnvironmentBuild
from storage.events.outbox import Record

BATCH = 500
"""Rows that are read in one transaction."""
FORGOTTEN_AT_ONCE = 50
"""Builds: a transaction that takes longer blocks all other writers on SQLite."""

_LAST = func.coalesce(environment.c.resolved, environment.c.created)
"""When an environment was last solved by itself."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A current build that holds what the rules refuse."""

    build: EnvironmentBuild
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class Wanted:
    """A complete current build, which is to be on disk."""

    environment: int
    namespace: str
    name: str
    build: int
    lock_key: str


class EnvironmentUpkeep:
    """Each method is one transaction, or one for each batch."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def database(self) -> Database:
        return self._database

    # on disk

    async def find_version(self) -> tuple[float, ...]:
        """A value that changes with the current build of any environment, and with each deletion."""
        # two sums, since one of them may be the same when several environments have gone back to earlier builds
        current, number = cast(environment.c.current_build, BigInteger), cast(environment.c.id, BigInteger)
        query = select(
            func.count(),
            func.coalesce(func.sum(current * number), 0),
            func.coalesce(func.sum(current * current), 0),
            func.coalesce(func.max(number), 0),
        ).where(environment.c.deleted.is_(None))
        row = environment_build
        done = select(
            func.coalesce(func.max(row.c.ended), 0.0),
            func.count(),
            func.coalesce(func.sum(cast(row.c.id, BigInteger)), 0),
        ).where(row.c.deleted.is_(None))
        async with self._database.reading() as connection:
            rows = [(await connection.execute(each)).one() for each in (query, done)]
        return tuple(float(each) for row in rows for each in row)

    async def list_wanted(self, after: int = 0) -> list[Wanted]:
        """The next environments by their ids that have a complete current build."""
        row = environment_build
        query = (
            select(environment.c.id, environment.c.namespace, environment.c.name, row.c.id, row.c.lock_key)
            .join(row, row.c.id == environment.c.current_build)
            .where(environment.c.deleted.is_(None), environment.c.id > after, row.c.status == BuildStatus.COMPLETED)
            .order_by(environment.c.id)
            .limit(BATCH)
        )
        async with self._database.reading() as connection:
            return [Wanted(*each) for each in await connection.execute(query)]

    async def list_kept(self, environment_id: int) -> list[int]:
        """The builds of an environment that are not deleted."""
        row = environment_build
        query = select(row.c.id).where(row.c.environment == environment_id, row.c.deleted.is_(None))
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def list_deleted(self) -> list[tuple[str, str]]:
        """Namespace and name of environments that are deleted, and not there again."""
        again = environment.alias("again")
        is_back = exists().where(
            again.c.namespace == environment.c.namespace, again.c.name == environment.c.name, again.c.deleted.is_(None)
        )
        query = select(environment.c.namespace, environment.c.name).where(environment.c.deleted.is_not(None), ~is_back)
        async with self._database.reading() as connection:
            return [(row.namespace, row.name) for row in await connection.execute(query.distinct())]

    async def list_environments(self, after: int = 0) -> list[Environment]:
        """The next environments by their ids."""
        query = select_environments().where(environment.c.id > after).order_by(environment.c.id).limit(BATCH)
        async with self._database.reading() as connection:
            return [read_environment(row) for row in await connection.execute(query)]

    async def list_expired(self, environment_id: int, kept: int | None, before: float | None) -> list[int]:
        """Ended builds that are not the current one, beyond the last `kept` complete ones or ended before a time.

        A build that was pulled after that time stays. Without `kept` and `before` all stay.
        """
        row = environment_build
        current = select(environment.c.current_build).where(environment.c.id == environment_id).scalar_subquery()
        ended = and_(
            row.c.environment == environment_id,
            row.c.deleted.is_(None),
            row.c.status.not_in(UNFINISHED),
            row.c.id != func.coalesce(current, 0),
        )
        conditions = []
        if kept is not None:
            last = (
                select(row.c.id)
                .where(
                    row.c.environment == environment_id,
                    row.c.deleted.is_(None),
                    row.c.status == BuildStatus.COMPLETED,
                )
                .order_by(row.c.id.desc())
                .limit(1)
                .offset(max(kept - 1, 0))
                .scalar_subquery()
            )
            conditions.append(row.c.id < last)
        if before is not None:
            conditions.append(and_(row.c.ended < before, func.coalesce(row.c.pulled, 0.0) < before))
        if not conditions:
            return []
        query = select(row.c.id).where(ended, or_(*conditions)).order_by(row.c.id).limit(BATCH)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def list_forgotten(self, before: float) -> list[int]:
        """Builds that were deleted before a time, whose rows and logs may go."""
        row = environment_build
        query = select(row.c.id).where(row.c.deleted < before).order_by(row.c.id).limit(BATCH)
        async with self._database.reading() as connection:
            return list((await connection.execute(query)).scalars())

    async def forget(self, builds: Sequence[int]) -> None:
        """Delete the rows of deleted builds, and what nothing else needs of their environments, specifications, images
        and locks."""
        row, image = environment_build, environment_image
        for start in range(0, len(builds), FORGOTTEN_AT_ONCE):
            batch = builds[start : start + FORGOTTEN_AT_ONCE]
            async with self._database.writing() as connection:
                these = and_(row.c.id.in_(batch), row.c.deleted.is_not(None))
                await lock_rows(connection, row, these)
                columns = (row.c.environment, row.c.specification, row.c.image_key, row.c.lock_key)
                gone = (await connection.execute(delete(row).where(these).returning(*columns))).all()
                await self._drop_unused(
                    connection, specification, specification.c.id, row.c.specification,
                    {each.specification for each in gone},
                )  # fmt: skip
                left = exists().where(specification.c.environment == environment.c.id)
                await self._drop_unused(
                    connection, environment, environment.c.id, row.c.environment, {each.environment for each in gone},
                    environment.c.deleted.is_not(None), ~left,
                )  # fmt: skip
                await self._drop_unused(
                    connection, image, image.c.key, row.c.image_key, {each.image_key for each in gone} - {None}
                )
                keys = {each.lock_key for each in gone if each.lock_key is not None}
                await forget_packages(self._database, connection, keys)

    async def _drop_unused(
        self,
        connection: AsyncConnection,
        table: Table,
        key: ColumnElement[Any],
        user: ColumnElement[Any],
        found: Collection[Any],
        *where: ColumnElement[bool],
    ) -> None:
        """Delete those rows of `found` that no build has in its column `user`."""
        unused = and_(key.in_(sorted(found)), ~exists().where(user == key), *where)
        # a build that is asked for now holds the rows that it needs, and is seen once they are free
        free = select(key).where(unused).order_by(key).with_for_update(skip_locked=True)
        keys = list((await connection.execute(free)).scalars())
        await connection.execute(delete(table).where(key.in_(keys), unused))

    # looking again

    async def list_due(self, before: Mapping[int, float]) -> list[Environment]:
        """Those of some environments that were last solved before their time, and that nothing is built for now.

        The one that has waited longest comes first.
        """
        found = list[tuple[float, Environment]]()
        async with self._database.reading() as connection:
            for batch in batches(before):
                query = select_environments().add_columns(_LAST.label("last"))
                query = query.where(environment.c.id.in_(batch), ~_is_built())
                for each in await connection.execute(query):
                    values = dict(each._mapping)
                    if (last := values.pop("last")) < before[each.id]:
                        found.append((last, Environment(**values)))
        return [each for _, each in sorted(found, key=lambda pair: (pair[0], pair[1].id))]

    async def take_due(self, environment_id: int, before: float) -> bool:
        """Record that an environment is solved now, if it was last solved before a time and nothing is built for it.

        Of several processes that want it one gets True.
        """
        these = and_(environment.c.id == environment_id, environment.c.deleted.is_(None), before > _LAST, ~_is_built())
        async with self._database.writing() as connection:
            done = await connection.execute(update(environment).where(these).values(resolved=time.time()))
            return done.rowcount == 1

    async def note_resolve_error(self, environment_id: int, reason: str | None) -> None:
        """Record why the solve failed that was noted last, or that it did not."""
        await self._change(environment_id, resolve_error=reason)

    async def _change(self, environment_id: int, **values: Any) -> None:
        async with self._database.writing() as connection:
            await connection.execute(update(environment).where(environment.c.id == environment_id).values(**values))

    # alarms

    async def list_current(self, after: int = 0) -> list[EnvironmentBuild]:
        """The next complete current builds by their ids."""
        row = environment_build
        current = and_(environment.c.current_build == row.c.id, environment.c.deleted.is_(None))
        query = select_builds().where(current, row.c.status == BuildStatus.COMPLETED, row.c.id > after)
        async with self._database.reading() as connection:
            return [read_build(each) for each in await connection.execute(query.order_by(row.c.id).limit(BATCH))]

    async def set_alarm(self, build_id: int, reason: str | None, record: Record[None] | None = None) -> bool:
        """Record why a build is not to be used any more, or that it is; whether that is news.

        `record` is run in the same transaction if there is a new reason: once, whoever else finds it at the same time.
        """
        table = environment_alarm
        query = select(table.c.reason).where(table.c.build == build_id)
        async with self._database.reading() as connection:
            known = (await connection.execute(query)).scalar()
        if known == reason:
            return False
        async with self._database.writing() as connection:
            # it may be forgotten since it was found
            row = environment_build
            there = select(row.c.id).where(row.c.id == build_id).with_for_update(key_share=True)
            if (await connection.execute(there)).first() is None:
                return False
            # or another process may have found it, too
            if (await connection.execute(query)).scalar() == reason:
                return False
            await connection.execute(delete(table).where(table.c.build == build_id))
            if reason is None:
                return True
            await connection.execute(insert(table).values(build=build_id, reason=reason, since=time.time()))
            if record is not None:
                await record(connection, None)
        return True

    async def list_alarms(self) -> list[Alarm]:
        """All alarms about builds that are the current ones, the oldest first."""
        table, row = environment_alarm, environment_build
        query = (
            select_builds()
            .add_columns(table.c.reason, table.c.since)
            .join(table, table.c.build == row.c.id)
            .where(environment.c.current_build == row.c.id, environment.c.deleted.is_(None))
            .order_by(table.c.since, row.c.id)
        )
        async with self._database.reading() as connection:
            return [_read_alarm(each) for each in await connection.execute(query)]


def _read_alarm(row: Any) -> Alarm:
    values = dict(row._mapping)
    reason, since = values.pop("reason"), values.pop("since")
    return Alarm(make_build(values), reason, since)


def _is_built() -> ColumnElement[bool]:
    """Whether a build of the environment has not ended."""
    row = environment_build
    return exists().where(row.c.environment == environment.c.id, row.c.deleted.is_(None), row.c.status.in_(UNFINISHED))

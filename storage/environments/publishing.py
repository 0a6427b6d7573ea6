"""The images of builds in the repository of their environment, which has what it serves itself, as pushed ones do.

A build's image is made once, wherever it was asked for first. Here its manifests and blobs are given to the
environment's repository as rows, so nothing is copied, and nobody reads there what another environment has.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Table, and_, delete, exists, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import touch
from storage.database import tables
from storage.database.engine import Database
from storage.database.environment_tables import environment_build
from storage.digest import Digest
from storage.environments.vocabulary import BuildStatus, EnvironmentBuild
from storage.errors import ManifestBlobUnknown, ManifestUnknown
from storage.quotas.bounds import find_bounds
from storage.quotas.limits import Limits
from storage.quotas.room import release_unnamed, sum_held
from storage.repositories.rows import ensure_repository, link_blobs, lock_manifests, note_tags

LATEST = "latest"
SHOWN_LOCK = 12
"""Hex digits of a lock in tags."""


def write_lock_tag(lock_key: str) -> str:
    return f"lock-{lock_key[:SHOWN_LOCK]}"


def write_file_tag(build: int) -> str:
    """The tag of the artifact that a build was asked for with. It looks like no build's."""
    return f"file-{build}"


def write_day(seconds: float) -> str:
    """The day (UTC) of a time."""
    return datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC).date().isoformat()


async def give_image(
    database: Database, connection: AsyncConnection, limits: Limits, repository: str, image_key: str
) -> None:
    """Give the manifests and blobs of an image to `repository`.

    Raises ManifestUnknown or ManifestBlobUnknown if some of it is gone, QuotaExceeded.
    """
    await lock_manifests(database, connection, repository)
    made, row, use, child = (
        tables.image_manifest,
        tables.repository_manifest,
        tables.manifest_blob,
        tables.manifest_child,
    )
    digests = sorted((await connection.execute(select(made.c.digest).where(made.c.image == image_key))).scalars())
    home = await _find_home(connection, repository, digests)
    if home is None:
        raise ManifestUnknown(repository, digests[0] if digests else image_key)
    blobs = select(use.c.digest).where(use.c.repository == home, use.c.manifest.in_(digests)).distinct()
    needed = sorted(Digest(each) for each in (await connection.execute(blobs)).scalars())
    if missing := set(needed) - await touch(connection, needed):
        raise ManifestBlobUnknown(repository, sorted(missing))
    await ensure_repository(database, connection, repository)
    if home == repository:
        return
    bounds = await find_bounds(connection, limits, repository)
    for bound in bounds:
        await database.lock(connection, bound.lock)
    held = [await sum_held(connection, bound) for bound in bounds]
    await link_blobs(database, connection, repository, needed)
    now = time.time()
    # so that the garbage collection keeps a body that it was about to delete
    body = tables.manifest
    await connection.execute(update(body).where(body.c.digest.in_(digests)).values(created=now))
    these = and_(row.c.repository == home, row.c.digest.in_(digests))
    await _copy(database, connection, row, repository, these, {"pushed": now, "untagged": now})
    for table in (use, child):
        these = and_(table.c.repository == home, table.c.manifest.in_(digests))
        await _copy(database, connection, table, repository, these, {})
    for bound, before in zip(bounds, held, strict=True):
        after = await sum_held(connection, bound)
        if after > bound.limit and after > before:
            raise bound.refuse(before, after)


async def _find_home(connection: AsyncConnection, repository: str, digests: Sequence[str]) -> str | None:
    """A repository that has all manifests of `digests`: this one, if it does, or else any."""
    row = tables.repository_manifest
    if not digests:
        return None
    query = (
        select(row.c.repository)
        .where(row.c.digest.in_(digests))
        .group_by(row.c.repository)
        .having(func.count() == len(digests))
        .order_by((row.c.repository != repository), row.c.repository)
        .limit(1)
    )
    found: str | None = (await connection.execute(query)).scalar()
    return found


async def _copy(
    database: Database,
    connection: AsyncConnection,
    table: Table,
    repository: str,
    these: ColumnElement[bool],
    changed: dict[str, float],
) -> None:
    """Copy rows of another repository to this one, with other values in some columns."""
    values = {"repository": repository, **changed}
    columns = [
        literal(values[column.name]).label(column.name) if column.name in values else column for column in table.c
    ]
    statement = database.insert(table).from_select([column.name for column in table.c], select(*columns).where(these))
    await connection.execute(statement.on_conflict_do_nothing())


async def set_tags(
    database: Database, connection: AsyncConnection, repository: str, digest: str, tags: Iterable[str]
) -> None:
    """Point tags to a manifest of the repository."""
    table, now, names = tables.tag, time.time(), sorted(set(tags))
    query = select(table.c.digest).where(table.c.repository == repository, table.c.name.in_(names))
    moved = set((await connection.execute(query)).scalars())
    statement = database.insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=["repository", "name"], set_={"digest": statement.excluded.digest, "updated": now}
    )
    rows = [{"repository": repository, "name": name, "digest": digest, "updated": now} for name in names]
    await connection.execute(statement, rows)
    await note_tags(connection, repository, {digest, *moved})


async def set_latest(database: Database, connection: AsyncConnection, repository: str, build_id: int) -> None:
    """Make `latest` mean a completed build, which has its own tag."""
    await lock_manifests(database, connection, repository)
    table = tables.tag
    query = select(table.c.digest).where(table.c.repository == repository, table.c.name == str(build_id))
    digest = (await connection.execute(query)).scalar()
    if digest is None:
        raise ManifestUnknown(repository, str(build_id))
    await set_tags(database, connection, repository, digest, [LATEST])


async def drop_build(database: Database, connection: AsyncConnection, build: EnvironmentBuild) -> None:
    """Delete the tags of a build that is deleted already, and the manifests and blobs that only it needed.

    The tags of its lock and its day go over to another build that has the same.
    """
    await lock_manifests(database, connection, build.repository)
    table, row = tables.tag, environment_build
    names = [str(build.id), write_file_tag(build.id)]
    alive = and_(row.c.environment == build.environment, row.c.deleted.is_(None), row.c.status == BuildStatus.COMPLETED)
    if build.lock_key is not None:
        same = exists().where(alive, row.c.lock_key == build.lock_key)
        if not (await connection.execute(select(same))).scalar():
            names.append(write_lock_tag(build.lock_key))
    if build.ended is not None:
        day = write_day(build.ended)
        begin = datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.UTC).timestamp()
        that_day = and_(alive, row.c.ended >= begin, row.c.ended < begin + 86400)
        last = (await connection.execute(select(func.max(row.c.id)).where(that_day))).scalar()
        if last is None:
            names.append(day)
        else:
            query = select(table.c.digest).where(table.c.repository == build.repository, table.c.name == str(last))
            digest = (await connection.execute(query)).scalar()
            if digest is not None:
                await set_tags(database, connection, build.repository, digest, [day])
    these = and_(table.c.repository == build.repository, table.c.name.in_(names))
    gone = set((await connection.execute(delete(table).where(these).returning(table.c.digest))).scalars())
    await note_tags(connection, build.repository, gone)
    await _drop_manifests(connection, build.repository)


async def drop_repository(database: Database, connection: AsyncConnection, repository: str) -> None:
    """Delete all tags and manifests of an environment's repository; the garbage collection takes the blobs."""
    await lock_manifests(database, connection, repository)
    table = tables.tag
    await connection.execute(delete(table).where(table.c.repository == repository))
    await _drop_manifests(connection, repository)


async def _drop_manifests(connection: AsyncConnection, repository: str) -> None:
    """Delete the manifests that nothing in the repository leads to, from the top down."""
    row, tag, child, use = (
        tables.repository_manifest,
        tables.tag,
        tables.manifest_child,
        tables.manifest_blob,
    )
    upper = row.alias("upper")
    loose = and_(
        row.c.repository == repository,
        ~exists().where(tag.c.repository == row.c.repository, tag.c.digest == row.c.digest),
        ~exists().where(child.c.repository == row.c.repository, child.c.digest == row.c.digest),
        ~exists().where(upper.c.repository == row.c.repository, upper.c.digest == row.c.subject),
    )
    while digests := list((await connection.execute(select(row.c.digest).where(loose))).scalars()):
        named = select(use.c.digest).where(use.c.repository == repository, use.c.manifest.in_(digests)).distinct()
        blobs = list((await connection.execute(named)).scalars())
        await connection.execute(delete(row).where(row.c.repository == repository, row.c.digest.in_(digests)))
        await release_unnamed(connection, repository, blobs)

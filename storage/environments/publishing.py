"""The images of builds in the repository of their environment, which has what it serves itself, as pushed ones do.

A build's image is made once, wherever it was asked for first. Here its manifests and blobs are given to the
environment's repository as rows, so nothing is copied, and nobody reads there what another environment has.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Sequence

from sqlalchemy import (
    ColumnElement,
    FromClause,
    String,
    Table,
    and_,
    cast,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.rows import lock_rows, touch
from storage.catalog.locks import write_lock_tag
from storage.database import tables
from storage.database.engine import Database, batches
from storage.database.environment_tables import environment as environments
from storage.database.environment_tables import environment_build, environment_image, environment_manifest
from storage.digest import Descriptor, Digest
from storage.environments.vocabulary import BuildStatus, EnvironmentBuild, Repetition
from storage.errors import ManifestBlobUnknown, ManifestUnknown
from storage.quotas.bounds import find_bounds
from storage.quotas.held import check_bounds, lock_bounds, sum_held
from storage.quotas.limits import Limits
from storage.quotas.room import release_unnamed
from storage.repositories.rows import ensure_repository, link_blobs, lock_manifests, note_tags

LATEST = "latest"
DAY_SECONDS = 86400


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
    made, use = tables.image_manifest, tables.manifest_blob
    digests = sorted((await connection.execute(select(made.c.digest).where(made.c.image == image_key))).scalars())
    home = await _find_home(connection, repository, digests)
    if home is None:
        raise ManifestUnknown(repository, digests[0] if digests else image_key)
    blobs = select(use.c.digest).where(use.c.repository == home, use.c.manifest.in_(digests)).distinct()
    needed = sorted(Digest(each) for each in (await connection.execute(blobs)).scalars())
    if missing := set(needed) - await touch(connection, needed):
        raise ManifestBlobUnknown(repository, sorted(missing))
    await ensure_repository(database, connection, repository)
    await _note_image(database, connection, image_key)
    bounds = await find_bounds(connection, limits, repository)
    await lock_bounds(database, connection, bounds)
    if home == repository:
        # it adds nothing, unless it was made here for this build, with credentials that only this namespace has
        if not await _is_known(connection, repository, image_key):
            await check_bounds(connection, bounds)
        return
    held = [await sum_held(connection, bound) for bound in bounds]
    await link_blobs(database, connection, repository, needed)
    await _copy_manifests(database, connection, home, repository, digests)
    await check_bounds(connection, bounds, held)


async def find_repeated(
    connection: AsyncConnection, environment_id: int, lock_key: str, image_key: str
) -> Repetition | None:
    """The image that the last complete build of an environment with this lock and this image has, if there is one.

    It is there for as long as that build, so while the environment is locked.
    """
    row, tag, manifest = environment_build, tables.tag, tables.repository_manifest
    own = and_(tag.c.repository == environments.c.repository, tag.c.name == cast(row.c.id, String))
    query = (
        select(row.c.size, manifest.c.digest, manifest.c.media_type, manifest.c.size.label("bytes"))
        .join(environments, environments.c.id == row.c.environment)
        .join(tag, own)
        .join(manifest, and_(manifest.c.repository == tag.c.repository, manifest.c.digest == tag.c.digest))
        .where(
            row.c.environment == environment_id,
            row.c.deleted.is_(None),
            row.c.lock_key == lock_key,
            row.c.image_key == image_key,
            row.c.status == BuildStatus.COMPLETED,
        )
        .order_by(row.c.id.desc())
        .limit(1)
    )
    found = (await connection.execute(query)).first()
    if found is None:
        return None
    return Repetition(lock_key, image_key, found.size, Descriptor(found.media_type, Digest(found.digest), found.bytes))


async def _copy_manifests(
    database: Database, connection: AsyncConnection, home: str, repository: str, digests: Sequence[str]
) -> None:
    """Give manifests of `home` to `repository`, which has their blobs."""
    body, row, now = tables.manifest, tables.repository_manifest, time.time()
    # so that the garbage collection keeps a body that it was about to delete
    await lock_rows(connection, body, body.c.digest.in_(digests))
    await connection.execute(update(body).where(body.c.digest.in_(digests)).values(created=now))
    these = and_(row.c.repository == home, row.c.digest.in_(digests))
    await _copy(database, connection, row, repository, these, {"pushed": now, "untagged": now})
    for table in (tables.manifest_blob, tables.manifest_child):
        these = and_(table.c.repository == home, table.c.manifest.in_(digests))
        await _copy(database, connection, table, repository, these, {})


async def _is_known(connection: AsyncConnection, repository: str, image_key: str) -> bool:
    """Whether a build of the environment has an image."""
    build = environment_build
    known = exists().where(
        build.c.image_key == image_key,
        build.c.deleted.is_(None),
        environments.c.id == build.c.environment,
        environments.c.repository == repository,
        environments.c.deleted.is_(None),
    )
    return bool((await connection.execute(select(known))).scalar())


async def _note_image(database: Database, connection: AsyncConnection, key: str) -> None:
    """Keep what is known of an image for as long as builds have it: its own row goes when nobody asks on demand."""
    image, made, kept = tables.image, tables.image_manifest, environment_image
    document = select(image.c.key, image.c.document).where(image.c.key == key)
    statement = database.insert(kept).from_select(["key", "document"], document)
    # updated, so that nobody deletes it who has seen that nothing needs it
    changed = {"document": statement.excluded.document}
    await connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=changed))
    digests = select(made.c.image, made.c.digest).where(made.c.image == key)
    statement = database.insert(environment_manifest).from_select(["image", "digest"], digests)
    await connection.execute(statement.on_conflict_do_nothing())


def is_of_build(row: FromClause) -> ColumnElement[bool]:
    """Whether a manifest is of the image of a build, in the repository of its environment."""
    manifest, build = environment_manifest, environment_build
    return exists().where(
        manifest.c.digest == row.c.digest,
        build.c.image_key == manifest.c.image,
        build.c.deleted.is_(None),
        environments.c.id == build.c.environment,
        environments.c.repository == row.c.repository,
        environments.c.deleted.is_(None),
    )


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
    if moved != {digest}:
        # else it had a tag before, and no other has lost one
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
    row = environment_build
    alive = and_(row.c.environment == build.environment, row.c.deleted.is_(None), row.c.status == BuildStatus.COMPLETED)
    names = [str(build.id), write_file_tag(build.id)]
    if build.lock_key is not None:
        name = write_lock_tag(build.lock_key)
        if not await _hand_over(
            database, connection, build.repository, name, and_(alive, row.c.lock_key == build.lock_key)
        ):
            names.append(name)
    if build.ended is not None:
        day = write_day(build.ended)
        begin = datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.UTC).timestamp()
        that_day = and_(alive, row.c.ended >= begin, row.c.ended < begin + DAY_SECONDS)
        if not await _hand_over(database, connection, build.repository, day, that_day):
            names.append(day)
    await drop_tags(connection, build.repository, names)


async def _hand_over(
    database: Database, connection: AsyncConnection, repository: str, name: str, heirs: ColumnElement[bool]
) -> bool:
    """Point a tag to the last of some builds; False if there is none."""
    row, table = environment_build, tables.tag
    last = (await connection.execute(select(func.max(row.c.id)).where(heirs))).scalar()
    query = select(table.c.digest).where(table.c.repository == repository, table.c.name == str(last))
    digest = None if last is None else (await connection.execute(query)).scalar()
    if digest is None:
        return False
    await set_tags(database, connection, repository, digest, [name])
    return True


async def drop_tags(connection: AsyncConnection, repository: str, names: Iterable[str]) -> None:
    """Delete tags, and the manifests that nothing leads to any more."""
    table, row = tables.tag, tables.repository_manifest
    these = and_(table.c.repository == repository, table.c.name.in_(list(names)))
    gone = set((await connection.execute(delete(table).where(these).returning(table.c.digest))).scalars())
    await note_tags(connection, repository, gone)
    await drop_unneeded(connection, repository, row.c.digest.in_(gone))


async def drop_repository(database: Database, connection: AsyncConnection, repository: str) -> None:
    """Delete all that is in an environment's repository, so that the next one of its name has none of it.

    The garbage collection takes the blobs.
    """
    await lock_manifests(database, connection, repository)
    row, link = tables.repository_manifest, tables.link
    gone = await connection.execute(delete(row).where(row.c.repository == repository).returning(row.c.digest))
    await forget_lost_images(connection, list(gone.scalars()))
    await lock_rows(connection, link, link.c.repository == repository)
    await connection.execute(delete(link).where(link.c.repository == repository))


async def forget_lost_images(connection: AsyncConnection, digests: Iterable[str]) -> None:
    """Delete the rows of images with one of these manifests that nobody has any more, or they were not made again.

    An image that was made with the credentials of a namespace is only in repositories of its environments.
    """
    image, made, row = tables.image, tables.image_manifest, tables.repository_manifest
    lost = ~exists().where(row.c.digest == made.c.digest)
    for batch in batches(sorted(digests)):
        keys = select(made.c.image).where(made.c.digest.in_(batch), lost)
        await connection.execute(delete(image).where(image.c.key.in_(keys)))


async def drop_unneeded(connection: AsyncConnection, repository: str, these: ColumnElement[bool]) -> None:
    """Delete the manifests that neither a build nor anything in the repository leads to, from the top down.

    Only of those that builds had, that are attached to others, or that `these`, a condition on rows of manifests, holds
    for.
    """
    row, tag, child, use = (
        tables.repository_manifest,
        tables.tag,
        tables.manifest_child,
        tables.manifest_blob,
    )
    upper = row.alias("upper")
    built = exists().where(environment_manifest.c.digest == row.c.digest)
    loose = and_(
        row.c.repository == repository,
        or_(row.c.subject.is_not(None), built, these),
        ~is_of_build(row),
        ~exists().where(tag.c.repository == row.c.repository, tag.c.digest == row.c.digest),
        ~exists().where(child.c.repository == row.c.repository, child.c.digest == row.c.digest),
        ~exists().where(upper.c.repository == row.c.repository, upper.c.digest == row.c.subject),
    )
    while digests := list((await connection.execute(select(row.c.digest).where(loose))).scalars()):
        named = select(use.c.digest).where(use.c.repository == repository, use.c.manifest.in_(digests)).distinct()
        blobs = list((await connection.execute(named)).scalars())
        await connection.execute(delete(row).where(row.c.repository == repository, row.c.digest.in_(digests)))
        await release_unnamed(connection, repository, blobs)
        await forget_lost_images(connection, digests)

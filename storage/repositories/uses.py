"""Records that content which nothing else keeps is still used, so that the garbage collection keeps it.

An image may be pulled by digest for years after its tag has moved on. A client that asks whether a blob or manifest
exists is about to name it in a push. Such a use is recorded at most once in USE_SECONDS.

Answers from memory need not record anything: a collection begins by invalidating all memories, so whatever is requested
is looked up at least once between two collections.
"""

from __future__ import annotations

import time

from sqlalchemy import exists, select, update

from storage.clock import USE_SECONDS
from storage.database import tables
from storage.database.engine import Database
from storage.database.sql_clock import is_before
from storage.digest import Digest


async def note_manifest_use(database: Database, repository: str, digest: Digest) -> None:
    """Record the use of an untagged manifest, and of the on-demand images that have it."""
    row, image, made = tables.repository_manifest, tables.image, tables.image_manifest
    now = time.time()
    untagged = (
        (row.c.repository == repository) & (row.c.digest == digest) & is_before(row.c.untagged, now - USE_SECONDS, now)
    )
    images = (
        select(image.c.key)
        .join(made, made.c.image == image.c.key)
        .where(made.c.digest == digest, is_before(image.c.used, now - USE_SECONDS, now))
    )
    async with database.reading() as connection:
        is_old = (await connection.execute(select(exists().where(untagged)))).scalar()
        keys = list((await connection.execute(images)).scalars())
    if is_old:
        async with database.writing() as connection:
            await connection.execute(update(row).where(untagged).values(untagged=now))
    for key in keys:
        async with database.writing() as connection:
            await connection.execute(update(image).where(image.c.key == key).values(used=now))
            locks = select(image.c.lock_key).where(image.c.key == key)
            await connection.execute(update(tables.lock).where(tables.lock.c.key.in_(locks)).values(used=now))


async def note_blob_use(database: Database, repository: str, digest: Digest) -> None:
    """Record the use of a blob that no manifest of the repository names (yet)."""
    link, use, now = tables.link, tables.manifest_blob, time.time()
    unused = (
        (link.c.repository == repository)
        & (link.c.digest == digest)
        & (is_before(link.c.created, now - USE_SECONDS, now) | link.c.released.is_not(None))
        & ~exists().where(use.c.repository == link.c.repository, use.c.digest == link.c.digest)
    )
    async with database.reading() as connection:
        is_old = (await connection.execute(select(exists().where(unused)))).scalar()
    if is_old:
        async with database.writing() as connection:
            await connection.execute(update(link).where(unused).values(created=now, released=None))

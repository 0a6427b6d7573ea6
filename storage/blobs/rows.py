"""The rows of blobs and of pending objects, for transactions of several modules."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.blobs.joins import FragmentPart, Part
from storage.database import tables
from storage.database.engine import Database, batches
from storage.digest import Digest
from storage.errors import WriteExpired
from storage.objects.protocol import new_key

WRITE_SECONDS = 24 * 3600.0
"""How long writing one object may take."""

BLOB_LINGER_SECONDS = 60.0
"""Time between deleting a blob and deleting its bytes, for clients that have just begun to read them."""


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """A digest and the place of its bytes: the object `key`, or the join of `parts`."""

    digest: Digest
    size: int
    key: str | None = None
    parts: tuple[Part, ...] = ()


BLOB_COLUMNS = (tables.blob.c.digest, tables.blob.c.size, tables.blob.c.key, tables.blob.c.parts)


def stored_blob(row: Any) -> StoredBlob:
    """Make a blob of a row that has BLOB_COLUMNS."""
    parts: tuple[Part, ...] = ()
    if row.parts is not None:
        parts = tuple(
            base64.b64decode(part) if isinstance(part, str) else FragmentPart(part["fragment"], part["size"])
            for part in json.loads(row.parts)
        )
    return StoredBlob(Digest(row.digest), row.size, row.key, parts)


def dump_parts(parts: Sequence[Part]) -> str:
    """Write parts as `stored_blob` reads them."""
    return json.dumps(
        [
            base64.b64encode(part).decode() if isinstance(part, bytes) else {"fragment": part.key, "size": part.size}
            for part in parts
        ]
    )


async def need_rows(connection: AsyncConnection, digests: Sequence[Digest]) -> dict[Digest, StoredBlob]:
    table = tables.blob
    these = table.c.digest.in_(digests)
    await lock_rows(connection, table, these)
    statement = update(table).where(these).values(used=time.time()).returning(*BLOB_COLUMNS)
    return {blob.digest: blob for blob in map(stored_blob, await connection.execute(statement))}


async def reserve_keys(connection: AsyncConnection, count: int) -> list[str]:
    keys = [new_key() for _ in range(count)]
    await make_pending(connection, keys, time.time() + WRITE_SECONDS)
    return keys


async def register(database: Database, connection: AsyncConnection, blob: StoredBlob) -> StoredBlob:
    """Record the object of a digest unless the digest already has bytes; return the blob that it has now.

    An object that is not needed stays pending, and the caller releases it. The row is locked until the transaction
    ends. The garbage collection looks at the row under the same lock, and keeps it because its `used` is new.
    """
    assert blob.key is not None
    now = time.time()
    statement = database.insert(tables.blob).values(
        digest=blob.digest, size=blob.size, key=blob.key, created=now, used=now
    )
    statement = statement.on_conflict_do_update(index_elements=["digest"], set_={"used": now})
    row = (await connection.execute(statement.returning(*BLOB_COLUMNS))).one()
    if row.key != blob.key:
        await make_pending(connection, [blob.key], now)
    return stored_blob(row)


async def touch(connection: AsyncConnection, digests: Iterable[str]) -> set[str]:
    """Keep blobs from the garbage collection for its grace time; return those that exist."""
    table = tables.blob
    found: set[str] = set()
    for batch in batches(sorted(digests)):
        these = table.c.digest.in_(batch)
        await lock_rows(connection, table, these)
        statement = update(table).where(these).values(used=time.time())
        found.update((await connection.execute(statement.returning(table.c.digest))).scalars())
    return found


async def lock_rows(connection: AsyncConnection, table: Table, *where: ColumnElement[bool]) -> None:
    """Lock rows before changing several of them, so that all transactions lock them in the same order.

    On SQLite a writing transaction holds all rows anyway.
    """
    if connection.dialect.name == "postgresql":
        keys = list(table.primary_key)
        query = select(*keys).where(*where).order_by(*keys)
        await connection.execute(query.with_for_update(key_share=True))


DOOMED = 0.0
"""The `expires` of pending objects that are already being deleted."""


async def make_pending(connection: AsyncConnection, keys: Sequence[str], expires: float) -> None:
    if keys:
        await connection.execute(tables.pending.insert(), [{"key": key, "expires": expires} for key in keys])


async def claim(connection: AsyncConnection, key: str) -> None:
    """Take a written object off the pending list; raises WriteExpired if it may have been deleted."""
    table = tables.pending
    result = await connection.execute(delete(table).where(table.c.key == key, table.c.expires > DOOMED))
    if result.rowcount != 1:
        raise WriteExpired
